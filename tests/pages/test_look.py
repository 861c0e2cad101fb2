"""Contact sheets show the crops that are worth looking at, with their masks where they lie."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from components.generate_masks import GenerateMasks, generate_masks
from components.look import look, worst_first
from emd_core.errors import UserError
from emd_core.pages.contact_sheet import GAP, LINE, TILE, Tile, contact_sheet
from tests.fakes import tiny


def test_a_mask_is_tinted_and_outlined_where_it_lies() -> None:
    mask = np.zeros((60, 60), bool)
    mask[15:45, 30:60] = True
    grey = np.full((60, 60, 3), 100, np.uint8)
    sheet = contact_sheet([Tile(grey, mask, ["a", "b"]), Tile(grey, None, ["c"] * 2), Tile(grey, mask, [""] * 2)], 2)
    assert sheet.shape == (2 * (TILE + GAP + 2 * LINE) + GAP, 2 * (TILE + GAP) + GAP, 3)
    first = sheet[GAP : GAP + TILE, GAP : GAP + TILE].astype(int)
    tinted = first[..., 0] > first[..., 2]
    expected = cv2.resize(mask.astype(np.uint8), (TILE, TILE), interpolation=cv2.INTER_NEAREST) > 0
    assert np.array_equal(tinted, expected)
    second = sheet[GAP : GAP + TILE, 2 * GAP + TILE : 2 * GAP + 2 * TILE]
    assert (second == 100).all()
    captions = sheet[GAP + TILE + 1 : GAP + TILE + LINE]
    assert (captions[:, : TILE + GAP] < 128).any() and (captions[:, TILE + GAP :] < 128).any()


def test_a_long_name_stays_inside_its_tile() -> None:
    tile = Tile(np.full((60, 60, 3), 100, np.uint8), None, ["000_001__podium_speech_happy__" * 3])
    sheet = contact_sheet([tile, tile], 2)
    caption = sheet[GAP + TILE + 1 :, GAP + TILE : 2 * GAP + TILE]  # the gap between the two
    assert (caption > 250).all()


def test_each_videos_worst_crop_comes_before_any_second_one() -> None:
    rows = pd.DataFrame({"video": ["a", "a", "b", "b", "c"], "score": [0.95, 0.91, 0.99, 0.98, 0.97]})
    assert worst_first(rows)["score"].tolist() == [0.91, 0.97, 0.98, 0.95, 0.99]


def test_the_command_writes_sheets_and_a_page(tmp_path: Path) -> None:
    dataset = tiny.write_tree(tmp_path / "data")
    tiny.mask_path(dataset, "001_000").unlink()
    tiny.fake_path(dataset, "000_001").write_bytes(b"")
    tiny.make_faces(dataset, tmp_path)
    masking = GenerateMasks(source="video", threshold=10, min_difference=12, max_bad_share=1, workers=1)
    generate_masks(masking, dataset=dataset, faces=tmp_path / "faces", masks=tmp_path / "masks")
    look(tmp_path / "masks", out=tmp_path / "look", crops=2)
    assert sorted(p.name for p in (tmp_path / "look").iterdir()) == [
        "Face2Face-c23.jpg",
        "index.html",
        "original-c23.jpg",
    ]
    page = (tmp_path / "look" / "index.html").read_text()
    assert "2 of 6 crops from 2 videos<" in page and "2 of 3 crops from 1 video<" in page  # one of two fakes has crops
    assert "the file is empty" in page and "the dataset has no mask video for it" in page
    look(tmp_path / "faces", out=tmp_path / "without-masks")
    assert "6 of 6 crops" in (tmp_path / "without-masks" / "index.html").read_text()
    with pytest.raises(UserError, match=r"manifest.parquet does not exist"):
        look(tmp_path, out=tmp_path / "none")
    assert not (tmp_path / "none").exists()
