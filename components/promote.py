"""Register the model that the gate let pass, and make it the champion.

Never a DVC stage: `dvc repro` cannot touch the registry. The champion is scored again on the candidate's own test
crops, the registered artifact is tried in a process of its own, and the gate's question is asked once more with both.
The command can be repeated: a version that was registered for the same checkpoint is used again.
"""

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import Field

from components import In
from components.gate import as_markdown, read_metrics, write_decision
from components.registry.lineage_record import keep
from components.registry.registration import register
from components.registry.serving_check import check_serving, one_line
from components.registry.versions import (
    CHALLENGER,
    CHAMPION,
    DIGEST,
    ModelName,
    describe,
    end_trial,
    held,
    move,
    registered,
    who,
)
from components.rollback import AT, BY
from components.tracking.run import StageRun, find_model, require_loadable_artifacts, stage_run
from emd_core.config import Config
from emd_core.detection.crops import FaceCrops
from emd_core.errors import UserError
from emd_core.evaluation.comparison import compare
from emd_core.evaluation.gating import Check, Comparison, Decision, decide
from emd_core.evaluation.scoring import score_conditions
from emd_core.evaluation.slices import as_they_are
from emd_core.models.checkpoint import load_detector
from emd_core.models.parts.checkpoint import CHECKPOINT
from emd_core.models.parts.precision import pick_device
from emd_core.reading import reading
from emd_core.storage.manifest import MASKS, ORIGINAL, read_manifest

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


class Promote(Config):
    """Section promote of params.yaml."""

    model_name: ModelName = Field(description="Name in the model registry.")
    batch_size: int = Field(ge=1, description="Of crops, when the champion is scored again; as evaluate.batch_size.")


def promote(cfg: Promote, *, model: In, evaluation: In, decision: In, faces: In, masks: In) -> None:
    """Make the model the champion if the gate and a comparison with the live champion allow it.

    faces, masks: the crops on which evaluation was made. A refusal is printed and logged, and is no error. Raises
    UserError if the inputs are not about one model and one data set, or if another promotion is under way.
    """
    import mlflow

    verdict, metrics = read_decision(decision), read_metrics(evaluation)
    require_one_model(model / CHECKPOINT, metrics, verdict)
    require_one_data_set(metrics, masks)
    require_lasting_registry()
    inputs = {"model": model, "evaluation": evaluation, "decision": decision, "faces": faces, "masks": masks}
    with stage_run("promote", cfg, inputs) as run:
        require_loadable_artifacts()
        run.log_model(verdict.model)
        if not verdict.promote:
            run.log_artifacts(decision, "decision")
            return refuse(run, verdict)
        client, name = mlflow.MlflowClient(), cfg.model_name
        champion, known = held(client, name, CHAMPION), registered(client, name, verdict.model)
        if champion is not None and champion.tags.get(DIGEST) == verdict.model:
            end_trial(client, name, str(champion.version))
            run.set_tags({"promotion": "already champion"})
            print(f"already champion: {name} version {champion.version}")
            return
        if known is not None and AT in known.tags:
            return say_rolled_back(run, known)
        comparison = None if champion is None else score_again(champion, cfg, evaluation, faces, masks)
        version = known or register(name, model, evaluation, find_model(verdict.model), making(run, verdict))
        number = str(version.version)
        client.set_registered_model_alias(name, CHALLENGER, number)
        check, service = check_serving(version, model / CHECKPOINT)
        if service is not None:
            run.log_metrics({f"service/{key}": v for key, v in service._asdict().items()}, model=verdict.model)
        final = with_check(decide(metrics, verdict.cfg, comparison=comparison, service=service), check)
        tags = {"decision": final.summary, "decision.digest": keep_decision(run, version, final)}
        if not final.promote:
            describe(client, name, number, {"promotion": "refused", **tags}, as_markdown(final))
            end_trial(client, name, number)
            return refuse(run, final)
        replaced = None if champion is None else str(champion.version)
        tags |= {
            "promotion": "promoted",
            "promoted_at": now(),
            "promoted_by": who(),
            "replaced_version": replaced or "",
        }
        keep(version, model / CHECKPOINT, inputs, promotion(final, champion, tags))
        move(client, name, number, compared=replaced, tags=tags, text=as_markdown(final))
        tell(run, verdict.model, tags)
    print(f"promoted: {name} version {number} is now @{CHAMPION} (models:/{name}@{CHAMPION})")


def read_decision(folder: Path) -> Decision:
    """decision.json as the gate wrote it."""
    path = folder / "decision.json"
    with reading(path, "a decision that this version's gate wrote", "run gate (`dvc repro gate`)"):
        return Decision.model_validate_json(path.read_text())


def read_predictions(evaluation: Path) -> pd.DataFrame:
    """The scores of an evaluation, one row per frame."""
    path = evaluation / "predictions.parquet"
    with reading(path, "a table that evaluate wrote", "run evaluate (`dvc repro evaluate`)"):
        return pd.read_parquet(path)


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
    load_detector(checkpoint)  # it refuses what must not be registered


def require_one_data_set(metrics: dict[str, Any], masks: Path) -> None:
    """Refuse to compare with a champion that would be scored on other crops."""
    found = read_manifest(masks, MASKS).id
    if found != metrics.get("data"):
        raise UserError(
            f"{masks} is data set {found}, but the evaluation was made on {metrics.get('data')}; "
            "pass the crops and masks of that evaluation, or run evaluate and gate on these."
        )


def require_lasting_registry() -> None:
    """Refuse to promote, as a task of a pipeline, into a file that ends with its container."""
    if os.environ.get("EMD_PIPELINE_RUN") and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise UserError(
            "MLFLOW_TRACKING_URI is not set, so the promoted model would end with this task; set it, on Kubernetes by "
            "the secret emd-mlflow."
        )


def score_again(champion: "ModelVersion", cfg: Promote, evaluation: Path, faces: Path, masks: Path) -> Comparison:
    """The candidate's predictions against the champion's on the same crops; its stored numbers may be of other data."""
    import mlflow

    from components.registry.detector_model import METRICS, judged_in

    ours = read_predictions(evaluation)
    methods = sorted(set(ours["method"]) - {ORIGINAL})
    crops = FaceCrops(faces, masks, "test", methods, sorted(set(as_they_are(ours)["quality"])))
    perturbations = sorted(set(ours["quality"].str.partition("/")[2]) - {""})
    artifacts = f"models:/{champion.name}/{champion.version}/artifacts"
    try:
        with TemporaryDirectory() as folder:
            path = Path(mlflow.artifacts.download_artifacts(artifacts, dst_path=folder))
            detector, precision = load_detector(path / CHECKPOINT).to(pick_device()), judged_in(path / METRICS)
        theirs, _ = score_conditions(detector, crops, cfg.batch_size, precision, perturbations)
    except Exception as error:  # whatever ails an artifact of another day is no fault of the candidate's
        raise UserError(
            f"the champion {champion.name} version {champion.version} cannot be scored again ({one_line(error)}), so "
            "it stays; restore its artifacts, or remove its alias champion in MLflow to promote without a comparison."
        ) from error
    name = champion.tags.get(DIGEST, f"version {champion.version}")
    return Comparison(name, compare(ours, theirs), localises=detector.localises)


def with_check(decision: Decision, check: Check) -> Decision:
    """The decision, one more check included."""
    failed = check.verdict == "failed"
    said = "Refused" if failed and decision.promote else decision.summary.rstrip(".")
    changes: dict[str, Any] = {
        "promote": decision.promote and not failed,
        "summary": f"{said}{': ' if said == 'Refused' else '; '}{check.reason}.",
        "checks": [check, *decision.checks] if failed else [*decision.checks, check],
    }
    return decision.model_copy(update=changes)


def making(run: StageRun, verdict: Decision) -> dict[str, str]:
    """What a version's tags say about its making."""
    wanted = {"git.commit": run.tags.get("git.commit", ""), "data.digest": verdict.data, "run": run.run_id}
    return {DIGEST: verdict.model} | {key: value for key, value in wanted.items() if value}


def keep_decision(run: StageRun, version: "ModelVersion", decision: Decision) -> str:
    """Store the decision as files of the run and of the version; digest of decision.json (12 hex digits of SHA-256).

    Each decision on a version has a folder of its own, artifacts/decisions/<digest>: none replaces another.
    """
    import mlflow

    with TemporaryDirectory() as work:
        folder = Path(work) / "decision"
        write_decision(folder, decision)
        digest = hashlib.sha256((folder / "decision.json").read_bytes()).hexdigest()[:12]
        run.log_artifacts(folder, "decision")
        logged_model = str(version.source).removeprefix("models:/")
        mlflow.MlflowClient().log_model_artifacts(logged_model, str(folder), f"artifacts/decisions/{digest}")
    return digest


def promotion(decision: Decision, champion: "ModelVersion | None", tags: dict[str, str]) -> dict[str, Any]:
    """What the model's lineage says of its promotion."""
    replaced = None if champion is None else {"version": str(champion.version), "model": champion.tags.get(DIGEST, "")}
    return {
        "at": tags["promoted_at"],
        "by": tags["promoted_by"],
        "replaced": replaced,
        "decision": decision.model_dump(mode="json"),
    }


def refuse(run: StageRun, verdict: Decision) -> None:
    """Say why not, and leave it on the run and on the LoggedModel, as there may be no version."""
    tell(run, verdict.model, {"promotion": "refused", "decision": verdict.summary})
    print(f"not promoted: {verdict.summary}")


def say_rolled_back(run: StageRun, version: "ModelVersion") -> None:
    """A scheduled run must not bring back what somebody took out of use."""
    reason = (
        f"{version.name} version {version.version} holds this model and was rolled back by {version.tags[BY]} at "
        f"{version.tags[AT]}; to promote it again, roll forward (`python -m components rollback`) or remove that "
        f"version's tag {AT}."
    )
    run.set_tags({"promotion": "refused", "decision": reason})
    print(f"not promoted: {reason}")


def tell(run: StageRun, model: str, tags: dict[str, str]) -> None:
    """Tags of the run and of the LoggedModel of the checkpoint with digest `model`, if training made one."""
    import mlflow

    run.set_tags(tags)
    logged_model = find_model(model)
    if logged_model is not None:
        mlflow.MlflowClient().set_logged_model_tags(logged_model, tags)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
