"""The right face, the right square, and the same square for an original and its fakes."""

import signal
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from components.crop_faces import crop_faces, crop_on_worker
from emd_core.errors import UserError
from emd_core.faces.boxes import Detection, Square, choose_face, crop_square, cut
from emd_core.faces.cropping import ONLY_OTHERS, SEVERAL, Cropping, crop_group
from emd_core.storage.arrays import RowFiles, open_rows
from emd_core.storage.growing import Row
from emd_core.storage.manifest import FACES, FRAMES, read_manifest, write_manifest
from emd_core.video.decode import read_frames
from tests.fakes import tiny

ROOT = Path(__file__).parents[2]


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
D = [Detection(100, 100, 200, 200, 0.9), Detection(180, 120, 270, 210, 0.9)]
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
        (
            [[face(50, 50, 40), face(90, 50, 38)], [face(78, 50, 40), face(118, 50, 38)]],
            [face(50, 50, 40), face(78, 50, 40)],
        ),
        ([[B[0]], [A[0]], [A[1]]], [None, A[0], A[1]]),  # a cut to another person
        ([[D[0]], [D[0]], [D[1]], [D[1]]], [D[0], D[0], None, None]),  # one beside the first, a jump away
    ],
)
def test_one_face_is_followed(frames: list[list[Detection]], chosen: list[Detection | None]) -> None:
    assert choose_face(frames) == chosen


@pytest.mark.parametrize(
    ("shots", "chosen"),
    [
        ([0, 0, 1, 1, 1], [None, None, A[0], A[1], A[2]]),  # another person in the same place
        ([0, 1, 0, 0, 1], [A[0], None, A[0], A[1], None]),  # cut away and back
    ],
)
def test_nobody_is_followed_across_a_cut(shots: list[int], chosen: list[Detection | None]) -> None:
    assert choose_face([[A[0]], [A[0]], [A[0]], [A[1]], [A[2]]], shots) == chosen


def test_rows_come_back_from_a_memory_map(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (70, 5, 4, 3), dtype=np.uint8)
    with RowFiles(tmp_path, (5, 4, 3)) as files:
        assert [files.extend("a.npy", rows[i : i + 10]) for i in range(0, 70, 10)] == list(range(0, 70, 10))
        assert files.extend("b.npy", rows[1:2, :, ::-1]) == 0
        with pytest.raises(ValueError, match="a row is"):
            files.extend("a.npy", rows[:1, :4])
    stored = open_rows(tmp_path / "a.npy")
    assert isinstance(stored, np.memmap) and np.array_equal(stored, rows)
    assert np.array_equal(np.load(tmp_path / "b.npy"), rows[1:2, :, ::-1])


def test_incomplete_rows_are_refused(tmp_path: Path) -> None:
    with RowFiles(tmp_path, (50, 50)) as files:
        files.extend("a.npy", np.zeros((1, 50, 50), dtype=np.uint8))
    tiny.cut_off(tmp_path / "a.npy")
    with pytest.raises(UserError, match="is not a complete .npy file"):
        open_rows(tmp_path / "a.npy")
    with pytest.raises(UserError, match="does not exist"):
        open_rows(tmp_path / "b.npy")


class BrightDetector:
    """Finds the bright squares of a frame, and notes the sizes of the frames that it was shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def detect(self, frames: Sequence[np.ndarray], min_face: float) -> list[list[Detection]]:
        self.seen += [frame.shape[:2] for frame in frames]
        found = []
        for frame in frames:
            bright = (frame[..., 0] > 200).astype(np.uint8)
            boxes = [cv2.boundingRect(c) for c in cv2.findContours(bright, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]]
            sides = [(x, y, w, h) for x, y, w, h in boxes if min(w, h) >= min_face]
            found.append([Detection(x, y, x + w, y + h, 0.9) for x, y, w, h in sides])
        return found

    def confirm(self, frames: Sequence[np.ndarray], boxes: Sequence[Detection]) -> list[Detection | None]:
        return [None] * len(boxes)


CFG = Cropping(min_face=12, detect_side=128, detect_every=1, batch=2, size=32, scale=1.3)


def write_group(folder: Path, videos: dict[str, list[tuple[int, int] | None]], size: tuple[int, int]) -> list[Row]:
    """Videos with a bright 20 px square at the given corners (x, y), or without; their rows of FRAMES."""
    rows: list[Row] = []
    for video, corners in videos.items():
        frames = tiny.flat_frames(len(corners), 60, *size)
        for frame, corner in zip(frames, corners, strict=True):
            if corner:
                frame[corner[1] : corner[1] + 20, corner[0] : corner[0] + 20] = 250
        method, quality, name = video.split("/")
        path = f"{method}-{name}.mp4"
        tiny.write_mp4(folder / path, frames, crf=5)
        about = {"video": video, "method": method, "quality": quality, "label": int(method != "original")}
        ids = {"split": "train", "target": name[:3], "source": name[4:], "path": path, "mask_path": ""}
        picked = {"status": "ok", "reason": "", "n_frames": len(frames), "frames": np.arange(len(frames))}
        rows.append({**about, **ids, **picked})
    return rows


def test_fakes_get_the_box_of_their_original(tmp_path: Path) -> None:
    group = write_group(
        tmp_path,
        {
            "original/c23/000": [(30, 30), (34, 30), None],
            "Face2Face/c23/000_001": [(40, 36), (44, 36), (46, 30)],  # its own face lies elsewhere
            "NeuralTextures/c23/000_001": [None, None, None],
        },
        (96, 128),
    )
    rows, crops = crop_group(group, dataset=tmp_path, detector=BrightDetector(), cfg=CFG)
    original, fake, other = (rows.reset_index() for _, rows in pd.DataFrame(rows).groupby("video", sort=False))
    assert original["status"].tolist() == ["ok", "ok", "no_face"]
    assert original[["x", "y", "side"]].values.tolist() == [[27, 27, 26], [31, 27, 26], [0, 0, 0]]
    assert fake[["x", "y", "side"]].values.tolist()[:2] == original[["x", "y", "side"]].values.tolist()[:2]
    assert fake["box_from"].tolist() == ["original/c23/000"] * 2 + ["Face2Face/c23/000_001"]
    assert fake["x"].iat[2] == 43
    assert other["status"].tolist() == ["ok", "ok", "no_face"]
    assert fake["row"].tolist() == [0, 1, 2] and original["row"].tolist() == [0, 1, -1]
    assert [zlib.crc32(crop.tobytes()) for crop in crops["Face2Face-c23.npy"]] == fake["crc32"].tolist()
    [frame] = read_frames(tmp_path / "Face2Face-000_001.mp4", [1])
    assert np.array_equal(crops["Face2Face-c23.npy"][1], cut(frame, Square(31, 27, 26), 32))


def test_fakes_whose_original_has_every_face_are_not_searched(tmp_path: Path) -> None:
    corners: list[tuple[int, int] | None] = [(30, 30), (34, 30)]
    group = write_group(tmp_path, {"original/c23/000": corners, "Face2Face/c23/000_001": [None, None]}, (96, 128))
    detector = BrightDetector()
    rows, _ = crop_group(group, dataset=tmp_path, detector=detector, cfg=CFG)
    assert [row["status"] for row in rows] == ["ok"] * 4
    assert detector.seen == [(96, 128)] * 2


def test_after_a_cut_the_other_person_is_no_face_of_the_video(tmp_path: Path) -> None:
    """In the same place, so that only the picture tells; the fakes of the video take over what its original shows."""
    names = ["original/c23/000", "Face2Face/c23/000_001"]
    group = write_group(tmp_path, dict.fromkeys(names, [(30, 30)] * 5), (96, 128))
    for row in group:
        frames = [frame.copy() for frame in read_frames(tmp_path / row["path"], [0, 1, 2, 3, 4])]
        for frame in frames[3:]:
            frame[frame[..., 0] < 200] = (150, 90, 20)  # another room
        tiny.write_mp4(tmp_path / row["path"], frames, crf=5)
    detector = BrightDetector()
    rows, _ = crop_group(group, dataset=tmp_path, detector=detector, cfg=CFG)
    assert len(detector.seen) == 5  # the fake was not searched
    for table in (rows[:5], rows[5:]):
        assert [row["status"] for row in table] == ["ok"] * 3 + ["no_face"] * 2
        assert [row["reason"] for row in table] == [SEVERAL] * 3 + [ONLY_OTHERS] * 2


def test_a_fake_of_another_size_is_searched_itself(tmp_path: Path) -> None:
    group = write_group(tmp_path, {"original/c23/000": [(30, 30)]}, (96, 128))
    group += write_group(tmp_path, {"Face2Face/c23/000_001": [(60, 60)]}, (128, 160))
    rows, _ = crop_group(group, dataset=tmp_path, detector=BrightDetector(), cfg=CFG)
    assert [(row["x"], row["box_from"]) for row in rows] == [(27, "original/c23/000"), (57, "Face2Face/c23/000_001")]


def test_boxes_found_in_the_reduced_frame_are_of_the_whole_one(tmp_path: Path) -> None:
    group = write_group(tmp_path, {"original/c23/000": [(120, 64)]}, (160, 320))
    detector, cfg = BrightDetector(), CFG.model_copy(update={"min_face": 16})
    rows, _ = crop_group(group, dataset=tmp_path, detector=detector, cfg=cfg)
    assert detector.seen == [(120, 240)]  # a face of 16 px must keep 12: not reduced to 128
    assert rows[0]["x"] == pytest.approx(117, abs=2) and rows[0]["side"] == pytest.approx(26, abs=2)


def test_what_cannot_be_decoded_is_a_row_and_its_group_goes_on(tmp_path: Path) -> None:
    corners: list[tuple[int, int] | None] = [(30, 30)] * 3
    names = ["original/c23/000", "Face2Face/c23/000_001", "NeuralTextures/c23/000_001"]
    group = write_group(tmp_path, dict.fromkeys(names, corners), (96, 128))
    (tmp_path / "original-000.mp4").unlink()
    tiny.cut_off(tmp_path / "Face2Face-000_001.mp4")
    rows, crops = crop_group(group, dataset=tmp_path, detector=BrightDetector(), cfg=CFG)
    assert [row["status"] for row in rows] == ["unreadable"] * 2 + ["ok"] * 3
    assert [(row["frame"], row["row"]) for row in rows[:2]] == [(-1, -1)] * 2
    assert "No such file" in rows[0]["reason"] and "no video stream" in rows[1]["reason"]
    assert list(crops) == ["NeuralTextures-c23.npy"] and len(crops["NeuralTextures-c23.npy"]) == 3


def test_the_stage_crops_a_dataset(tmp_path: Path) -> None:
    out = tiny.make_faces(tiny.write_tree(tmp_path / "data"), tmp_path)
    faces = read_manifest(out / "faces", FACES)
    table = faces.table
    assert faces.made_from == {"frames": read_manifest(out / "frames", FRAMES).id}
    assert set(table["status"]) == {"ok"} and len(table) == 4 * tiny.EXTRACT.train
    picked = read_manifest(out / "frames", FRAMES).table.explode("frames")
    assert table["frame"].tolist() == picked["frames"].tolist() and table["video"].tolist() == picked["video"].tolist()
    fakes, originals = table[table["label"] == 1], table[table["label"] == 0]
    assert fakes["box_from"].tolist() == originals["video"].tolist()
    assert fakes[["x", "y", "side", "frame"]].values.tolist() == originals[["x", "y", "side", "frame"]].values.tolist()
    stored = open_rows(out / "faces" / "Face2Face-c23.npy")
    assert stored.shape == (6, 64, 64, 3)
    assert [zlib.crc32(stored[row].tobytes()) for row in fakes["row"]] == fakes["crc32"].tolist()
    assert sorted(p.name for p in (out / "faces").iterdir()) == [
        "Face2Face-c23.npy",
        "manifest.parquet",
        "original-c23.npy",
    ]


def test_processes_do_not_change_the_result(tmp_path: Path) -> None:
    dataset = tiny.write_tree(tmp_path / "data")
    out = tiny.make_faces(dataset, tmp_path)
    cfg = tiny.CROP.model_copy(update={"workers": 2})
    crop_faces(cfg, dataset=dataset, frames=out / "frames", faces=tmp_path / "two")
    for path in (out / "faces").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_the_stage_stops_without_faces(tmp_path: Path) -> None:
    group = write_group(tmp_path, {"original/c23/000": [None], "Face2Face/c23/000_001": [None]}, (96, 128))
    (tmp_path / "frames").mkdir()
    write_manifest(tmp_path / "frames", pd.DataFrame(group), FRAMES, {})
    with pytest.raises(UserError, match=r"2 of 2 videos .*crop_faces.max_bad_share.*000: no face in any"):
        crop_faces(tiny.CROP, dataset=tmp_path, frames=tmp_path / "frames", faces=tmp_path / "faces")
    assert not (tmp_path / "faces").exists()


CROP_AND_DIE = """
import os, signal, sys
from pathlib import Path
from components import crop_faces
from tests.fakes import tiny

done, whole = [], crop_faces.crop_on_worker

def crop(videos, **options):
    if len(done) == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(videos)
    return whole(videos, **options)

crop_faces.crop_on_worker = crop
folder = Path(sys.argv[1])
crop_faces.crop_faces(tiny.CROP, dataset=folder, frames=folder / "frames", faces=folder / "faces")
"""


def test_a_killed_stage_goes_on_with_the_videos_not_yet_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = write_group(tmp_path, {"original/c23/000": [None]}, (96, 128))
    tiny.write_mp4(tmp_path / "original-000.mp4", tiny.face_frames(3))
    table = pd.DataFrame([group[0] | {"video": f"original/c23/{i:03}", "target": f"{i:03}"} for i in range(20)])
    (tmp_path / "frames").mkdir()
    write_manifest(tmp_path / "frames", table, FRAMES, {})
    killed = subprocess.run([sys.executable, "-c", CROP_AND_DIE, str(tmp_path)], cwd=ROOT, capture_output=True)
    assert killed.returncode == -signal.SIGKILL and not (tmp_path / "faces").exists()
    again: list[str] = []
    whole = crop_on_worker
    monkeypatch.setattr(
        "components.crop_faces.crop_on_worker", lambda v, **o: again.append(v[0]["target"]) or whole(v, **o)
    )
    crop_faces(tiny.CROP, dataset=tmp_path, frames=tmp_path / "frames", faces=tmp_path / "faces")
    assert again == [f"{i:03}" for i in range(8, 20)]  # eight were safe, two not yet
    crop_faces(tiny.CROP, dataset=tmp_path, frames=tmp_path / "frames", faces=tmp_path / "undisturbed")
    for path in (tmp_path / "undisturbed").iterdir():
        assert path.read_bytes() == (tmp_path / "faces" / path.name).read_bytes()
