"""One pipeline run is one MLflow run; each stage is a run nested in it.

Stages are separate processes, so they meet through a tag: the first stage creates the run of the pipeline and
the others find it by `pipeline=<EMD_PIPELINE_RUN, else DVC_EXP_NAME, else commit and params.yaml>`. A scheduler
that already opened a run for the task (it sets MLFLOW_RUN_ID) is used as it is.
"""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from emd_core.config import Config, digest

if TYPE_CHECKING:
    import mlflow

EXPERIMENT = "emd"
SQLITE = "sqlite:///"


@contextmanager
def stage_run(stage: str, cfg: Config, inputs: Mapping[str, Path | None]) -> "Iterator[mlflow.ActiveRun]":
    """Run the block inside an MLflow run named `stage`; an error in the block marks the run as failed.

    cfg is logged as parameters (nested keys joined by "."), `inputs` (port name -> folder) as tags. Inside the
    block stages call `mlflow.log_metrics`, `mlflow.log_image`, … themselves. MLFLOW_TRACKING_URI and
    MLFLOW_EXPERIMENT_NAME are respected; without them runs go to mlflow.db in the working directory.
    """
    import mlflow

    if not os.environ.get("MLFLOW_TRACKING_URI"):
        mlflow.set_tracking_uri(f"{SQLITE}mlflow.db")
    # MLFLOW_RUN_ID: start_run() attaches to that run, and refuses once another experiment was set.
    pipeline = None if os.environ.get("MLFLOW_RUN_ID") else _pipeline_run(_experiment())
    tags = lineage(stage, cfg, inputs)
    with mlflow.start_run(run_id=pipeline), mlflow.start_run(run_name=stage, nested=True, tags=tags) as run:
        mlflow.log_params(flatten(cfg.model_dump(mode="json")))
        yield run


def lineage(stage: str, cfg: Config, inputs: Mapping[str, Path | None]) -> dict[str, str]:
    """Tags that say which code, parameters and data a run was made from; what is unknown is left out."""
    data = {port: _manifest_id(folder) for port, folder in inputs.items() if folder is not None}
    data = {port: manifest for port, manifest in data.items() if manifest}
    tags = {
        "stage": stage,
        "git.commit": commit(),
        "git.dirty": _dirty(),
        "params.digest": digest(cfg.model_dump(mode="json")),
        "data.digest": digest(data) if data else "",
        "DVC_EXP_NAME": os.environ.get("DVC_EXP_NAME", ""),
        **{f"input.{port}": manifest for port, manifest in data.items()},
    }
    return {key: value for key, value in tags.items() if value}


def commit() -> str:
    """The commit of the code, 40 hex digits; "" where it is unknown.

    Images carry it in EMD_GIT_COMMIT, with "-dirty" behind it where they hold something else.
    """
    return _git("rev-parse", "--verify", "-q", "HEAD") or os.environ.get("EMD_GIT_COMMIT", "")


def _dirty() -> str:
    """ "true" if code or parameters differ from the commit, else "false"; "" outside a repository."""
    if not _git("rev-parse", "--show-toplevel"):
        return ""
    return str(bool(_git("status", "--porcelain", "--", "*.py", "*.yaml", "requirements.lock"))).lower()


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def _experiment() -> str:
    """Id of the experiment, created when it is not there, and made the active one."""
    import mlflow

    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    if mlflow.get_experiment_by_name(name) is None:
        uri = mlflow.get_tracking_uri()
        beside = Path(uri.removeprefix(SQLITE)).resolve().parent / "mlartifacts" if uri.startswith(SQLITE) else None
        try:
            mlflow.create_experiment(name, artifact_location=beside.as_uri() if beside else None)
        except mlflow.MlflowException as error:  # another stage was quicker
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    return str(mlflow.set_experiment(name).experiment_id)


def _pipeline_run(experiment: str) -> str:
    """Id of this pipeline's run, created by the first stage that asks."""
    import mlflow

    params = Path("params.yaml")
    revision = f"{commit()[:8] or 'no-commit'}-{digest(params.read_text() if params.exists() else '')}"
    key = os.environ.get("EMD_PIPELINE_RUN") or os.environ.get("DVC_EXP_NAME") or revision
    client = mlflow.MlflowClient()

    def oldest() -> str | None:
        runs = client.search_runs([experiment], f"tags.pipeline = '{key}'")
        return min(((run.info.start_time, run.info.run_id) for run in runs), default=(0, None))[1]

    if (found := oldest()) is not None:
        return found
    created = client.create_run(experiment, run_name=key, tags={"pipeline": key}).info.run_id
    winner = oldest() or created
    if winner != created:  # two stages started at once: both keep the older run
        client.delete_run(created)
    return winner


def _manifest_id(folder: Path) -> str:
    path = folder / "manifest.parquet"
    metadata = (pq.read_schema(path).metadata or {}) if path.is_file() else {}
    return str(json.loads(metadata[b"emd"])["id"]) if b"emd" in metadata else ""


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # an image has no repository
        return ""
