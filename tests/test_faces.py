"""The right face, the right square, and the same square for an original and its fakes."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.crop_faces import crop_faces, crop_group
from emd_core.boxes import Detection, Square, choose_face, crop_square, cut
from emd_core.errors import UserError
from emd_core.manifest import FACES, FRAMES, read_manifest, write_manifest
from emd_core.store import RowFiles, open_rows
from emd_core.video import decode, read_frames, write_frames
from tests import tiny


def face(x: float, y: float, side: float, score: float = 0.9) -> Detection:
    """A square face around (x, y)."""
    return Detection(x - side / 2, y - side / 2, x + side / 2, y + side / 2, score)


@pytest.mark.parametrize(
    ("box", "square"),
    [
        ((40, 30, 60, 60), Square(31, 26, 39)),  # side int(30 * 1.3), centred
        ((0, 0, 20, 20), Square(0, 0, 26)),  # moved into the frame at the top left
        ((80, 70, 100, 90), Square(77, 67, 23)),  # cut at the right edge
        ((0, 0, 100, 100), Square(0, 0, 100)),  # larger than the frame
        ((99.6, 99.6, 99.9, 99.9), Square(99, 99, 1)),  # next to nothing, in the corner
    ],
)
def test_crop_rule(box: tuple[float, float, float, float], square: Square) -> None:
    assert crop_square(Detection(*box, 1.0), 100, 100, 1.3) == square


def test_crops_lie_inside_the_frame() -> None:
    rng = np.random.default_rng(0)
    for x1, y1, w, h in rng.uniform(0, 120, (200, 4)):
        x, y, side = crop_square(Detection(x1, y1, x1 + w, y1 + h, 1.0), 160, 120, 1.3)
        assert side >= 1 and 0 <= x <= 160 - side and 0 <= y <= 120 - side


def test_cut_keeps_pixels_at_the_same_size_and_averages_when_it_shrinks() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert np.array_equal(cut(image, Square(3, 5, 8), 8), image[5:13, 3:11])
    halves = image[4:12, 2:10].reshape(4, 2, 4, 2, 3).mean(axis=(1, 3))
    assert np.abs(cut(image, Square(2, 4, 8), 4) - halves).max() <= 0.5
    assert cut(image, Square(0, 0, 10), 32).shape == (32, 32, 3)


A = [face(50, 50, 40), face(55, 50, 40), face(60, 52, 42)]  # a face that moves
B = [face(150, 50, 25), face(150, 52, 26), face(151, 50, 25)]  # a smaller one


@pytest.mark.parametrize(
    ("frames", "chosen"),
    [
        ([], []),
        ([[], []], [None, None]),
        ([[A[0], B[0]], [B[1], A[1]], [A[2], B[2]]], A),  # whatever their order
        ([[A[0], B[0]], [B[1]], [A[2], B[2]]], [A[0], None, A[2]]),  # a second face does not take the gap
        ([[A[0]], [A[1], face(150, 50, 110)], [A[2]]], A),  # a large passer-by
        ([[A[0]], [A[1], face(60, 45, 100)], [A[2]]], A),  # one in front of the face
        ([[A[0]], [], [], [A[1]]], [A[0], None, None, A[1]]),
        ([[B[0]], [A[0]], [A[1]]], [None, A[0], A[1]]),  # a cut to another person
    ],
)
def test_one_face_is_followed(frames: list[list[Detection]], chosen: list[Detection | None]) -> None:
    assert choose_face(frames) == chosen


def test_rows_come_back_from_a_memory_map(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (70, 5, 4, 3), dtype=np.uint8)
    with RowFiles(tmp_path, (5, 4, 3)) as files:
        assert [files.append("a.npy", row) for row in rows] == list(range(70))
        assert files.append("b.npy", rows[1][:, ::-1]) == 0
        with pytest.raises(ValueError, match="a row is"):
            files.append("a.npy", rows[0][:4])
    stored = open_rows(tmp_path / "a.npy")
    assert isinstance(stored, np.memmap) and np.array_equal(stored, rows)
    assert np.array_equal(np.load(tmp_path / "b.npy"), rows[1:2, :, ::-1])


def test_incomplete_rows_are_refused(tmp_path: Path) -> None:
    with RowFiles(tmp_path, (50, 50)) as files:
        files.append("a.npy", np.zeros((50, 50), dtype=np.uint8))
    tiny.cut_off(tmp_path / "a.npy")
    with pytest.raises(UserError, match="no complete .npy file"):
        open_rows(tmp_path / "a.npy")
    with pytest.raises(UserError, match="does not exist"):
        open_rows(tmp_path / "b.npy")


class BrightDetector:
    """Finds the bright square of a frame, and counts the frames that it was shown."""

    def __init__(self) -> None:
        self.n_frames = 0

    def detect(self, frames: Sequence[np.ndarray]) -> list[list[Detection]]:
        self.n_frames += len(frames)
        found = []
        for frame in frames:
            y, x = np.nonzero(frame[..., 0] > 200)
            found.append([Detection(x.min(), y.min(), x.max() + 1, y.max() + 1, 0.9)] if len(x) else [])
        return found


def write_group(folder: Path, videos: dict[str, list[tuple[int, int] | None]], size: tuple[int, int]) -> pd.DataFrame:
    """Store frames with a bright 20 px square at the given corners (x, y), or without; their FRAMES table."""
    rows = []
    for video, corners in videos.items():
        frames = tiny.flat_frames(len(corners), 60, *size)
        for frame, corner in zip(frames, corners, strict=True):
            if corner:
                frame[corner[1] : corner[1] + 20, corner[0] : corner[0] + 20] = 250
        tiny.write_mp4(folder / "a.mp4", frames, crf=5)
        file = video.replace("/", "-") + ".mkv"
        write_frames(folder / file, decode(folder / "a.mp4", range(len(frames))))
        method, quality, name = video.split("/")
        about = {"video": video, "method": method, "quality": quality, "label": int(method != "original")}
        ids = {"split": "train", "target": name[:3], "source": name[4:], "path": "", "mask_path": ""}
        place = {"status": "ok", "reason": "", "file": file, "width": size[1], "height": size[0], "crc32": 0}
        rows += [{**about, **ids, **place, "frame": 10 * i, "row": i} for i in range(len(frames))]
    return pd.DataFrame(rows)


def test_fakes_get_the_box_of_their_original(tmp_path: Path) -> None:
    corners = [(30, 30), (34, 30), None]
    group = write_group(
        tmp_path,
        {
            "original/c23/000": corners,
            "Face2Face/c23/000_001": [(40, 36), (44, 36), (46, 30)],  # its own face lies elsewhere
            "NeuralTextures/c23/000_001": [None, None, None],
        },
        (96, 128),
    )
    detector = BrightDetector()
    with RowFiles(tmp_path, (32, 32, 3)) as crops:
        cfg = tiny.CROP.model_copy(update={"size": 32, "batch": 2})
        faces = pd.DataFrame(crop_group(cfg, group, tmp_path, detector, crops))
    original, fake, other = (rows.reset_index() for _, rows in faces.groupby("video", sort=False))
    assert original["status"].tolist() == ["ok", "ok", "no_face"]
    assert original[["x", "y", "side"]].values.tolist() == [[27, 27, 26], [31, 27, 26], [0, 0, 0]]
    assert fake[["x", "y", "side"]].values.tolist()[:2] == original[["x", "y", "side"]].values.tolist()[:2]
    assert fake["box_from"].tolist() == ["original/c23/000"] * 2 + ["Face2Face/c23/000_001"]
    assert fake["x"].iat[2] == 43
    assert other["status"].tolist() == ["ok", "ok", "no_face"]
    assert detector.n_frames == 3 + 1 + 1  # the original once, of each fake only what the original lacks
    assert fake["row"].tolist() == [0, 1, 2] and original["row"].tolist() == [0, 1, -1]
    stored = open_rows(tmp_path / "Face2Face-c23.npy")
    assert [zlib.crc32(crop.tobytes()) for crop in stored] == fake["crc32"].tolist()
    [frame] = read_frames(tmp_path / "Face2Face-c23-000_001.mkv", [1])
    assert np.array_equal(stored[1], cut(frame, Square(31, 27, 26), 32))


def test_a_fake_of_another_size_is_searched_itself(tmp_path: Path) -> None:
    group = pd.concat(
        [
            write_group(tmp_path, {"original/c23/000": [(30, 30)]}, (96, 128)),
            write_group(tmp_path, {"Face2Face/c23/000_001": [(60, 60)]}, (128, 160)),
        ]
    )
    with RowFiles(tmp_path, (64, 64, 3)) as crops:
        faces = crop_group(tiny.CROP, group, tmp_path, BrightDetector(), crops)
    assert [(row["x"], row["box_from"]) for row in faces] == [
        (27, "original/c23/000"),
        (57, "Face2Face/c23/000_001"),
    ]


def test_the_stage_crops_a_dataset(tmp_path: Path) -> None:
    out = tiny.make_faces(tiny.write_tree(tmp_path / "data"), tmp_path)
    faces = read_manifest(out / "faces", FACES)
    table = faces.table
    assert faces.made_from == {"frames": read_manifest(out / "frames", FRAMES).id}
    assert set(table["status"]) == {"ok"} and len(table) == 4 * tiny.EXTRACT.train
    assert table[["video", "frame"]].equals(read_manifest(out / "frames", FRAMES).table[["video", "frame"]])
    fakes, originals = table[table["label"] == 1], table[table["label"] == 0]
    assert fakes["box_from"].tolist() == originals["video"].tolist()
    assert fakes[["x", "y", "side", "frame"]].values.tolist() == originals[["x", "y", "side", "frame"]].values.tolist()
    assert open_rows(out / "faces" / "Face2Face-c23.npy").shape == (6, 64, 64, 3)


def test_the_stage_stops_without_faces_and_on_damaged_frames(tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    table = write_group(frames, {"original/c23/000": [None], "Face2Face/c23/000_001": [None]}, (96, 128))
    write_manifest(frames, table, FRAMES, {})
    with pytest.raises(UserError, match=r"2 of 2 videos .*crop_faces.max_bad_share.*000: no face in any"):
        crop_faces(tiny.CROP, frames=frames, faces=tmp_path / "faces")
    assert not (tmp_path / "faces").exists()
    tiny.cut_off(frames / "original-c23-000.mkv", 0.1)
    with pytest.raises(UserError, match="frames is damaged .original/c23/000"):
        crop_faces(tiny.CROP, frames=frames, faces=tmp_path / "faces")
