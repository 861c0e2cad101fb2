"""An original and its fakes share their picked frames; what is not whole is a row with a reason."""

from pathlib import Path

import pytest

from components.crop_faces import crop_faces
from components.extract_frames import ExtractFrames, extract_frames
from components.ingest import Ingest, ingest
from emd_core.errors import UserError
from emd_core.storage.manifest import FRAMES, VIDEOS, read_manifest, require_made_from
from emd_core.video.decode import pick_frames
from tests.fakes import tiny


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
    picked = dict(zip(table["video"], table["frames"].map(list), strict=True))
    assert picked["original/c23/000"] == picked["Face2Face/c23/000_001"] == pick_frames(5, 3)
    assert picked["original/c23/001"] == picked["Face2Face/c23/001_000"] == pick_frames(8, 3)
    assert dict(zip(table["video"], table["n_frames"], strict=True))["Face2Face/c23/000_001"] == 5


def test_broken_videos_become_rows(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ingest(tiny.INGEST, dataset=dataset, videos=out / "videos")
    tiny.write_mp4(tiny.fake_path(dataset, "000_001"), tiny.face_frames(8), header_first=True)
    tiny.cut_off(tiny.fake_path(dataset, "000_001"))
    tiny.original_path(dataset, "001").unlink()
    extract_frames(tiny.EXTRACT, dataset=dataset, videos=out / "videos", frames=out / "frames")
    table = read_manifest(out / "frames", FRAMES).table
    broken = table[table["status"] != "ok"].set_index("video")
    assert broken["status"].tolist() == ["unreadable"] * 2
    assert "cut off" in str(broken.loc["Face2Face/c23/000_001", "reason"])
    assert "cannot be opened (No such file" in str(broken.loc["original/c23/001", "reason"])
    assert broken["frames"].map(len).tolist() == [0, 0]
    assert list(table.set_index("video").loc["original/c23/000", "frames"]) == pick_frames(8, 3)


def test_workers_do_not_change_the_result(dataset: Path, tmp_path: Path) -> None:
    one = extract(dataset, tmp_path / "1")
    two = extract(dataset, tmp_path / "2", tiny.EXTRACT.model_copy(update={"workers": 2}))
    assert read_manifest(one, FRAMES).id == read_manifest(two, FRAMES).id


def test_extraction_stops_above_its_limit(dataset: Path, tmp_path: Path) -> None:
    ingest(tiny.INGEST, dataset=dataset, videos=tmp_path / "videos")
    tiny.cut_off(tiny.fake_path(dataset, "001_000"))
    cfg = tiny.EXTRACT.model_copy(update={"max_bad_share": 0.1})
    with pytest.raises(UserError, match=r"25.0%.*extract_frames.max_bad_share allows 10.0%.*001_000: no readable"):
        extract_frames(cfg, dataset=dataset, videos=tmp_path / "videos", frames=tmp_path / "frames")
    assert not (tmp_path / "frames").exists()


def test_videos_that_ingest_let_pass_as_missing_are_not_counted_again(dataset: Path, tmp_path: Path) -> None:
    tiny.fake_path(dataset, "001_000").unlink()
    cfg = tiny.EXTRACT.model_copy(update={"max_bad_share": 0})
    table = read_manifest(extract(dataset, tmp_path, cfg), FRAMES).table
    assert table["status"].value_counts().to_dict() == {"ok": 3, "missing": 1}
    strict = tiny.CROP.model_copy(update={"max_bad_share": 0})
    crop_faces(strict, dataset=dataset, frames=tmp_path / "frames", faces=tmp_path / "faces")
    tiny.cut_off(tiny.fake_path(dataset, "000_001"))
    with pytest.raises(UserError, match=r"1 of 3 videos \(33.3%\)"):
        extract_frames(cfg, dataset=dataset, videos=tmp_path / "videos", frames=tmp_path / "frames")


def test_frames_of_another_run_are_recognised(dataset: Path, tmp_path: Path) -> None:
    frames = read_manifest(extract(dataset, tmp_path), FRAMES)
    videos = read_manifest(tmp_path / "videos", VIDEOS)
    require_made_from(frames, "frames", videos=videos)
    tiny.fake_path(dataset, "001_000").unlink()
    ingest(
        Ingest(
            dataset="faceforensics",
            methods=["Face2Face"],
            qualities=["c23"],
            max_bad_share=1,
            require_splits=[],
            workers=1,
        ),
        dataset=dataset,
        videos=tmp_path / "videos",
    )
    with pytest.raises(UserError, match="--frames was made from another run's --videos"):
        require_made_from(frames, "frames", videos=read_manifest(tmp_path / "videos", VIDEOS))


def test_a_video_of_few_frames_leaves_the_others_theirs(dataset: Path, tmp_path: Path) -> None:
    tiny.write_mp4(tiny.fake_path(dataset, "000_001"), tiny.face_frames(2, mouth=0.12))
    table = read_manifest(extract(dataset, tmp_path), FRAMES).table.set_index("video")
    assert list(table.loc["Face2Face/c23/000_001", "frames"]) == [0, 1]
    assert list(table.loc["original/c23/000", "frames"]) == pick_frames(8, 3)
