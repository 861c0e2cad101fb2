"""Masks say what was manipulated, pixel for pixel with the crops."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.generate_masks import GenerateMasks, generate_masks
from emd_core.errors import UserError
from emd_core.storage.arrays import open_rows
from emd_core.storage.manifest import FACES, MASKS, read_manifest, require_made_from
from emd_core.storage.masks import mask_from_difference, mask_from_patch, pack, unpack
from tests.fakes import tiny

CFG = GenerateMasks(source="video", threshold=10, min_difference=12, max_bad_share=1, workers=1)


@pytest.mark.parametrize("width", [8, 64, 299])
def test_packed_masks_come_back(width: int) -> None:
    masks = np.random.default_rng(0).random((3, 20, width)) < 0.5
    packed = np.stack([pack(mask) for mask in masks])
    assert packed.shape == (3, 20, -(-width // 8))
    assert np.array_equal(unpack(packed, width), masks)
    assert np.array_equal(unpack(packed[1], width), masks[1])


def grey(level: int) -> np.ndarray:
    """A 40 x 60 frame, black but for the 20 x 20 square at (10, 10)."""
    frame = np.zeros((40, 60, 3), dtype=np.uint8)
    frame[10:30, 10:30] = level
    return frame


@pytest.mark.parametrize(
    ("level", "share"),
    [(255, 1.0), (25, 1.0), (11, 1.0), (10, 0.0), (3, 0.0)],
    ids=["white", "darkest of a render", "just above", "at the threshold", "noise of the codec"],
)
def test_dark_parts_of_a_render_count(level: int, share: float) -> None:
    assert mask_from_patch(grey(level)[10:30, 10:30], 16, threshold=10).mean() == share


@pytest.mark.parametrize("size", [8, 20, 40, 80])
def test_masks_lie_where_the_crop_does(size: int) -> None:
    mask = mask_from_patch(grey(90)[:, :40], size, threshold=10)
    expected = np.zeros((size, size), dtype=bool)
    expected[size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = True
    assert (mask != expected).mean() < 0.01  # the corners of an enlarged mask are rounded


def test_a_difference_is_closed_and_ignores_noise() -> None:
    rng = np.random.default_rng(0)
    original = rng.integers(100, 150, (64, 64, 3), dtype=np.uint8)
    fake = original + rng.integers(0, 6, original.shape, dtype=np.uint8)
    fake[20:40, 20:40] += 30
    fake[30, 30] = original[30, 30]  # one pixel agrees by chance
    mask = mask_from_difference(fake, original, min_difference=12)
    expected = np.zeros((64, 64), dtype=bool)
    expected[20:40, 20:40] = True
    assert np.array_equal(mask, expected)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the dataset in data/ and its stages' outputs up to faces/; tests work on copies."""
    folder = tmp_path_factory.mktemp("masks")
    return tiny.make_faces(tiny.write_tree(folder / "data"), folder)


@pytest.fixture
def run(tree: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tree, tmp_path / "run"))


def masks_of(run: Path, cfg: GenerateMasks = CFG) -> pd.DataFrame:
    generate_masks(cfg, dataset=run / "data", faces=run / "faces", masks=run / "masks")
    return read_manifest(run / "masks", MASKS).table


def require_aligned(run: Path) -> None:
    """The masks' table is the faces' row for row, and every crop has its mask at the same place."""
    faces, masks = read_manifest(run / "faces", FACES), read_manifest(run / "masks", MASKS)
    place = ["video", "frame", "file", "row", "crc32"]
    assert masks.table[place].equals(faces.table[place])
    for file, rows in masks.table[masks.table["row"] >= 0].groupby("file"):
        stored = unpack(open_rows(run / "masks" / str(file)), tiny.CROP.size)
        assert len(stored) == len(open_rows(run / "faces" / str(file)))
        assert stored[rows["row"]].mean(axis=(1, 2)) == pytest.approx(rows["mask_share"].to_numpy(), abs=1e-6)


def test_fakes_get_their_mask_and_originals_an_empty_one(run: Path) -> None:
    table = masks_of(run)
    require_aligned(run)
    assert set(table["status"]) == {"ok"}
    assert (table[table["label"] == 0]["mask_share"] == 0).all()
    assert table[table["label"] == 1]["mask_share"].between(0.05, 0.25).all()
    # The mouth moves with the face, so in the crop it stays in the lower middle.
    mask = unpack(open_rows(run / "masks" / "Face2Face-c23.npy"), tiny.CROP.size)
    y, x = np.nonzero(mask.mean(axis=0) > 0.9)
    assert 0.35 < x.mean() / tiny.CROP.size < 0.65 < y.mean() / tiny.CROP.size


def no_file(path: Path) -> None:
    path.unlink()


def zero_bytes(path: Path) -> None:
    path.write_bytes(b"")


def all_black(path: Path) -> None:
    tiny.write_mp4(path, tiny.flat_frames(8, 0))


def half_size(path: Path) -> None:
    tiny.write_mp4(path, tiny.flat_frames(8, 90, 48, 64))


def two_frames(path: Path) -> None:
    tiny.write_mp4(path, tiny.mouth_masks(2), crf=10)


@pytest.mark.parametrize(
    ("spoil", "statuses", "says"),
    [
        (no_file, ["no_mask"] * 3, "mask video is broken.*No such file"),
        (zero_bytes, ["no_mask"] * 3, "mask video is broken"),
        (all_black, ["no_mask"] * 3, "empty inside the crop"),
        (half_size, ["no_mask"] * 3, "another frame size .64 x 48"),
        (two_frames, ["ok", "no_mask", "no_mask"], "ends after 2 frames"),
    ],
)
def test_what_has_no_mask_says_why(run: Path, spoil: Callable[[Path], None], statuses: list[str], says: str) -> None:
    spoil(tiny.mask_path(run / "data", "000_001"))
    table = masks_of(run)
    require_aligned(run)
    fake = table[table["video"] == "Face2Face/c23/000_001"]
    assert fake["status"].tolist() == statuses
    assert fake[fake["status"] == "no_mask"]["reason"].str.contains(says, regex=True).all()
    assert (fake[fake["status"] == "no_mask"]["mask_share"] == 0).all()
    assert set(table[table["video"] != "Face2Face/c23/000_001"]["status"]) == {"ok"}


def test_the_stage_stops_above_its_limit(run: Path) -> None:
    all_black(tiny.mask_path(run / "data", "000_001"))
    with pytest.raises(UserError, match=r"1 of 2 videos \(50.0%\).*generate_masks.max_bad_share allows 40.0%.*000_001"):
        masks_of(run, CFG.model_copy(update={"max_bad_share": 0.4}))
    assert not (run / "masks").exists()


def test_difference_masks_cover_what_changed(run: Path) -> None:
    tiny.mask_path(run / "data", "000_001").unlink()  # not needed
    table = masks_of(run, CFG.model_copy(update={"source": "difference"}))
    require_aligned(run)
    assert set(table["status"]) == {"ok"}
    assert table[table["label"] == 1]["mask_share"].between(0.01, 0.25).all()
    difference = unpack(open_rows(run / "masks" / "Face2Face-c23.npy"), tiny.CROP.size)[:3]
    y, x = np.nonzero(difference.any(axis=0))
    assert 0.35 < x.mean() / tiny.CROP.size < 0.65 < y.mean() / tiny.CROP.size


def test_unknown_masks_are_zero_without_a_share(run: Path) -> None:
    shutil.rmtree(run / "data/manipulated_sequences/Face2Face/masks")
    tiny.original_path(run / "data", "001").write_bytes(b"")  # a row without a crop
    tiny.make_faces(run / "data", run)
    table = masks_of(run, CFG.model_copy(update={"source": "none", "max_bad_share": 0}))
    assert table["mask_share"].isna().all()
    assert table["status"].tolist() == ["ok"] * 6 + ["unreadable"] + ["ok"] * 3
    for name, count in (("original-c23", 3), ("Face2Face-c23", 6)):
        stored = open_rows(run / "masks" / f"{name}.npy")
        assert len(stored) == count and not stored.any()


def test_a_fake_without_its_original_has_no_difference(run: Path) -> None:
    tiny.original_path(run / "data", "001").unlink()
    tiny.make_faces(run / "data", run)
    table = masks_of(run, CFG.model_copy(update={"source": "difference"}))
    fake = table[table["video"] == "Face2Face/c23/001_000"]
    assert fake["status"].tolist() == ["no_mask"] * 3
    assert set(fake["reason"]) == {"its original has no crop of the same frame and square"}
    require_aligned(run)


def test_masks_of_other_crops_are_recognised(run: Path) -> None:
    masks_of(run)
    masks = read_manifest(run / "masks", MASKS)
    require_made_from(masks, "masks", faces=read_manifest(run / "faces", FACES))
    tiny.fake_path(run / "data", "000_001").unlink()
    tiny.make_faces(run / "data", run)
    with pytest.raises(UserError, match="--masks was made from another run's --faces"):
        require_made_from(masks, "masks", faces=read_manifest(run / "faces", FACES))


def test_a_missing_crop_file_is_named(run: Path) -> None:
    (run / "faces" / "original-c23.npy").unlink()
    with pytest.raises(UserError, match="original-c23.npy does not exist"):
        masks_of(run)
