"""The official layout becomes a table; whatever is wrong with it is named."""

from pathlib import Path

import pytest

from components.ingest import Ingest, ingest
from emd_core.datasets.faceforensics import list_videos
from emd_core.errors import UserError
from emd_core.storage.manifest import VIDEOS, read_manifest
from tests.fakes import tiny


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"a video")


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """The files of one pair in train and one in test; list_videos does not look into them."""
    tiny.write_splits(tmp_path, train=[("003", "007")], test=[("010", "011")])
    for target, source in (("003", "007"), ("007", "003"), ("010", "011"), ("011", "010")):
        touch(tiny.original_path(tmp_path, target))
        touch(tiny.fake_path(tmp_path, f"{target}_{source}"))
        touch(tiny.mask_path(tmp_path, f"{target}_{source}"))
    return tmp_path


def test_a_pair_is_two_originals_each_before_its_fakes(layout: Path) -> None:
    table = list_videos(layout, ["Face2Face"], ["c23"])
    assert table["video"].tolist()[:4] == [
        "original/c23/003",
        "Face2Face/c23/003_007",
        "original/c23/007",
        "Face2Face/c23/007_003",
    ]
    assert table["label"].tolist() == [0, 1] * 4
    assert table["split"].tolist() == ["train"] * 4 + ["test"] * 4
    fake = table.iloc[1]
    assert (fake["target"], fake["source"]) == ("003", "007")
    assert (layout / fake["path"]).is_file() and (layout / fake["mask_path"]).is_file()
    original = table.iloc[0]
    assert (original["target"], original["source"], original["mask_path"]) == ("003", "", "")
    assert set(table["status"]) == {"ok"}


def test_missing_videos_and_masks_are_seen(layout: Path) -> None:
    tiny.fake_path(layout, "007_003").unlink()
    tiny.mask_path(layout, "003_007").unlink()
    table = list_videos(layout, ["Face2Face"], ["c23"]).set_index("video")
    assert table.loc["Face2Face/c23/007_003", "status"] == "missing"
    assert "007_003.mp4" in str(table.loc["Face2Face/c23/007_003", "reason"])
    assert table.loc["Face2Face/c23/003_007", "mask_path"] == ""
    assert table.loc["Face2Face/c23/003_007", "status"] == "ok"


def test_uncompressed_videos_are_found_under_their_newer_name(layout: Path) -> None:
    touch(tiny.original_path(layout, "003", "raw"))
    touch(tiny.original_path(layout, "007", "c0"))
    table = list_videos(layout, ["Face2Face"], ["c0"]).set_index("video")
    assert table.loc["original/c0/003", "path"] == "original_sequences/youtube/raw/videos/003.mp4"
    assert table.loc["original/c0/007", "path"] == "original_sequences/youtube/c0/videos/007.mp4"


@pytest.mark.parametrize(
    ("methods", "qualities", "says"),
    [
        (["Face3Face"], ["c23"], "ingest.methods names the unknown Face3Face; the known ones are Deepfakes"),
        (["Face2Face"], ["c99"], "ingest.qualities names the unknown c99; the known ones are c0, c23, c40"),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(
    layout: Path, methods: list[str], qualities: list[str], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        list_videos(layout, methods, qualities)


def test_another_folder_is_refused_with_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    with pytest.raises(UserError, match="expected original_sequences.*found holiday"):
        list_videos(tmp_path, ["Face2Face"], ["c23"])


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("test.json", '[["003", "011"]]', "id 003, which is in split 'train' too"),
        ("val.json", '[["1", "2", "3"]]', "not a list of id pairs"),
        ("val.json", "[[1, 2]]", "not a list of id pairs"),
        ("val.json", "{", "not a list of id pairs"),
        ("val.json", None, "does not exist"),
    ],
)
def test_bad_split_files_are_refused(layout: Path, name: str, text: str | None, says: str) -> None:
    path = layout / "splits" / name
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=says) as refused:
        list_videos(layout, ["Face2Face"], ["c23"])
    assert str(path) in str(refused.value)


def test_splits_without_a_video_are_refused(layout: Path) -> None:
    tiny.write_splits(layout)
    with pytest.raises(UserError, match="name no video"):
        list_videos(layout, ["Face2Face"], ["c23"])


def test_ingest_records_what_it_cannot_read(tmp_path: Path) -> None:
    dataset = tiny.write_tree(tmp_path / "data")
    tiny.original_path(dataset, "001").write_bytes(b"")
    tiny.fake_path(dataset, "001_000").write_text("this is no video\n" * 50)
    ingest(tiny.INGEST, dataset=dataset, videos=tmp_path / "videos")
    table = read_manifest(tmp_path / "videos", VIDEOS).table.set_index("video")
    assert table["status"].to_dict() == {
        "original/c23/000": "ok",
        "Face2Face/c23/000_001": "ok",
        "original/c23/001": "unreadable",
        "Face2Face/c23/001_000": "unreadable",
    }
    assert table.loc["original/c23/001", "reason"] == "the file is empty"
    assert "no readable video" in str(table.loc["Face2Face/c23/001_000", "reason"])


def test_ingest_stops_above_its_limit_and_writes_nothing(tmp_path: Path) -> None:
    dataset = tiny.write_tree(tmp_path / "data")
    tiny.original_path(dataset, "001").unlink()
    cfg = Ingest(
        dataset="faceforensics",
        methods=["Face2Face"],
        qualities=["c23"],
        max_bad_share=0.2,
        require_splits=[],
        workers=1,
    )
    with pytest.raises(UserError, match=r"1 of 4 videos \(25.0%\).*ingest.max_bad_share allows 20.0%.*001.mp4"):
        ingest(cfg, dataset=dataset, videos=tmp_path / "videos")
    assert not (tmp_path / "videos").exists()
