"""The registered model: what it answers, and that one which answers otherwise than its checkpoint is found out."""

import base64
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.entities.model_registry import ModelVersion

from components.registry.detector_model import SIGNATURE
from components.registry.registration import register
from components.registry.serving_check import NotServed, check_serving, largest_difference
from components.tracking.run import require_loadable_artifacts
from emd_core.detection.inference import predict
from emd_core.errors import UserError
from emd_core.models.baselines.meso import MesoConfig, MesoNet
from emd_core.models.checkpoint import load_detector, save_detector
from emd_core.models.multitask import MultiTask, MultiTaskConfig
from emd_core.models.parts.checkpoint import CHECKPOINT
from emd_core.storage.pictures import decode
from tests.fakes.tiny import draw_face

CODE, FACES = "detector_model.py", "mtcnn.safetensors"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("serving_check")
    torch.manual_seed(0)
    save_detector(root / CHECKPOINT, MultiTask(MultiTaskConfig(kind="multitask", size=64, expression=False), None))
    (root / "metrics.json").write_text("{}")
    mlflow.set_tracking_uri(f"sqlite:///{root}/mlflow.db")
    mlflow.create_experiment("serving", artifact_location=(root / "artifacts").as_uri())
    return root


@pytest.fixture
def version(root: Path, request: pytest.FixtureRequest) -> ModelVersion:
    """Registered for this test alone, so that it may be spoilt."""
    mlflow.set_tracking_uri(f"sqlite:///{root}/mlflow.db")
    mlflow.set_experiment("serving")
    with mlflow.start_run():
        return register("m", root, root, None, {})


def stored(root: Path, version: ModelVersion) -> Path:
    return root / "artifacts/models" / version.source.removeprefix("models:/") / "artifacts"


def test_a_whole_model_passes_and_is_timed(root: Path, version: ModelVersion) -> None:
    check, service = check_serving(version, root / CHECKPOINT)
    assert check.verdict == "passed" and check.value is not None and check.value < 0.003
    assert service is not None and service.latency_ms > 0
    assert service.size_mb == pytest.approx((root / CHECKPOINT).stat().st_size / 1e6)


@pytest.mark.parametrize(("folder", "verdict"), [("a b#ü", "passed"), ("feature%2Fx", "failed")])
def test_it_is_loaded_from_where_its_users_load_it(root: Path, tmp_path: Path, folder: str, verdict: str) -> None:
    """MLflow writes below a folder named so, but reads %2F as / when it loads a model by its name."""
    mlflow.set_tracking_uri(f"sqlite:///{root}/mlflow.db")
    place = tmp_path / folder / "artifacts"
    number = mlflow.create_experiment(folder, artifact_location=place.as_uri())
    with mlflow.start_run(experiment_id=number):
        check, _ = check_serving(register("elsewhere", root, root, None, {}), root / CHECKPOINT)
        if verdict == "failed":
            with pytest.raises(UserError, match="feature%2Fx/artifacts/.*MLflow takes a %XX in a folder's name"):
                require_loadable_artifacts()
        else:
            require_loadable_artifacts()
    assert check.verdict == verdict, check.reason
    assert list(tmp_path.rglob(CHECKPOINT))


def other_answer(folder: Path) -> None:
    code = (folder / CODE).read_text()
    changed = code.replace('rows[row] |= {"score": score,', 'rows[row] |= {"score": score / 2,')
    assert changed != code
    (folder / CODE).write_text(changed)


def other_checkpoint(folder: Path) -> None:
    network = load_detector(folder / "artifacts" / CHECKPOINT)
    with torch.no_grad():
        next(network.parameters()).mul_(1.001)
    save_detector(folder / "artifacts" / CHECKPOINT, network)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (other_answer, "the registered artifact's answer differs from the checkpoint's by 0."),
        (other_checkpoint, "the registered artifact holds another checkpoint than the one that was judged"),
        (
            lambda folder: shutil.rmtree(folder / "code"),
            "does not load and answer in a clean process (mlflow.exceptions.Mlflow",
        ),
        (lambda folder: (folder / "artifacts" / CHECKPOINT).unlink(), f"the registered artifact holds no {CHECKPOINT}"),
        (lambda folder: (folder / "artifacts" / FACES).unlink(), f"clean process ({UserError.__module__}.UserError: "),
    ],
    ids=["other answer", "other checkpoint", "no code", "no checkpoint", "no face detector"],
)
def test_a_spoilt_model_fails(root: Path, version: ModelVersion, spoil: Callable[[Path], None], reason: str) -> None:
    spoil(stored(root, version))
    check, _ = check_serving(version, root / CHECKPOINT)
    assert check.verdict == "failed" and reason in check.reason and "\n" not in check.reason
    assert check.reason.endswith(f"; delete version {version.version} to have it registered anew")


def test_what_it_answers(root: Path, version: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "facenet_pytorch", None)  # as where its own requirements are installed
    crop = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    frame = np.full((240, 320, 3), 90, np.uint8)
    draw_face(frame, x=200, y=110, height=120)
    pictures = [bytes(cv2.imencode(".png", image[..., ::-1])[1]) for image in (crop, frame)]
    table = pd.DataFrame({"image": [pictures[0], b"no picture", pictures[1]]})
    model = mlflow.pyfunc.load_model(str(stored(root, version)))
    crops, frames = (model.predict(table, params={"detect_faces": find}).to_dict("records") for find in (False, True))
    assert list(crops[0]) == SIGNATURE.outputs.input_names()

    (score,), (mask,) = predict(load_detector(root / CHECKPOINT), torch.from_numpy(crop).permute(2, 0, 1)[None], "fp32")
    assert crops[0]["status"] == "ok" and crops[0]["score"] == pytest.approx(score, abs=1e-4)
    assert (crops[0]["x"], crops[0]["y"], crops[0]["side"]) == (0, 0, 64)
    served = decode(base64.b64decode(crops[0]["mask"]))
    assert served is not None and np.abs(served[..., 0] / 255 - mask).max() < 0.01

    assert (crops[1]["status"], crops[1]["mask"]) == ("unreadable", None) and pd.isna(crops[1]["score"])
    assert (crops[2]["x"], crops[2]["y"], crops[2]["side"]) == (40, 0, 240)  # the centre square
    assert [row["status"] for row in frames] == ["no_face", "unreadable", "ok"]
    found = frames[2]
    centre = (found["x"] + found["side"] / 2, found["y"] + found["side"] / 2)
    assert centre == (pytest.approx(200, abs=15), pytest.approx(110, abs=15)) and 100 < found["side"] < 190


def test_it_is_served_in_the_format_in_which_it_was_judged(root: Path, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"precision": "bf16"}')
    shutil.copy(root / CHECKPOINT, tmp_path)
    mlflow.set_experiment("serving")
    with mlflow.start_run():
        registered = register("bf16", tmp_path, tmp_path, None, {})
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    table = pd.DataFrame({"image": [bytes(cv2.imencode(".png", picture[..., ::-1])[1])]})
    served = mlflow.pyfunc.load_model(str(stored(root, registered))).predict(table)["score"].iloc[0]
    crop, network = torch.from_numpy(picture).permute(2, 0, 1)[None], load_detector(root / CHECKPOINT)
    judged, other = (predict(network, crop, precision)[0][0] for precision in ("bf16", "fp32"))
    assert served == judged != other
    check, _ = check_serving(registered, root / CHECKPOINT)
    assert check.verdict == "passed"


def test_a_network_that_does_not_localise_is_served_without_masks(root: Path, tmp_path: Path) -> None:
    save_detector(tmp_path / CHECKPOINT, MesoNet(MesoConfig(kind="meso4", size=64)))
    (tmp_path / "metrics.json").write_text("{}")
    mlflow.set_tracking_uri(f"sqlite:///{root}/mlflow.db")
    mlflow.set_experiment("serving")
    with mlflow.start_run():
        registered = register("blind", tmp_path, tmp_path, None, {})
    check, _ = check_serving(registered, tmp_path / CHECKPOINT)
    assert check.verdict == "passed", check.reason
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    table = pd.DataFrame({"image": [bytes(cv2.imencode(".png", picture[..., ::-1])[1])]})
    (answer,) = mlflow.pyfunc.load_model(str(stored(root, registered))).predict(table).to_dict("records")
    assert answer["status"] == "ok" and answer["mask"] is None and 0 < answer["score"] < 1


def test_a_mask_that_is_missing_or_surplus_is_no_answer() -> None:
    mask = np.zeros((8, 8))
    png = base64.b64encode(bytes(cv2.imencode(".png", np.zeros((8, 8), np.uint8))[1])).decode()
    row = {"status": "ok", "reason": "", "score": 0.5}
    assert largest_difference([row | {"mask": png}], [(0.5, mask)]) == 0
    for given, expected in ((None, mask), (png, None), (png, np.zeros((9, 9)))):
        with pytest.raises(NotServed):
            largest_difference([row | {"mask": given}], [(0.5, expected)])
