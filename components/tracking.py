"""One pipeline run is one MLflow run; each stage is a run nested in it.

Stages are separate processes, so they meet through a tag: the first stage creates the run of the pipeline and
the others find it by `pipeline=<EMD_PIPELINE_RUN, else DVC_EXP_NAME, else commit and params.yaml>`. A scheduler
that already opened a run for the task (it sets MLFLOW_RUN_ID) is used as it is.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import provenance
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
    tags = provenance.tags(stage, cfg, inputs)
    with mlflow.start_run(run_id=pipeline), mlflow.start_run(run_name=stage, nested=True, tags=tags) as run:
        mlflow.log_params(flatten(cfg.model_dump(mode="json")))
        yield run


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
    revision = f"{provenance.commit()[:8] or 'no-commit'}-{digest(params.read_text() if params.exists() else '')}"
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
