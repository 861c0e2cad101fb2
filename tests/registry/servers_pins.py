"""The registered model in an environment of its own: its requirements alone, resolved, away from this repository."""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import mlflow
import numpy as np
import pandas as pd
import pytest
import torch

import emd_core
from components.registry.registration import register
from emd_core.models.checkpoint import save_detector
from emd_core.models.multitask import MultiTask, MultiTaskConfig
from emd_core.models.parts.checkpoint import CHECKPOINT
from tests.fakes.tiny import draw_face, write_mp4

MODEL = "models:/own-pins/1"
FIND = {"detect_faces": True}
ASK = f"""
import json, sys
from importlib.util import find_spec
import mlflow, pandas
model = mlflow.pyfunc.load_model({MODEL!r})
picture = open(sys.argv[1], "rb").read()
rows = model.predict(pandas.DataFrame({{"image": [picture]}}), params={FIND}).to_json(orient="records")
clip = open(sys.argv[2], "rb").read()
said = model.predict(pandas.DataFrame({{"image": [clip]}}), params={{"verdict": True}})["verdict"][0]
import emd_core
print(json.dumps([json.loads(rows), json.loads(said), emd_core.__file__, find_spec("facenet_pytorch") is not None]))
"""


def test_a_whole_frame_is_judged_where_only_the_models_requirements_are(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_detector(tmp_path / CHECKPOINT, MultiTask(MultiTaskConfig(kind="multitask", size=64, expression=False), None))
    (tmp_path / "metrics.json").write_text("{}")
    store = f"sqlite:///{tmp_path}/mlflow.db"
    mlflow.set_tracking_uri(store)
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("pins", (tmp_path / "artifacts").as_uri()))
    with mlflow.start_run():
        register("own-pins", tmp_path, tmp_path, None, {})
    frame = np.full((240, 320, 3), 90, np.uint8)
    draw_face(frame, x=200, y=110, height=120)
    picture = tmp_path / "frame.png"
    cv2.imwrite(str(picture), frame[..., ::-1])

    clip = write_mp4(tmp_path / "clip.mp4", [frame] * 12)
    requirements = mlflow.pyfunc.get_model_dependencies(MODEL)  # the file that MLflow wrote
    with TemporaryDirectory() as elsewhere:  # gigabytes, which pytest would keep
        run(["uv", "venv", "--quiet", "--python", sys.executable, "venv"], elsewhere)
        run(["uv", "pip", "install", "--quiet", "--python", "venv", "-r", requirements], elsewhere)
        answer = run(
            ["venv/bin/python", "-P", "-c", ASK, str(picture), str(clip)], elsewhere, MLFLOW_TRACKING_URI=store
        )

    (there,), verdict, code, has_facenet = json.loads(answer.splitlines()[-1])
    assert not Path(code).is_relative_to(Path(emd_core.__file__).parents[1]) and not has_facenet
    table = pd.DataFrame({"image": [picture.read_bytes()]})
    model = mlflow.pyfunc.load_model(MODEL)
    (here,) = model.predict(table, params=FIND).to_dict("records")
    assert there["status"] == here["status"] == "ok" and there["score"] == pytest.approx(here["score"], abs=1e-6)
    assert [there[name] for name in ("x", "y", "side")] == [here[name] for name in ("x", "y", "side")]
    own = json.loads(
        model.predict(pd.DataFrame({"image": [clip.read_bytes()]}), params={"verdict": True})["verdict"][0]
    )
    assert verdict["answer"] == "cannot say"  # of a model that was never calibrated
    assert [track["seen"] for track in verdict["tracks"]] == [track["seen"] for track in own["tracks"]] != []
    assert 100 < there["side"] < 190 and there["mask"]


def run(command: list[str], folder: str, **more: str) -> str:
    """What a command says, run in a folder and without a way back to this repository."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, cwd=folder, env=kept | more, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
