"""DFDC's parts become the same table as FaceForensics++'s folders, and the stages behind it take that."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.crop_faces import crop_faces
from components.extract_frames import extract_frames
from components.generate_masks import GenerateMasks, generate_masks
from components.ingest import Ingest, ingest
from emd_core.datasets.dfdc import list_videos
from emd_core.errors import UserError
from emd_core.storage.manifest import FACES, MASKS, VIDEOS, read_manifest
from tests.fakes import tiny
from tests.fakes.bad_input_page import sentence_of
from tests.fakes.bad_videos import matches

DFDC = Ingest(dataset="dfdc", methods=["DFDC"], qualities=["released"], max_bad_share=0, require_splits=[], workers=1)
REAL = {"label": "REAL", "split": "train", "original": None}


def fake_of(original: str) -> dict[str, object]:
    return {"label": "FAKE", "split": "train", "original": f"{original}.mp4"}


def write_part(root: Path, number: int, **entries: dict[str, object]) -> Path:
    """A part with an unreadable file per entry."""
    part = root / f"dfdc_train_part_{number}"
    part.mkdir(parents=True)
    (part / "metadata.json").write_text(json.dumps({f"{name}.mp4": entry for name, entry in entries.items()}))
    for name in entries:
        (part / f"{name}.mp4").write_bytes(b"a video")
    return part


def table_of(root: Path) -> pd.DataFrame:
    return list_videos(root, ["DFDC"], ["released"])


def test_an_original_stands_before_its_fakes(tmp_path: Path) -> None:
    write_part(tmp_path, 0, fa=fake_of("a"), fb=fake_of("b"), a=REAL, b=REAL, ga=fake_of("a"))
    table = table_of(tmp_path)
    keys = ["original/released/a", "DFDC/released/fa", "DFDC/released/ga", "original/released/b", "DFDC/released/fb"]
    assert table["video"].tolist() == keys
    assert table.columns.tolist() == VIDEOS.names
    assert table["label"].tolist() == [0, 1, 1, 0, 1]
    assert table["target"].tolist() == ["a", "a", "a", "b", "b"]
    assert (set(table["source"]), set(table["mask_path"]), set(table["status"])) == ({""}, {""}, {"ok"})
    assert all((tmp_path / path).is_file() for path in table["path"])


def test_parts_are_splits(tmp_path: Path) -> None:
    for number in (49, 0, 40, 34, 35, 39):
        write_part(tmp_path, number, **{f"v{number}": REAL})
    assert table_of(tmp_path)[["target", "split"]].to_numpy().tolist() == [
        ["v0", "train"], ["v34", "train"], ["v35", "val"], ["v39", "val"], ["v40", "test"], ["v49", "test"],
    ]  # fmt: skip


def test_an_original_may_lie_elsewhere_or_nowhere(tmp_path: Path) -> None:
    write_part(tmp_path, 1, lost=fake_of("nowhere"), far=fake_of("a"))
    write_part(tmp_path, 2, b=REAL, a=REAL).joinpath("b.mp4").unlink()
    table = table_of(tmp_path).set_index("video")
    assert table.index.tolist() == [
        "DFDC/released/lost", "original/released/a", "DFDC/released/far", "original/released/b",
    ]  # fmt: skip
    assert table.loc["DFDC/released/lost", ["target", "status"]].tolist() == ["nowhere", "ok"]
    assert table.loc["original/released/b", "status"] == "missing"
    assert "dfdc_train_part_2/b.mp4 is not there" in str(table.loc["original/released/b", "reason"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "metadata.json does not exist"),
        ("{", "not a JSON object of entries"),
        ("[]", "not a JSON object of entries.*it holds a list"),
        ('{"a.mp4": {"label": "SWAPPED"}}', "the entry of a.mp4 is {'label': 'SWAPPED'}; it must have the label"),
        ('{"a.mp4": {"label": "FAKE"}}', "the entry of a.mp4"),
        ('{"a.mp4": 1}', "the entry of a.mp4 is 1"),
        ("{}", "name no video"),
        ('{"b.mp4": {"label": "REAL"}}', "b.mp4 in both dfdc_train_part_0 and dfdc_train_part_40"),
    ],
)
def test_bad_metadata_are_refused(tmp_path: Path, text: str | None, says: str) -> None:
    metadata = write_part(tmp_path, 0) / "metadata.json"
    metadata.unlink()
    if text is not None:
        metadata.write_text(text)
    if "both" in says:
        write_part(tmp_path, 40, b=REAL)
    with pytest.raises(UserError, match=says) as refused:
        table_of(tmp_path)
    assert str(tmp_path) in str(refused.value)


def test_other_folders_and_parts_are_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    with pytest.raises(UserError, match="expected folders dfdc_train_part_0 to .*found holiday"):
        table_of(tmp_path)
    write_part(tmp_path, 50)
    with pytest.raises(UserError, match="dfdc_train_part_50 belongs to no split"):
        table_of(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("methods", ["Face2Face"], "ingest.methods names the unknown Face2Face; the known ones are DFDC"),
        ("qualities", ["c23"], "ingest.qualities names the unknown c23; the known ones are released"),
    ],
)
def test_methods_and_qualities_of_another_dataset_are_refused(
    tmp_path: Path, key: str, value: list[str], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        ingest(DFDC.model_copy(update={key: value}), dataset=tmp_path, videos=tmp_path / "videos")


def test_ingest_says_which_splits_the_parts_at_hand_leave_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A set for testing is whole without train and val."""
    told = sentence_of("a part of DFDC")
    required = DFDC.model_copy(update={"require_splits": ["train", "val", "test"]})
    for part, warned in ((40, False), (0, True)):
        root = tmp_path / str(part)
        folder = write_part(root, part, a=REAL, fa=fake_of("a"))
        for name in ("a", "fa"):
            tiny.write_mp4(folder / f"{name}.mp4", tiny.face_frames(2), pix_fmt="yuv420p")
        ingest(DFDC, dataset=root, videos=root / "videos")
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
        assert [matches(line, told) for line in said] == [True] * warned, said
        with pytest.raises(UserError, match="but ingest.require_splits is .*; of DFDC, the parts 0 to 34 are train"):
            ingest(required, dataset=root, videos=root / "required")
        assert not (root / "required").exists()


def test_the_stages_take_a_fake_without_its_original(tmp_path: Path) -> None:
    """One original with two fakes, and one fake alone, up to masks that are not known."""
    root = tmp_path / "data"
    part = write_part(root, 0, a=REAL, fa=fake_of("a"), ga=fake_of("a"), lost=fake_of("nowhere"))
    for name, mouth in (("a", 0.045), ("fa", 0.12), ("ga", 0.09), ("lost", 0.12)):
        tiny.write_mp4(part / f"{name}.mp4", tiny.face_frames(8, mouth=mouth), pix_fmt="yuv420p")
    videos, frames, faces, masks = (tmp_path / name for name in ("videos", "frames", "faces", "masks"))
    ingest(DFDC, dataset=root, videos=videos)
    extract_frames(tiny.EXTRACT, dataset=root, videos=videos, frames=frames)
    crop_faces(tiny.CROP, dataset=root, frames=frames, faces=faces)
    unknown = GenerateMasks(source="none", threshold=10, min_difference=10, max_bad_share=0, workers=1)
    generate_masks(unknown, dataset=root, faces=faces, masks=masks)
    table = read_manifest(masks, MASKS).table
    assert set(table["status"]) == {"ok"} and table["mask_share"].isna().all()
    found_on = table.groupby("video")["box_from"].agg(set).to_dict()
    assert found_on == {
        "original/released/a": {"original/released/a"},
        "DFDC/released/fa": {"original/released/a"},
        "DFDC/released/ga": {"original/released/a"},
        "DFDC/released/lost": {"DFDC/released/lost"},
    }
    crops = read_manifest(faces, FACES).table
    assert table[["video", "file", "row", "crc32"]].equals(crops[["video", "file", "row", "crc32"]])
    assert len(np.load(masks / "DFDC-released.npy")) == 9
