"""Where files lie: links, permissions, paths that lead elsewhere, names too long, a frame too large, a full disk."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from components.command_line.exits import exit_on_user_error
from components.extract_frames import extract_frames
from components.ingest import ingest
from emd_core.errors import UserError
from emd_core.storage.manifest import FACES, VIDEOS, read_manifest, require_inside, write_manifest
from tests.fakes import tiny
from tests.fakes.bad_input_page import sentence_of
from tests.fakes.bad_videos import matches

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_tree(tmp_path_factory.mktemp("places") / "ffpp")


def refused(kind: str, run: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> None:
    """As the command line refuses: exit code 2 and one sentence, the table's."""
    with pytest.raises(SystemExit) as stop:
        exit_on_user_error(run)
    assert stop.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert matches(said.removeprefix("error: "), sentence_of(kind)), said


def list_videos(dataset: Path, out: Path) -> pd.DataFrame:
    ingest(tiny.INGEST, dataset=dataset, videos=out)
    return read_manifest(out, VIDEOS).table


def test_a_dataset_of_links_gives_what_the_files_give(dataset: Path, tmp_path: Path) -> None:
    """DVC's cache of symlinks: each file is a link to one outside; and the root may be a link."""
    linked = tmp_path / "linked"
    for path in (p for p in dataset.rglob("*") if p.is_file()):
        link = linked / path.relative_to(dataset)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    (tmp_path / "root").symlink_to(linked)
    tables = [tiny.run_stages(root, tmp_path / name) for name, root in (("a", dataset), ("b", tmp_path / "root"))]
    pd.testing.assert_frame_equal(tables[0]["generate_masks"], tables[1]["generate_masks"])


@contextmanager
def without_privileges() -> Iterator[None]:
    """Root may read everything; be nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder(dataset: Path) -> Iterator[Path]:
    """A copy of the dataset where everyone may come."""
    folder = Path(tempfile.mkdtemp())
    shutil.copytree(dataset, folder / "ffpp")
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def test_what_may_not_be_read(open_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = open_folder / "ffpp"
    tiny.fake_path(root, "000_001").chmod(0)
    with without_privileges():
        table = list_videos(root, open_folder / "videos").set_index("video")
    bad = table[table["status"] != "ok"]
    assert bad.index.tolist() == ["Face2Face/c23/000_001"]
    assert bad["reason"].tolist() == [sentence_of("a video that may not be read")]
    folder = tiny.original_path(root, "000").parent
    folder.chmod(0)
    with without_privileges():
        refused("a folder that may not be read", lambda: list_videos(root, open_folder / "videos"), capsys)
    folder.chmod(0o755)


def test_splits_that_lead_out_of_the_dataset(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = shutil.copytree(dataset, tmp_path / "ffpp")
    tiny.write_splits(root, train=[("000", "001"), ("../../../../other/000", "002")])
    refused("'..' in a split file", lambda: list_videos(root, tmp_path / "videos"), capsys)
    assert not (tmp_path / "videos").exists()


@pytest.mark.parametrize("path", ["../other/000.mp4", "videos/../../000.mp4", "/etc/passwd", "videos/.."])
@pytest.mark.parametrize("column", ["path", "mask_path", "file"])
def test_tables_that_lead_out_of_their_folder(tmp_path: Path, column: str, path: str) -> None:
    row = {field.name: "a..b/..c" for field in FACES}
    require_inside(pd.DataFrame([row]), tmp_path)
    with pytest.raises(UserError) as refusal:
        require_inside(pd.DataFrame([row, row | {column: path}]), tmp_path)
    assert matches(str(refusal.value), sentence_of("'..' or an absolute path in a manifest"))


def test_a_manifest_that_was_changed_by_hand(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = list_videos(dataset, tmp_path / "videos")
    table.loc[0, "path"] = "../elsewhere.mp4"
    write_manifest(tmp_path / "videos", table, VIDEOS, {})
    refused(
        "'..' or an absolute path in a manifest",
        lambda: extract_frames(tiny.EXTRACT, dataset=dataset, videos=tmp_path / "videos", frames=tmp_path / "frames"),
        capsys,
    )


def test_a_list_of_ones_own_videos_that_leads_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "videos.csv").write_text("path,label\n../a.mp4,0\n")
    own = tiny.INGEST.model_copy(
        update={"dataset": "own_videos", "qualities": ["released"], "methods": ["manipulated"]}
    )
    refused("'..' in videos.csv", lambda: ingest(own, dataset=tmp_path, videos=tmp_path / "out"), capsys)


def test_a_name_that_no_file_can_have(dataset: Path, tmp_path: Path) -> None:
    root = shutil.copytree(dataset, tmp_path / "ffpp")
    tiny.write_splits(root, train=[("000", "001"), ("n" * 300, "002")])
    table = list_videos(root, tmp_path / "videos").set_index("status")
    assert len(table.loc[["ok"]]) == 4
    assert all(matches(reason, sentence_of("a name of 300 letters")) for reason in table.loc[["missing"], "reason"])


def test_more_bad_videos_than_allowed(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = shutil.copytree(dataset, tmp_path / "ffpp")
    for name in ("000_001", "001_000"):
        tiny.fake_path(root, name).unlink()
    tiny.original_path(root, "000").unlink()
    refused("more bad videos than max_bad_share", lambda: list_videos(root, tmp_path / "videos"), capsys)
    assert not (tmp_path / "videos").exists()


def test_8k(dataset: Path, tmp_path: Path) -> None:
    """One frame of 7680 x 4320 in place of an original, in which a face of the usual share is found."""
    root = shutil.copytree(dataset, tmp_path / "ffpp")
    frame = np.asarray(cv2.resize(tiny.face_frames(1)[0][12:84], (7680, 4320)), dtype=np.uint8)
    tiny.write_mp4(tiny.original_path(root, "000"), [frame], pix_fmt="yuv420p", options={"preset": "ultrafast"})
    usual = tiny.run_stages(dataset, tmp_path / "usual", min_face=36)["generate_masks"]
    large = tiny.run_stages(root, tmp_path / "large", min_face=36)["generate_masks"]
    [row] = large[large["video"] == "original/c23/000"].to_dict("records")
    assert row["status"] == "ok" and row["side"] > 2000 and (row["width"], row["height"]) == (7680, 4320)
    other = ["original/c23/001", "Face2Face/c23/001_000"]
    kept = [table[table["video"].isin(other)].drop(columns="row") for table in (usual, large)]
    pd.testing.assert_frame_equal(*(table.reset_index(drop=True) for table in kept))


FULL = """
import subprocess
from pathlib import Path
from components.command_line.exits import exit_on_user_error
from components.crop_faces import crop_faces
from emd_core.storage.manifest import FACES, read_manifest
from tests.fakes import tiny

def crop():
    crop_faces(tiny.CROP, dataset=Path("ffpp"), frames=Path("frames"), faces=Path("small/faces"))

try:
    exit_on_user_error(crop)
except SystemExit as stop:
    print(stop.code, Path("small/faces").exists())
subprocess.run(["mount", "-o", "remount,size=20m", "small"], check=True)
crop()
print(read_manifest(Path("small/faces"), FACES).id)
"""


@pytest.mark.skipif(shutil.which("unshare") is None or shutil.which("mount") is None, reason="needs unshare and mount")
def test_a_full_disk_while_cropping(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "ffpp")
    made = tiny.make_faces(dataset, tmp_path)
    (tmp_path / "small").mkdir()
    script = f"mount -t tmpfs -o size=64k none small && PYTHONPATH={ROOT} exec '{sys.executable}' -c '{FULL}'"
    result = subprocess.run(["unshare", "-rm", "bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    if "Operation not permitted" in result.stderr or "permission denied" in result.stderr:
        pytest.skip("this machine lets no one mount a file system")
    assert result.returncode == 0, result.stderr
    said = next(line for line in result.stderr.splitlines() if line.startswith("error: "))
    assert matches(said.removeprefix("error: "), sentence_of("disk full"))
    assert result.stdout.split() == ["2", "False", read_manifest(made / "faces", FACES).id]
