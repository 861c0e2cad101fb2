"""What a registered model knows of its making, in its own artifacts: enough for an audit after all runs are deleted.

artifacts/lineage.json           the runs behind it, their code, parameters and machines; who promoted it and why
artifacts/lineage_files.parquet  every file that DVC recorded of its data: out, path, size, md5
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pandas as pd

from components.tracking import dvc_lock, provenance

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

RECORD, FILES = "lineage.json", "lineage_files.parquet"
PLACE = "artifacts"  # of a version: beside its checkpoint
FORMAT = 1
BEHIND = ("train_fer", "train_emd", "evaluate", "gate")  # stages that every model has behind it
Record = dict[str, Any]


def keep(version: "ModelVersion", checkpoint: Path, inputs: Mapping[str, Path], promotion: Mapping[str, Any]) -> None:
    """Store the lineage of a version's checkpoint with the version; what was stored before is replaced."""
    import mlflow

    record, files = collect(checkpoint, inputs, promotion)
    with TemporaryDirectory() as work:
        folder = Path(work)
        (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n")
        files.to_parquet(folder / FILES, compression="zstd", index=False)
        logged_model = str(version.source).removeprefix("models:/")
        mlflow.MlflowClient().log_model_artifacts(logged_model, work, PLACE)


def collect(checkpoint: Path, inputs: Mapping[str, Path], promotion: Mapping[str, Any]) -> tuple[Record, pd.DataFrame]:
    """The lineage of a checkpoint: the record, and the files that DVC recorded (columns out, path, size, md5).

    Args:
        inputs: folders that promotion was given, by port; their tables are named.
        promotion: what it decided and why, JSON-like; kept as it is.

    What cannot be found is null, and `missing` says so in a sentence.
    """
    digest = provenance.model_digest(checkpoint.parent)
    runs = find_runs(digest)
    lock = dvc_lock.read()
    missing = [f"no run of {stage} was found in MLflow" for stage in BEHIND if runs[stage] is None]
    if lock is None:
        missing.append("there was no dvc.lock, so the files of the data are not listed")
    elif not dvc_lock.describes(lock, checkpoint.parent):
        missing.append("dvc.lock was of another model, so the files of the data are not listed")
        lock = None
    files = dvc_lock.files(lock) if lock else pd.DataFrame(columns=["out", "path", "size", "md5"])
    described = {stage: None if run is None else describe(run) for stage, run in runs.items()}
    described["promote"] = _this_process()
    missing += [f"the run of {stage} kept no code and parameters" for stage, run in described.items() if bare(run)]
    code = {}
    for run in described.values():
        if run and (listing := run.pop("code", None)):
            run["code"] = _digest(listing)
            code[run["code"]] = listing
    params = {stage: entry["params"] for stage, entry in lock.stages.items()} if lock else {}
    params |= {stage: run["params"] for stage, run in described.items() if run and run.get("params")}
    record = {
        "format": FORMAT,
        "model": {"digest": digest, "sha256": sha256_of(checkpoint), "bytes": checkpoint.stat().st_size},
        "promotion": dict(promotion),
        "runs": described,
        "params": params,
        "tables": {port: table for port, folder in inputs.items() if (table := provenance.table_of(folder))},
        "dvc": {"md5": lock.md5, "stages": lock.stages, "dataset": lock.sources()} if lock else None,
        "code": code,
        "missing": missing,
    }
    return record, files


def find_runs(digest: str) -> dict[str, "Run | None"]:
    """The runs behind a model, by stage: those that carry its digest, and what they were made from."""

    def newest(stage: str, **tags: str) -> "Run | None":
        import mlflow

        if not all(tags.values()):
            return None
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in {"stage": stage, **tags}.items())
        runs = mlflow.search_runs(
            search_all_experiments=True,
            filter_string=wanted,
            order_by=["attributes.start_time DESC"],
            max_results=1,
            output_format="list",
        )
        return runs[0] if runs else None

    def of(run: "Run | None", tag: str) -> str:
        return "" if run is None else run.data.tags.get(tag, "")

    train = newest("train_emd", **{provenance.MODEL: digest})
    return {
        "fetch_data": newest("fetch_data", **{"pipeline.run": of(train, "pipeline.run")}),
        "validate_data": newest("validate_data", **{"input.masks": of(train, "input.masks")}),
        "train_fer": newest("train_fer", **{provenance.MODEL: of(train, "input.fer")}),
        "train_emd": train,
        "evaluate": newest("evaluate", **{provenance.MODEL: digest}),
        "gate": newest("gate", **{provenance.MODEL: digest}),
    }


def describe(run: "Run") -> dict[str, Any]:
    """A run with what it left in its folder `provenance`, as JSON."""
    import mlflow
    from mlflow import MlflowException

    tags = run.data.tags
    described: dict[str, Any] = {
        "run_id": run.info.run_id,
        "status": run.info.status,
        "started": _time(run.info.start_time),
        "ended": _time(run.info.end_time),
        "user": tags.get("mlflow.user", ""),
        "parent": tags.get("mlflow.parentRunId", ""),
        "tags": {key: value for key, value in sorted(tags.items()) if not key.startswith("mlflow.")},
    }
    with TemporaryDirectory() as folder:
        try:
            place = mlflow.artifacts.download_artifacts(
                run_id=run.info.run_id, artifact_path=provenance.FOLDER, dst_path=folder
            )
        except (MlflowException, OSError):  # of an older version, or its artifacts are gone
            return described
        patch = Path(place) / provenance.PATCH
        described |= json.loads((Path(place) / provenance.RECORD).read_text())
        described["patch"] = patch.read_text() if patch.is_file() else ""
    return described


def bare(run: Mapping[str, Any] | None) -> bool:
    """True for a run without the files that tell its code, parameters and machine."""
    return run is not None and "environment" not in run


def _this_process() -> dict[str, Any]:
    """The promotion itself, as a run is described: its run has not ended yet."""
    import mlflow

    run = mlflow.active_run()
    tags = {} if run is None else run.data.tags
    return {
        "run_id": None if run is None else run.info.run_id,
        "started": None if run is None else _time(run.info.start_time),
        "user": provenance.user(),
        "tags": {key: value for key, value in sorted(tags.items()) if not key.startswith("mlflow.")},
        "environment": provenance.environment(),
        "code": provenance.code(),
        "patch": provenance.dirty_patch(),
    }


def _time(ms: int | None) -> str | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def sha256_of(path: Path) -> str:
    """64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
