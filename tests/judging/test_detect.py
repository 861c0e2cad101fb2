"""The command `detect`: a folder of files of all kinds becomes verdicts, whatever happens on the way."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from components.detect import CHAMPION, detect
from components.judging.model import load_judge
from components.judging.work import OVERLAY, REPORT, VERDICT, Job, judge_file
from emd_core.errors import UserError
from emd_core.models.checkpoint import save_detector
from emd_core.models.multitask import MultiTask, MultiTaskConfig
from emd_core.models.parts.checkpoint import CHECKPOINT
from emd_core.verdicts.verdict import Verdict
from tests.fakes import tiny

ROOT = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]
FAST = ["detect.frames=4", "detect.overlays=all", "detect.min_face=30", "detect.workers=2"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    save_detector(folder / CHECKPOINT, MultiTask(MultiTaskConfig(kind="multitask", size=64, expression=False), None))
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    tiny.write_mp4(folder / "a face.mp4", tiny.face_frames(8))
    tiny.write_mp4(folder / "deep/=no face.mkv", tiny.flat_frames(8))
    (folder / "text.mp4").write_text("no video")
    tiny.cut_off(tiny.write_mp4(folder / "cut.mp4", tiny.face_frames(8)))
    cv2.imwrite(str(folder / "picture.png"), tiny.face_frames(1)[0][..., ::-1])
    (folder / "._a face.mp4").write_bytes(b"\0\5\26\7")
    (folder / "notes.txt").write_text("not judged, as no one named it")
    return folder


@pytest.fixture(scope="module")
def out(model: Path, files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judged") / "out"
    detect([files, files / "notes.txt"], folder, model=str(model), params=ROOT / "params.yaml", set=FAST)
    return folder


def test_every_file_is_a_row(out: Path) -> None:
    table = pd.read_parquet(out / "verdicts.parquet").set_index("path")
    assert table["status"].to_dict() == {
        "a face.mp4": "judged",
        "cut.mp4": "unreadable",
        "deep/=no face.mkv": "judged",
        "notes.txt": "unreadable",
        "picture.png": "judged",
        "text.mp4": "unreadable",
    }
    assert set(table["answer"]) == {"cannot say"}  # of a model without limits
    assert "not calibrated" in table.loc["a face.mp4", "sentence"]
    assert "No face" in table.loc["deep/=no face.mkv", "sentence"]
    assert len(pd.read_csv(out / "verdicts.csv")) == 6 and (out / "index.html").is_file()


def test_each_file_has_its_folder(out: Path) -> None:
    table = pd.read_parquet(out / "verdicts.parquet").set_index("path")
    for path, folder in table["folder"].items():
        verdict = Verdict.model_validate_json((out / folder / VERDICT).read_text())
        assert verdict.path == path and (out / folder / REPORT).is_file()
    assert (out / table.loc["a face.mp4", "folder"] / OVERLAY).is_file()
    assert not (out / table.loc["picture.png", "folder"] / OVERLAY).exists()


def test_what_was_judged_is_not_judged_again_but_what_changed(out: Path, model: Path, files: Path) -> None:
    when = {path: path.stat().st_mtime_ns for path in out.rglob(VERDICT)}
    later = time.time() + 5
    os.utime(files / "text.mp4", (later, later))
    detect([files], out, model=str(model), params=ROOT / "params.yaml", set=FAST)
    changed = [path.parent.name for path in out.rglob(VERDICT) if when[path] != path.stat().st_mtime_ns]
    assert len(changed) == 1 and changed[0].startswith("text.mp4")


def test_verdicts_of_other_values_are_not_mixed(out: Path, model: Path, files: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds verdicts with another frames; name another folder"):
        detect([files], out, model=str(model), frames=9, params=ROOT / "params.yaml", set=FAST)
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(UserError, match="is not empty and holds no verdicts"):
        detect([files], tmp_path, model=str(model), params=ROOT / "params.yaml", set=FAST)
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_file_that_takes_too_long_or_too_much_is_a_row(model: Path, tmp_path: Path) -> None:
    tiny.write_mp4(tmp_path / "long.mp4", [np.zeros((96, 128, 3), np.uint8)] * 60)
    given = [*FAST, "detect.seconds_per_file=0.001", "detect.workers=1"]
    detect([tmp_path / "long.mp4"], tmp_path / "out", model=str(model), params=ROOT / "params.yaml", set=given)
    (row,) = pd.read_parquet(tmp_path / "out/verdicts.parquet").to_dict("records")
    assert row["status"] == "unreadable" and "it took longer than 0.001 s" in row["sentence"]


def test_a_killed_run_goes_on(model: Path, tmp_path: Path) -> None:
    source = tiny.write_mp4(tmp_path / "source.mp4", tiny.face_frames(8))
    for i in range(12):
        (tmp_path / "files").mkdir(exist_ok=True)
        os.link(source, tmp_path / f"files/{i:02}.mp4")
    command = [sys.executable, "-m", "components", "detect", str(tmp_path / "files"), "--out", str(tmp_path / "out")]
    command += ["--model", str(model), "--workers", "1", "--set", "detect.min_face=30", "--set", "detect.frames=4"]
    first = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL)
    while len(list(tmp_path.glob("out/[!.]*/" + VERDICT))) < 2:  # a folder with a dot is still being written
        assert first.poll() is None
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/[!.]*/" + VERDICT)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 2 <= len(kept) < 12 and {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(pd.read_parquet(tmp_path / "out/verdicts.parquet")) == 12


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"paths": []}, "the command line names no video or picture"),
        ({"paths": [Path("nowhere.mp4")]}, "nowhere.mp4 does not exist"),
        ({"shard": "3/2"}, "--shard 3/2 is no part"),
        ({"model": "no/such/folder"}, "is no folder and no address of a registered model"),
        ({"model": "."}, "holds no model.safetensors"),
        ({"model": CHAMPION}, "there is no mlflow.db here"),
        ({"set": ["detect.every_s=0"]}, "detect.every_s = 0 is refused"),
    ],
)
def test_mistakes_are_sentences(
    files: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, object], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    given = {"paths": [files], "model": str(model), "params": ROOT / "params.yaml", "set": []} | arguments
    with pytest.raises(UserError) as error:
        detect(out=tmp_path / "out", **given)  # type: ignore[arg-type]
    assert says in str(error.value) and not (tmp_path / "out").exists()


def test_a_fault_of_ours_costs_the_file_alone(model: Path, files: Path, tmp_path: Path, capsys: Capture) -> None:
    judge = load_judge(str(model), ROOT / "params.yaml")
    judge.looking = None  # type: ignore[assignment]
    verdict = judge_file(judge, "all", Job(files / "a face.mp4", "a", tmp_path / "out"), lambda share: None)
    assert verdict.status == "unreadable" and "a fault of this program, AttributeError" in verdict.sentence
    assert (tmp_path / "out" / VERDICT).is_file() and "Traceback" in capsys.readouterr().err


def test_five_lines_of_python(model: Path, files: Path) -> None:
    judgement = load_judge(str(model), ROOT / "params.yaml")(files / "a face.mp4")
    assert judgement.verdict.model.network == "multitask 64 px" and len(judgement.verdict.tracks) == 1
