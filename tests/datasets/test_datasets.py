"""Each layout, in a miniature with missing, extra and misnamed files, becomes the table that it stands for."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from components.ingest import LAYOUTS, Ingest, ingest
from emd_core.datasets.own_videos import draw_split
from emd_core.datasets.rows import strays
from emd_core.errors import UserError
from tests.fakes import tiny

SHARED = Path(__file__).parents[3] / "shared/data/ffpp-splits"

FILES = {
    "faceforensics": [
        "original_sequences/youtube/c23/videos/003.mp4",
        "original_sequences/c23/videos/007.mp4",  # as the oldest script laid them out
        "manipulated_sequences/FaceShifter/c23/videos/003_007.mp4",
        "manipulated_sequences/FaceShifter/c23/videos/007_03.mp4",  # misnamed
        "manipulated_sequences/FaceShifter/c23/videos/003_007.MP4",
    ],
    "dfd": [
        "original_sequences/actors/raw/videos/01__exit_phone_room.mp4",
        "original_sequences/actors/raw/videos/holiday.mp4",
        "manipulated_sequences/DeepFakeDetection/raw/videos/01_02__exit_phone_room__YVGY8LOK.mp4",
        "manipulated_sequences/DeepFakeDetection/raw/videos/01_02__exit_phone_room__FW94AIMJ.mp4",  # by another model
        "manipulated_sequences/DeepFakeDetection/raw/videos/03_02__kitchen_pan__8DTEGQ54.mp4",  # of a missing original
        "manipulated_sequences/DeepFakeDetection/raw/videos/01_02__exit_phone_room.mp4",
        "manipulated_sequences/DeepFakeDetection/masks/videos/01_02__exit_phone_room__YVGY8LOK.mp4",
    ],
    "dfdc": [
        "dfdc_train_part_0/a.mp4",
        "dfdc_train_part_0/fa.mp4",
        "dfdc_train_part_0/fa (1).mp4",
        "dfdc_train_part_40/FB.mp4",  # misnamed
        "dfdc_train_part_40/b.mp4",
    ],
    "celebdf": [
        "Celeb-real/id0_0000.mp4",
        "Celeb-real/id1_0001.mp4",  # not in the list
        "YouTube-real/00000.mp4",
        "Celeb-synthesis/id0_id16_0000.mp4",
    ],
    "deeperforensics": [
        "original_sequences/youtube/c23/videos/000.mp4",
        "manipulated_videos/end_to_end/000_M101.mp4",
        "manipulated_videos/end_to_end/000_W999.mp4",
        "manipulated_videos/reenact_postprocess/000_M101.mp4",
        "manipulated_videos/end_to_end/001_W005.mp4",
    ],
    "uadfv": ["real/0000.mp4", "real/0001.mp4", "real/copy of 0001.mp4", "fake/0000_fake.mp4", "fake/0002_fale.mp4"],
    "dftimit": [
        "lower_quality/fadg0/sa1-video-fram1.avi",
        "lower_quality/fadg0/sa1.avi",
        "higher_quality/fadg0/sa1-video-fram1.avi",
        "higher_quality/fadg0/sa2-video-fram1.avi",  # of a missing original
        "VidTIMIT/fadg0/sa1.avi",
    ],
    "own_videos": ["a b/ü 1.mov", "fakes/1.mp4", "fakes/2.mp4", "masks/1.mp4"],
}
LISTS = {
    "faceforensics/splits/train.json": '[["003", "007"]]',
    "faceforensics/splits/val.json": "[]",
    "faceforensics/splits/test.json": '[["010", "011"]]',
    "dfdc/dfdc_train_part_0/metadata.json": (
        '{"fa.mp4": {"label": "FAKE", "original": "a.mp4"}, "a.mp4": {"label": "REAL"}}'
    ),
    "dfdc/dfdc_train_part_40/metadata.json": (
        '{"b.mp4": {"label": "REAL"}, "fb.mp4": {"label": "FAKE", "original": "b.mp4"}}'
    ),
    "celebdf/List_of_testing_videos.txt": (
        "1 Celeb-real/id0_0000.mp4\n1 YouTube-real/00000.mp4\n0 Celeb-synthesis/id0_id16_0000.mp4\n"
        "0 Celeb-synthesis/id0_id17_0009.mp4\n"
    ),
    "deeperforensics/lists/splits/train.txt": "000_M101.mp4\n",
    "deeperforensics/lists/splits/val.txt": "",
    "deeperforensics/lists/splits/test.txt": "001_W005.mp4\n",
    "own_videos/videos.csv": (
        "path,label,target,source,split,mask_path\na b/ü 1.mov,0,ann,,train,\nfakes/1.mp4,1,ann,bob,train,masks/1.mp4\n"
        "fakes/3.mp4,1,eve,,test,\n"
    ),
}
EXPECTED = {  # method, qualities; then videos with label, split, target, source, status; then what nothing names
    "faceforensics": (
        ["FaceShifter"],
        ["c23"],
        [
            ("original/c23/003", 0, "train", "003", "", "ok"),
            ("FaceShifter/c23/003_007", 1, "train", "003", "007", "ok"),
            ("original/c23/007", 0, "train", "007", "", "ok"),
            ("FaceShifter/c23/007_003", 1, "train", "007", "003", "missing"),
            ("original/c23/010", 0, "test", "010", "", "missing"),
            ("FaceShifter/c23/010_011", 1, "test", "010", "011", "missing"),
            ("original/c23/011", 0, "test", "011", "", "missing"),
            ("FaceShifter/c23/011_010", 1, "test", "011", "010", "missing"),
        ],
        [
            "manipulated_sequences/FaceShifter/c23/videos/003_007.MP4",
            "manipulated_sequences/FaceShifter/c23/videos/007_03.mp4",
        ],
    ),
    "dfd": (
        ["DeepFakeDetection"],
        ["c0"],
        [
            ("original/c0/01__exit_phone_room", 0, "test", "01__exit_phone_room", "", "ok"),
            *(
                (f"DeepFakeDetection/c0/01_02__exit_phone_room__{m}", 1, "test", "01__exit_phone_room", f"02_{m}", "ok")
                for m in ("FW94AIMJ", "YVGY8LOK")
            ),
            ("original/c0/03__kitchen_pan", 0, "test", "03__kitchen_pan", "", "missing"),
            (
                "DeepFakeDetection/c0/03_02__kitchen_pan__8DTEGQ54",
                *(1, "test", "03__kitchen_pan", "02_8DTEGQ54", "ok"),
            ),
        ],
        [
            "manipulated_sequences/DeepFakeDetection/raw/videos/01_02__exit_phone_room.mp4",
            "original_sequences/actors/raw/videos/holiday.mp4",
        ],
    ),
    "dfdc": (
        ["DFDC"],
        ["released"],
        [
            ("original/released/a", 0, "train", "a", "", "ok"),
            ("DFDC/released/fa", 1, "train", "a", "", "ok"),
            ("original/released/b", 0, "test", "b", "", "ok"),
            ("DFDC/released/fb", 1, "test", "b", "", "missing"),
        ],
        ["dfdc_train_part_0/fa (1).mp4", "dfdc_train_part_40/FB.mp4"],
    ),
    "celebdf": (
        ["CelebDF"],
        ["released"],
        [
            ("original/released/id0_0000", 0, "test", "id0_0000", "", "ok"),
            ("CelebDF/released/id0_id16_0000", 1, "test", "id0_0000", "id16", "ok"),
            ("original/released/YouTube-00000", 0, "test", "YouTube-00000", "", "ok"),
            ("CelebDF/released/id0_id17_0009", 1, "test", "id0_0009", "id17", "missing"),
        ],
        ["Celeb-real/id1_0001.mp4"],
    ),
    "deeperforensics": (
        ["end_to_end", "reenact_postprocess"],
        ["released"],
        [
            ("original/released/000", 0, "train", "000", "", "ok"),
            ("end_to_end/released/000_M101", 1, "train", "000", "M101", "ok"),
            ("reenact_postprocess/released/000_M101", 1, "train", "000", "M101", "ok"),
            ("original/released/001", 0, "test", "001", "", "missing"),
            ("end_to_end/released/001_W005", 1, "test", "001", "W005", "ok"),
            ("reenact_postprocess/released/001_W005", 1, "test", "001", "W005", "missing"),
        ],
        ["manipulated_videos/end_to_end/000_W999.mp4"],
    ),
    "uadfv": (
        ["UADFV"],
        ["released"],
        [
            ("original/released/0000", 0, "test", "0000", "", "ok"),
            ("UADFV/released/0000_fake", 1, "test", "0000", "", "ok"),
            ("original/released/0001", 0, "test", "0001", "", "ok"),
            ("UADFV/released/0001_fake", 1, "test", "0001", "", "missing"),
        ],
        ["fake/0002_fale.mp4", "real/copy of 0001.mp4"],
    ),
    "dftimit": (
        ["DeepfakeTIMIT"],
        ["lower_quality", "higher_quality"],
        [
            ("original/lower_quality/fadg0_sa1", 0, "test", "fadg0_sa1", "", "ok"),
            ("DeepfakeTIMIT/lower_quality/fadg0_sa1_fram1", 1, "test", "fadg0_sa1", "fram1", "ok"),
            ("original/higher_quality/fadg0_sa1", 0, "test", "fadg0_sa1", "", "ok"),
            ("DeepfakeTIMIT/higher_quality/fadg0_sa1_fram1", 1, "test", "fadg0_sa1", "fram1", "ok"),
            ("original/higher_quality/fadg0_sa2", 0, "test", "fadg0_sa2", "", "missing"),
            ("DeepfakeTIMIT/higher_quality/fadg0_sa2_fram1", 1, "test", "fadg0_sa2", "fram1", "ok"),
        ],
        ["lower_quality/fadg0/sa1.avi"],
    ),
    "own_videos": (
        ["manipulated"],
        ["released"],
        [
            ("original/released/a b/ü 1", 0, "train", "ann", "", "ok"),
            ("manipulated/released/fakes/1", 1, "train", "ann", "bob", "ok"),
            ("manipulated/released/fakes/3", 1, "test", "eve", "", "missing"),
        ],
        ["fakes/2.mp4"],
    ),
}
COLUMNS = ["video", "label", "split", "target", "source", "status"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for layout, files in FILES.items():
        for file in files:
            (tmp_path / layout / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / layout / file).write_bytes(b"a video")
    for file, text in LISTS.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    return tmp_path


@pytest.mark.parametrize("layout", EXPECTED)
def test_a_layout_becomes_its_table(root: Path, layout: str) -> None:
    methods, qualities, videos, unnamed = EXPECTED[layout]
    table = LAYOUTS[layout](root / layout, methods, qualities)
    assert [tuple(row) for row in table[COLUMNS].itertuples(index=False)] == videos
    found = table[table["status"] == "ok"]
    assert all((root / layout / path).is_file() for path in found["path"])
    assert table.loc[table["status"] == "missing", "reason"].str.contains("names it, but .* is not there").all()
    assert strays(root / layout, table) == unnamed
    assert ids_in_two_splits(table) == []


def ids_in_two_splits(table: pd.DataFrame) -> list[str]:
    ids = pd.concat([table["target"], table["source"]])
    splits = pd.concat([table["split"], table["split"]]).groupby(ids).nunique().drop("", errors="ignore")
    return [str(name) for name in splits[splits > 1].index]


def test_ids_in_two_splits_would_be_seen(root: Path) -> None:
    table = LAYOUTS["faceforensics"](root / "faceforensics", ["FaceShifter"], ["c23"])
    assert ids_in_two_splits(table.replace({"source": {"010": "003"}})) == ["003"]
    assert ids_in_two_splits(table.replace({"target": {"011": "007"}})) == ["007"]


def test_a_folder_is_listed_once_and_no_file_asked_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: listed.append(str(folder)) or scandir(folder))
    monkeypatch.setattr(Path, "is_file", lambda path: pytest.fail(f"asked for {path}"))
    methods, qualities, *_ = EXPECTED["faceforensics"]
    LAYOUTS["faceforensics"](root / "faceforensics", methods, qualities)
    assert len(listed) == len(set(listed)) == 4  # originals in two places, fakes, masks


@pytest.mark.parametrize("layout", EXPECTED)
def test_unknown_methods_and_qualities_and_other_folders_are_refused(root: Path, tmp_path: Path, layout: str) -> None:
    methods, qualities, *_ = EXPECTED[layout]
    with pytest.raises(UserError, match="ingest.methods names the unknown Face3Face; the known ones are"):
        LAYOUTS[layout](root / layout, ["Face3Face"], qualities)
    with pytest.raises(UserError, match="ingest.qualities names the unknown c99; the known ones are"):
        LAYOUTS[layout](root / layout, methods, ["c99"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"has not the .* found nothing; pass the dataset's root"):
        LAYOUTS[layout](tmp_path / "empty", methods, qualities)


@pytest.mark.parametrize("layout", ["dfd", "celebdf", "own_videos"])
def test_masks_are_found_where_there_are_some(root: Path, layout: str) -> None:
    methods, qualities, *_ = EXPECTED[layout]
    masks = [path for path in LAYOUTS[layout](root / layout, methods, qualities)["mask_path"] if path]
    assert len(masks) == (layout != "celebdf") and all((root / layout / path).is_file() for path in masks)


@pytest.mark.parametrize(
    ("layout", "file", "text", "says"),
    [
        ("celebdf", "List_of_testing_videos.txt", "0 Celeb-real/id0_0000.mp4", 'line 1: "0 Celeb-real.*" is none of'),
        ("celebdf", "List_of_testing_videos.txt", "1 Celeb-real/id0.mp4\n0 Celeb-synthesis/a.mp4", "line 2: "),
        ("celebdf", "List_of_testing_videos.txt", b"\xff\xfe\x00", "is not a text file"),
        (
            "dfdc",
            "dfdc_train_part_40/metadata.json",
            '{"fb.mp4": {"label": "FAKE", "original": "a.mp4"}}',
            "'a' is in the splits train and test",
        ),
        ("deeperforensics", "lists/splits/test.txt", "000_M101.mp4", "'000' is in the splits train and test"),
        ("deeperforensics", "lists/splits/test.txt", "002_M101.mp4", "'M101' is in the splits train and test"),
        ("deeperforensics", "lists/splits/test.txt", "seven.mp4", "line 1: .*is not like 000_M101.mp4"),
        ("deeperforensics", "lists/splits/val.txt", None, "val.txt does not exist"),
        ("own_videos", "videos.csv", "path\na.mp4\n", "column label is missing or unknown"),
        ("own_videos", "videos.csv", "path,label,colour\n", "column colour is missing or unknown"),
        ("own_videos", "videos.csv", "path,label\na.mp4,fake\n", "line 2: label is 'fake'; it must be 0"),
        ("own_videos", "videos.csv", "path,label\na.mp4,0\n,1\n", "line 3: path is empty"),
        ("own_videos", "videos.csv", "path,label\n../a.mp4,0\n", "line 2: path is '../a.mp4'; it must lie below"),
        ("own_videos", "videos.csv", "path,label\n/etc/a.mp4,0\n", "line 2: path is '/etc/a.mp4'; it must lie below"),
        ("own_videos", "videos.csv", "path,label,mask_path\na.mp4,1,../m.mp4\n", "line 2: mask_path is"),
        ("own_videos", "videos.csv", "path,label,split\na.mp4,0,dev\n", "line 2: split is 'dev'"),
        ("own_videos", "videos.csv", "path,label,method\na.mp4,1,original\n", "line 2: label 1 and method 'original'"),
        ("own_videos", "videos.csv", b"path,label\n\xff,0\n", "not a CSV file in UTF-8"),
        ("own_videos", "videos.csv", "path,label\na.mp4,0,c\n", "line 2 has more cells than the first line"),
        ("own_videos", "videos.csv", "path,label\na.mp4,0\n./a.mp4,1\n", "line 3: a video 'a' .* line 2 too"),
        ("own_videos", "videos.csv", "path,label\na.mp4,0\na.avi,0\n", "line 3: a video 'a' .* line 2 too"),
        ("own_videos", "videos.csv", "path,label,target\na.mp4,0,x\nb.mp4,0,x\n", "line 3: an original with target"),
        ("own_videos", "videos.csv", "path,label,method\na.mp4,1,../x\n", "line 2: method is '../x'; it may have"),
        ("own_videos", "videos.csv", "path,label,quality\na.mp4,1,a-b\n", "line 2: quality is 'a-b'; it may have"),
        (
            "own_videos",
            "videos.csv",
            "path,label,split,target\na.mp4,0,train,x\nb.mp4,1,test,x\n",
            "'x' is in the splits",
        ),
    ],
)
def test_bad_lists_are_refused_with_their_line(
    root: Path, layout: str, file: str, text: str | bytes | None, says: str
) -> None:
    methods, qualities, *_ = EXPECTED[layout]
    path = root / layout / file
    path.unlink()
    if text is not None:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UserError, match=says):
        LAYOUTS[layout](root / layout, methods, qualities)


def own(root: Path, rows: Sequence[tuple[str, int, str, str]]) -> pd.DataFrame:
    root.mkdir(exist_ok=True)
    pd.DataFrame(rows, columns=["path", "label", "target", "source"]).to_csv(root / "videos.csv", index=False)
    return LAYOUTS["own_videos"](root, ["manipulated"], ["released"])


def test_people_who_are_linked_by_a_video_share_a_split(tmp_path: Path) -> None:
    people = [f"p{i}" for i in range(300)]
    rows = [(f"{p}.mp4", 0, p, "") for p in people]
    rows += [(f"{a}_{b}.mp4", 1, a, b) for a, b in zip(people[::3], people[1::3], strict=True)]
    table = own(tmp_path / "a", rows)
    ids = pd.concat([table[["target", "split"]], table[["source", "split"]].set_axis(["target", "split"], axis=1)])
    assert ids[ids["target"] != ""].groupby("target")["split"].nunique().max() == 1
    shares = table.drop_duplicates("target")["split"].value_counts(normalize=True)
    assert shares["train"] == pytest.approx(0.72, abs=0.08) and {"val", "test"} < set(shares.index)
    more = own(tmp_path / "b", [*rows, ("new.mp4", 0, "newcomer", "")]).set_index("video")
    assert (more.loc[table["video"], "split"].to_numpy() == table["split"].to_numpy()).all()
    assert draw_split("p0") == draw_split("p0")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the official split files are not here")
def test_the_official_splits_give_720_140_and_140_originals(tmp_path: Path) -> None:
    for folder in ("original_sequences", "manipulated_sequences", "splits"):
        (tmp_path / folder).mkdir()
    for split in ("train", "val", "test"):
        (tmp_path / "splits" / f"{split}.json").write_text((SHARED / f"{split}.json").read_text())
        assert len(json.loads((SHARED / f"{split}.json").read_text())) == {"train": 360}.get(split, 70)
    table = LAYOUTS["faceforensics"](tmp_path, ["Face2Face"], ["c23"])
    counts = table.groupby(["method", "split"]).size().to_dict()
    expected = {"train": 720, "val": 140, "test": 140}
    assert counts == {(m, s): n for m in ("original", "Face2Face") for s, n in expected.items()}


def test_ingest_tells_of_videos_that_nothing_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = tiny.write_tree(tmp_path / "data")
    tiny.fake_path(dataset, "000_001").rename(tiny.fake_path(dataset, "000_01"))
    cfg = Ingest(
        dataset="faceforensics",
        methods=["Face2Face"],
        qualities=["c23"],
        max_bad_share=0.5,
        require_splits=[],
        workers=2,
    )
    ingest(cfg, dataset=dataset, videos=tmp_path / "videos")
    told = capsys.readouterr().err
    assert (
        "warning: 1 videos are left out, as nothing names them: manipulated_sequences/Face2Face/c23/videos/000_01.mp4"
        in told
    )
