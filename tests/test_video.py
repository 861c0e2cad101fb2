"""Frames survive storage to the last bit, and broken videos say what is wrong with them."""

import zlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from components.extract_frames import ExtractFrames, extract_frames
from components.ingest import Ingest, ingest
from emd_core.errors import UserError
from emd_core.manifest import FRAMES, VIDEOS, read_manifest, require_made_from
from emd_core.video import BrokenVideo, count_frames, decode, pick_frames, read_frames, to_rgb, write_frames
from tests import tiny


@pytest.mark.parametrize(
    ("n_frames", "n", "picked"),
    [
        (10, 1, [5]),
        (10, 2, [2, 7]),
        (9, 3, [1, 4, 7]),
        (3, 3, [0, 1, 2]),
        (2, 5, [0, 1]),
        (0, 5, []),
    ],
)
def test_frames_are_picked_from_the_middle_of_equal_parts(n_frames: int, n: int, picked: list[int]) -> None:
    assert pick_frames(n_frames, n) == picked


@pytest.mark.parametrize("n_frames", [7, 31, 300])
def test_picks_are_evenly_spread(n_frames: int) -> None:
    steps = np.diff(pick_frames(n_frames, 7))
    assert steps.min() >= 1 and steps.max() - steps.min() <= 1


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("not a video " * 100)


def cut_before_index(path: Path) -> None:
    tiny.cut_off(tiny.write_mp4(path, tiny.face_frames(12)))


def cut_after_index(path: Path) -> None:
    tiny.cut_off(tiny.write_mp4(path, tiny.face_frames(12), header_first=True))


def sound_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (empty, "the file is empty"),
        (text, "no readable video"),
        (cut_before_index, "no readable video"),
        (cut_after_index, "cut off in frame .* of 12"),
        (sound_only, "no video stream"),
    ],
)
def test_broken_videos_say_why(tmp_path: Path, spoil: Callable[[Path], None], says: str) -> None:
    spoil(tmp_path / "broken.mp4")
    with pytest.raises(BrokenVideo, match=says):
        count_frames(tmp_path / "broken.mp4")


def test_wanted_frames_are_those_of_a_full_pass(tmp_path: Path) -> None:
    path = tiny.write_mp4(tmp_path / "a.mp4", tiny.face_frames(9))
    assert count_frames(path) == 9
    every = list(read_frames(path, range(9)))
    some = list(read_frames(path, [1, 4, 8]))
    assert [np.array_equal(a, every[i]) for a, i in zip(some, (1, 4, 8), strict=True)] == [True] * 3
    assert not np.array_equal(every[1], every[4])
    assert list(read_frames(path, [])) == []


def test_a_frame_past_the_end_is_an_error(tmp_path: Path) -> None:
    path = tiny.write_mp4(tmp_path / "a.mp4", tiny.face_frames(5))
    with pytest.raises(BrokenVideo, match="ends after 5 frames, frame 7 was wanted"):
        list(read_frames(path, [2, 7]))


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuvj420p"])
@pytest.mark.parametrize("colours", [(2, 0), (1, 1), (5, 2)], ids=["untagged", "bt709", "bt601-full"])
def test_stored_frames_are_bit_exact(tmp_path: Path, pix_fmt: str, colours: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (tiny.HEIGHT, tiny.WIDTH, 3), dtype=np.uint8)
    source = tiny.write_mp4(tmp_path / "a.mp4", [noise, *tiny.face_frames(5)], pix_fmt=pix_fmt, colours=colours)
    picked = [0, 2, 5]
    write_frames(tmp_path / "a.mkv", decode(source, picked))
    stored = list(read_frames(tmp_path / "a.mkv", range(3)))
    assert all(np.array_equal(a, b) for a, b in zip(stored, read_frames(source, picked), strict=True))


def test_equal_frames_give_equal_files(tmp_path: Path) -> None:
    tiny.write_mp4(tmp_path / "clip.mp4", tiny.face_frames(3))
    for name in ("a.mkv", "b.mkv"):
        write_frames(tmp_path / name, decode(tmp_path / "clip.mp4", range(3)))
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "nv12"], ids=["of full range", "that FFV1 lacks"])
def test_frames_of_a_rarer_format_are_bit_exact(tmp_path: Path, pix_fmt: str) -> None:
    frame = av.VideoFrame.from_ndarray(tiny.face_frames(1)[0], format="rgb24").reformat(format=pix_fmt)
    frame.color_range = 2  # full, as other codecs than H.264 tag it
    expected = to_rgb(frame)
    write_frames(tmp_path / "a.mkv", [frame])
    assert np.array_equal(next(read_frames(tmp_path / "a.mkv", [0])), expected)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A tree whose fake 000_001 is shorter than the rest."""
    root = tiny.write_tree(tmp_path / "data")
    tiny.write_mp4(tiny.fake_path(root, "000_001"), tiny.face_frames(5, mouth=0.12))
    return root


def extract(dataset: Path, out: Path, cfg: ExtractFrames = tiny.EXTRACT) -> Path:
    ingest(tiny.INGEST, dataset=dataset, videos=out / "videos")
    extract_frames(cfg, dataset=dataset, videos=out / "videos", frames=out / "frames")
    return out / "frames"


def test_an_original_and_its_fakes_share_their_frames(dataset: Path, tmp_path: Path) -> None:
    frames = extract(dataset, tmp_path)
    table = read_manifest(frames, FRAMES).table
    picked = table.groupby("video", sort=False)["frame"].apply(list).to_dict()
    assert picked["original/c23/000"] == picked["Face2Face/c23/000_001"] == pick_frames(5, 3)
    assert picked["original/c23/001"] == picked["Face2Face/c23/001_000"] == pick_frames(8, 3)
    for video, rows in table.groupby("video"):
        stored = list(read_frames(frames / str(rows["file"].iat[0]), rows["row"]))
        source = list(read_frames(dataset / str(rows["path"].iat[0]), rows["frame"]))
        assert all(np.array_equal(a, b) for a, b in zip(stored, source, strict=True)), video
        assert [zlib.crc32(frame.data) for frame in stored] == rows["crc32"].tolist()


def test_broken_videos_become_rows(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ingest(tiny.INGEST, dataset=dataset, videos=out / "videos")
    cut_after_index(tiny.fake_path(dataset, "000_001"))  # after ingest has seen it whole
    tiny.original_path(dataset, "001").unlink()
    extract_frames(tiny.EXTRACT, dataset=dataset, videos=out / "videos", frames=out / "frames")
    table = read_manifest(out / "frames", FRAMES).table
    broken = table[table["status"] != "ok"].set_index("video")
    assert broken["status"].tolist() == ["unreadable"] * 2
    assert "cut off" in str(broken.loc["Face2Face/c23/000_001", "reason"])
    assert (broken[["frame", "row"]] == -1).all(axis=None)
    assert table[table["video"] == "original/c23/000"]["frame"].tolist() == pick_frames(8, 3)


def test_workers_do_not_change_the_result(dataset: Path, tmp_path: Path) -> None:
    one = extract(dataset, tmp_path / "1")
    two = extract(dataset, tmp_path / "2", tiny.EXTRACT.model_copy(update={"workers": 2}))
    assert read_manifest(one, FRAMES).id == read_manifest(two, FRAMES).id


def test_extraction_stops_above_its_limit(dataset: Path, tmp_path: Path) -> None:
    tiny.cut_off(tiny.fake_path(dataset, "001_000"))
    cfg = tiny.EXTRACT.model_copy(update={"max_bad_share": 0.1})
    with pytest.raises(UserError, match=r"25.0%.*extract_frames.max_bad_share allows 10.0%.*001_000: no readable"):
        extract(dataset, tmp_path, cfg)
    assert not (tmp_path / "frames").exists()


def test_frames_of_another_run_are_recognised(dataset: Path, tmp_path: Path) -> None:
    frames = read_manifest(extract(dataset, tmp_path), FRAMES)
    videos = read_manifest(tmp_path / "videos", VIDEOS)
    require_made_from(frames, "frames", videos=videos)
    tiny.fake_path(dataset, "001_000").unlink()
    ingest(
        Ingest(dataset="faceforensics", methods=["Face2Face"], qualities=["c23"], max_bad_share=1),
        dataset=dataset,
        videos=tmp_path / "videos",
    )
    with pytest.raises(UserError, match="--frames was made from another run's --videos"):
        require_made_from(frames, "frames", videos=read_manifest(tmp_path / "videos", VIDEOS))
