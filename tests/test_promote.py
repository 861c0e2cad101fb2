"""Promotion on a real registry (sqlite) with real, untrained checkpoints."""

import base64
import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import mlflow
import numpy as np
import pytest
import torch
from mlflow.entities.model_registry import ModelVersion

from components.detector_model import SIGNATURE, decode
from components.promote import Promote, promote
from emd_core.errors import UserError
from emd_core.gating import Gate, decide
from emd_core.inference import predict
from emd_core.models.checkpoint import load_detector, save_detector
from emd_core.models.emd import EMDConfig, build_emd
from emd_core.models.esr import ESR, ESRConfig
from tests.tiny import draw_face

SLICE = "Face2Face/c23"
CFG = Gate(
    floors={SLICE: {"frame_accuracy": 0.9}},
    max_drop={"frame_accuracy": 0.02},
    no_drop=[SLICE],
    min_videos=5,
    max_latency_ms=None,
    max_size_mb=None,
)


@dataclass
class Candidate:
    """What the pipeline made before promotion."""

    model: Path
    evaluation: Path
    decision: Path
    digest: str

    def promote(self, name: str) -> None:
        promote(Promote(model_name=name), model=self.model, evaluation=self.evaluation, decision=self.decision)


def candidate(folder: Path, checkpoint: Path, accuracy: float) -> Candidate:
    """A candidate whose gate saw no champion."""
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:12]
    metrics = {"slices": {SLICE: {"frame_accuracy": accuracy, "videos": 10}}, "model": digest, "data": "masks-1"}
    made = Candidate(checkpoint.parent, folder / f"evaluation-{accuracy}", folder / f"decision-{accuracy}", digest)
    made.evaluation.mkdir()
    made.decision.mkdir()
    (made.evaluation / "metrics.json").write_text(json.dumps(metrics))
    (made.decision / "decision.json").write_text(decide(metrics, CFG).model_dump_json())
    return made


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two checkpoints that differ in one weight."""
    torch.manual_seed(0)
    config = EMDConfig(kind="emd", size=64, expression=True, atrous_rates=(1, 2, 3), pixel_loss="mean")
    network = build_emd(config, ESR(ESRConfig(size=64, branches=1)))
    paths = []
    for bias in (0.0, 0.1):
        with torch.no_grad():
            network.fc.bias.fill_(bias)
        paths.append(tmp_path_factory.mktemp("model") / "model.safetensors")
        save_detector(paths[-1], network)
    return paths


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One registry for the file; each test has a model name of its own."""
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture(autouse=True)
def _tracking(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    mlflow.set_tracking_uri(store)


def alias(name: str, which: str) -> ModelVersion | None:
    held = mlflow.MlflowClient().get_registered_model(name).aliases.get(which)
    return None if held is None else mlflow.MlflowClient().get_model_version(name, held)


def versions(name: str) -> int:
    return len(mlflow.MlflowClient().search_model_versions(f"name = '{name}'"))


def test_first_then_the_same_then_a_better_then_the_old_one(
    tmp_path: Path, checkpoints: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    first, better = candidate(tmp_path, checkpoints[0], 0.92), candidate(tmp_path, checkpoints[1], 0.95)
    first.promote("story")
    assert "story version 1 is now @champion" in capsys.readouterr().out
    champion = alias("story", "champion")
    assert champion is not None and alias("story", "challenger") is None
    assert (champion.version, champion.tags["model.digest"]) == (1, first.digest)
    assert champion.tags["data.digest"] == "masks-1"

    first.promote("story")
    assert capsys.readouterr().out.strip() == "already champion: story version 1"
    assert versions("story") == 1

    better.promote("story")
    champion = alias("story", "champion")
    assert champion is not None
    assert (champion.version, champion.tags["replaced_version"]) == (2, "1")
    assert versions("story") == 2


def test_what_the_gate_refused_is_not_registered(
    tmp_path: Path, checkpoints: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    candidate(tmp_path, checkpoints[0], 0.5).promote("refused")
    assert "not promoted" in capsys.readouterr().out
    assert versions("refused") == 0


def test_the_inputs_must_be_about_one_model(tmp_path: Path, checkpoints: list[Path]) -> None:
    mixed = candidate(tmp_path, checkpoints[0], 0.95)
    mixed.model = checkpoints[1].parent
    with pytest.raises(UserError, match=f"evaluation is of {mixed.digest}"):
        mixed.promote("mixed")
    mixed.model = tmp_path
    with pytest.raises(UserError, match="run train_emd first"):
        mixed.promote("mixed")


def test_a_task_without_a_lasting_registry_is_refused(
    tmp_path: Path, checkpoints: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("EMD_PIPELINE_RUN", "run-7")
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI is not set"):
        candidate(tmp_path, checkpoints[0], 0.95).promote("nowhere")


SERVE = """
import json, sys
import mlflow, pandas as pd
table = pd.DataFrame({"image": [open(name, "rb").read() for name in sys.argv[1:]]})
model = mlflow.pyfunc.load_model("models:/served@champion")
answers = [model.predict(table, params={"detect_faces": find}) for find in (False, True)]
print("answer:" + json.dumps([json.loads(a.to_json(orient="records")) for a in answers]))
"""


def test_the_champion_serves_away_from_the_repository(tmp_path: Path, checkpoints: list[Path]) -> None:
    candidate(tmp_path, checkpoints[0], 0.95).promote("served")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "crop.png"), noise)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    frame = np.full((240, 320, 3), 90, np.uint8)
    draw_face(frame, x=200, y=110, height=120)
    cv2.imwrite(str(tmp_path / "frame.jpg"), frame[..., ::-1])
    command = [sys.executable, "-c", SERVE, "crop.png", "broken.png", "frame.jpg"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    crops, frames = json.loads(done.stdout.split("answer:")[1])
    assert list(crops[0]) == SIGNATURE.outputs.input_names()

    image_B3HW = torch.from_numpy(noise[..., ::-1].copy()).permute(2, 0, 1)[None]  # OpenCV wrote BGR
    (score,), (mask,) = predict(load_detector(checkpoints[0]), image_B3HW, "fp32")
    assert crops[0]["status"] == "ok" and crops[0]["score"] == pytest.approx(score, abs=1e-4)
    assert (crops[0]["x"], crops[0]["y"], crops[0]["side"]) == (0, 0, 64)
    served = decode(base64.b64decode(crops[0]["mask"]))
    assert served is not None and np.abs(served[..., 0] / 255 - mask).max() < 0.01

    assert (crops[1]["status"], crops[1]["score"], crops[1]["side"]) == ("unreadable", None, None)
    assert (crops[2]["x"], crops[2]["y"], crops[2]["side"]) == (40, 0, 240)  # the centre square
    assert [row["status"] for row in frames] == ["no_face", "unreadable", "ok"]
    found = frames[2]
    centre = (found["x"] + found["side"] / 2, found["y"] + found["side"] / 2)
    assert centre == (pytest.approx(200, abs=15), pytest.approx(110, abs=15)) and 100 < found["side"] < 190
