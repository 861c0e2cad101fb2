"""Register the model that the gate let pass, and make it the champion.

Never a DVC stage: `dvc repro` cannot touch the registry. The steps can be repeated: a version that was registered
for the same checkpoint is used again.
"""

import hashlib
import os
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pandas as pd
from pydantic import Field, ValidationError

import emd_core
from components import In
from components.gate import read_metrics
from components.stage_run import StageRun
from components.tracking import stage_run
from emd_core.config import Config
from emd_core.errors import UserError
from emd_core.gating import Decision, decide
from emd_core.models.checkpoint import CHECKPOINT

if TYPE_CHECKING:
    import mlflow
    from mlflow.entities.model_registry import ModelVersion

CHALLENGER, CHAMPION = "challenger", "champion"
DIGEST = "model.digest"  # tag of a version: which checkpoint it holds
METRICS = "metrics"  # artifact of a version: how it was measured
# What scoring crops imports. The face detectors are not among them, see detector_model.py.
REQUIREMENTS = (
    "av mlflow numpy opencv-python-headless pandas pyarrow pydantic pyyaml safetensors "
    "segmentation-models-pytorch timm torch torchvision tqdm"
)


class Promote(Config):
    model_name: str = Field(min_length=1, description="Name in the model registry.")


def promote(cfg: Promote, *, model: In, evaluation: In, decision: In) -> None:
    """Make the model the champion if the gate and a comparison with the live champion allow it.

    A refusal is printed and logged, and is no error. Raises UserError if the three inputs are not about one model.
    """
    import mlflow

    verdict, metrics = read_decision(decision), read_metrics(evaluation)
    checkpoint = model / CHECKPOINT
    require_one_model(checkpoint, metrics, verdict)
    require_lasting_registry()
    inputs = {"model": model, "evaluation": evaluation, "decision": decision}
    with stage_run("promote", cfg, inputs) as run:
        client = mlflow.MlflowClient()
        mlflow.log_artifact(str(decision / "decision.json"))
        if not verdict.promote:
            return refuse(verdict)
        champion = live_champion(client, cfg.model_name)
        if champion is not None and champion.tags.get(DIGEST) == verdict.model:
            mlflow.set_tag("promotion", "already champion")
            print(f"already champion: {cfg.model_name} version {champion.version}")
            return
        number = registered(client, cfg.model_name, verdict.model) or register(
            cfg.model_name, checkpoint, evaluation, {DIGEST: verdict.model, **lineage_tags(run, verdict)}
        )
        client.set_registered_model_alias(cfg.model_name, CHALLENGER, number)
        final = decide(metrics, verdict.cfg)
        if not final.promote:
            return refuse(final)
        smoke(f"models:/{cfg.model_name}/{number}")
        tags = {
            "promoted_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "decision": final.summary,
            "replaced_version": "" if champion is None else str(champion.version),
        }
        for key, value in tags.items():
            client.set_model_version_tag(cfg.model_name, number, key, value)
        client.set_registered_model_alias(cfg.model_name, CHAMPION, number)
        client.delete_registered_model_alias(cfg.model_name, CHALLENGER)
        mlflow.set_tags({"promotion": "promoted", **tags})
    print(f"promoted: {cfg.model_name} version {number} is now @{CHAMPION} (models:/{cfg.model_name}@{CHAMPION})")


def read_decision(folder: Path) -> Decision:
    """decision.json as the gate wrote it."""
    path = folder / "decision.json"
    try:
        return Decision.model_validate_json(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run gate first (`dvc repro gate`).") from None
    except ValidationError:
        raise UserError(f"{path} is not a decision that this version's gate wrote; run gate again.") from None


def require_one_model(checkpoint: Path, metrics: dict[str, Any], verdict: Decision) -> None:
    """Refuse to promote a checkpoint on another one's numbers."""
    if not checkpoint.is_file():
        raise UserError(f"{checkpoint} does not exist; run train_emd first (`dvc repro train_emd`).")
    found = hashlib.sha256(checkpoint.read_bytes()).hexdigest()[:12]
    if not found == metrics["model"] == verdict.model:
        raise UserError(
            f"{checkpoint} is model {found}, but the evaluation is of {metrics['model']} and the decision on "
            f"{verdict.model}; run evaluate and gate on this model first."
        )


def require_lasting_registry() -> None:
    """Refuse to promote, as a task of a pipeline, into a file that ends with its container."""
    if os.environ.get("EMD_PIPELINE_RUN") and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise UserError(
            "MLFLOW_TRACKING_URI is not set, so the promoted model would end with this task; set it, on Kubernetes by "
            "the secret emd-mlflow."
        )


def refuse(verdict: Decision) -> None:
    """Say why not, and leave it on the run."""
    import mlflow

    mlflow.set_tags({"promotion": "refused", "decision": verdict.summary})
    print(f"not promoted: {verdict.summary}")


def live_champion(client: "mlflow.MlflowClient", name: str) -> "ModelVersion | None":
    """The version in use; None before the first promotion."""
    from mlflow import MlflowException

    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        # The first for a model without that alias, the second for a name that was never registered.
        if error.error_code in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"):
            return None
        raise


def registered(client: "mlflow.MlflowClient", name: str, model: str) -> str | None:
    """The version that holds this checkpoint already, from a promotion that was refused or broke off."""
    versions = client.search_model_versions(f"name = '{name}'")
    return next((str(v.version) for v in versions if v.tags.get(DIGEST) == model), None)


def register(name: str, checkpoint: Path, evaluation: Path, tags: dict[str, str]) -> str:
    """Log the checkpoint and its metrics as a pyfunc model and register it; the new version's number."""
    import mlflow

    from components import detector_model

    info = mlflow.pyfunc.log_model(
        name="detector",
        python_model=detector_model.__file__,
        artifacts={detector_model.CHECKPOINT: str(checkpoint), METRICS: str(evaluation / "metrics.json")},
        code_paths=[str(Path(emd_core.__file__).parent)],
        signature=detector_model.SIGNATURE,
        input_example=(example(), {"detect_faces": False}),
        pip_requirements=[f"{package}=={installed(package).split('+')[0]}" for package in REQUIREMENTS.split()],
    )
    return str(mlflow.register_model(info.model_uri, name, tags=tags).version)


def lineage_tags(run: StageRun, verdict: Decision) -> dict[str, str]:
    """What a version's tags say about its making."""
    wanted = {"git.commit": run.tags.get("git.commit", ""), "data.digest": verdict.data, "run": run.run_id}
    return {key: value for key, value in wanted.items() if value}


def smoke(uri: str) -> None:
    """Load the model from the registry and score a picture: what cannot serve must not be the champion."""
    import mlflow

    (row,) = mlflow.pyfunc.load_model(uri).predict(example()).to_dict("records")
    if row["status"] != "ok" or not 0 <= row["score"] <= 1:
        raise RuntimeError(f"{uri} answers {row} to a grey picture; it was not promoted")


def example() -> pd.DataFrame:
    """A grey picture, as the model's input."""
    _, png = cv2.imencode(".png", np.full((64, 64, 3), 128, np.uint8))
    return pd.DataFrame({"image": [png.tobytes()]})
