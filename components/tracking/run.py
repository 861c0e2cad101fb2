"""One pipeline run is one MLflow run; each stage is a run nested in it.

Stages are separate processes, so they meet through a tag: the first stage creates the run of the pipeline and
the others find it by `pipeline=<EMD_PIPELINE_RUN, else DVC_EXP_NAME, else commit and params.yaml>`. A scheduler
that already opened a run for the task (it sets MLFLOW_RUN_ID) is used as it is.

What a stage logs goes through its outbox (outbox.py): logging never waits for the server, and nothing is lost with it.
"""

import os
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from components.tracking import delivery, provenance
from components.tracking.address import address
from components.tracking.outbox import Busy, Outbox, left_behind, root
from components.tracking.server import answering, connect, database_file, refused
from components.tracking.stage_run import StageRun
from emd_core.config import Config, digest
from emd_core.errors import Preempted, UserError

if TYPE_CHECKING:
    import mlflow

EXPERIMENT = "emd"
KIND = {"mlflow.experimentKind": "custom_model_development"}  # MLflow's UI shows trainings, not language models
TWICE_DECODED = (
    "MLflow takes a %XX in a folder's name for a character, so what is stored there cannot be loaded; move the "
    "checkout to a folder without one, or set MLFLOW_TRACKING_URI to a server"
)
RUN = "mlflow-run"  # file that remembers the run of a stage which may be killed and go on


@contextmanager
def stage_run(
    stage: str, cfg: Config, inputs: Mapping[str, Path | None], *, name: str = "", resume: Path | None = None
) -> Iterator[StageRun]:
    """Run the block inside an MLflow run; an error in the block marks the run as failed, being stopped as killed.

    cfg is logged as parameters (nested keys joined by "."; on the pipeline's run behind the stage's name), `inputs`
    (port name -> folder) as tags. The run is MLflow's active run, so `mlflow.log_…` works too, but waits for the
    server. MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME are respected; without them runs go to mlflow.db in the
    working directory.

    Args:
        name: what the run is called; `stage` if empty.
        resume: file that keeps the run's id, so that a stage which was killed goes on in its run.
    """
    import mlflow

    if repository := provenance.unread_repository():
        _say(repository)
    server, tags = connect(), provenance.tags(stage, cfg, inputs)
    with answering(mlflow.get_tracking_uri()):
        parent, active, resumed = _start(name or stage, tags, resume)
        values = flatten(provenance.parameters(cfg))
        went_on = f"{stage} went on with other values: {provenance.FOLDER}/ has them" if resumed else ""
        _log_params(active.info.run_id, "", values, went_on)
        ran_again = f"{stage} ran again with other values, which are on its own run"
        _log_params(parent, f"{stage}.", values, ran_again)
    info = active.info
    header = {"run": info.run_id, "name": name or stage, "server": server, "experiment": info.experiment_id}
    box = _outbox(header)
    sender = delivery.Sender(mlflow.MlflowClient(), [*left_behind(server), box], _say)
    run = StageRun(box, active, parent, resumed)
    run.start_monitor()
    sender.start()
    status = "FAILED"
    try:
        with TemporaryDirectory() as folder:
            provenance.write(Path(folder), cfg)
            run.log_artifacts(Path(folder), provenance.FOLDER)
        yield run
        status = "FINISHED"
    except mlflow.MlflowException as error:
        raise refused(error, mlflow.get_tracking_uri(), otherwise=error) from error
    except (Preempted, KeyboardInterrupt):
        status = "KILLED"
        raise
    finally:
        run.stop_monitor()
        sent = sender.finish()
        if not (_end(status) and sent):
            box.append({"kind": "end", "runs": [info.run_id, parent], "status": status, "time": _now()})
        _report(box, server)
        box.close()


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def _log_params(run: str, prefix: str, values: Mapping[str, Any], otherwise: str) -> None:
    """`otherwise`: what a tag says of the run if it has other values already; "" where it cannot have any."""
    import mlflow
    from mlflow.entities import Param

    client = mlflow.MlflowClient()
    try:
        client.log_batch(run, params=[Param(f"{prefix}{key}", str(value)) for key, value in values.items()])
    except mlflow.MlflowException as error:  # MLflow never replaces a parameter
        if error.error_code != "INVALID_PARAMETER_VALUE" or not otherwise:
            raise
        client.set_tag(run, "params.differ", otherwise)


def require_loadable_artifacts() -> None:
    """UserError if models that the active run logs could not be loaded by their name."""
    import mlflow

    active = mlflow.active_run()
    place = unquote(str(active.info.artifact_uri)) if active else ""
    if place.startswith(("/", "file:")) and unquote(place) != place:
        raise UserError(f"the run's artifacts lie in {place}, but {TWICE_DECODED}.")


def find_model(model: str) -> str | None:
    """Id of the LoggedModel of the experiment in use whose tag model.digest is this; None if there is none."""
    import mlflow

    active = mlflow.active_run()
    experiment = active.info.experiment_id if active else _experiment()
    return delivery.find_model(mlflow.MlflowClient(), experiment, model)


def _start(name: str, tags: dict[str, str], resume: Path | None) -> "tuple[str, mlflow.ActiveRun, bool]":
    """Make the pipeline's run and in it the stage's active; the former's id, the latter, and whether it goes on."""
    import mlflow

    # MLFLOW_RUN_ID: start_run() attaches to that run, and refuses once another experiment was set.
    pipeline = None if os.environ.get("MLFLOW_RUN_ID") else _pipeline_run(_experiment())
    parent = mlflow.start_run(run_id=pipeline, log_system_metrics=False)
    try:
        known = _known_run(resume)
        active = mlflow.start_run(run_id=known, run_name=name, nested=True, tags=tags, log_system_metrics=False)
    except BaseException:
        mlflow.end_run("FAILED")
        raise
    if resume is not None:
        resume.write_text(active.info.run_id)
    return parent.info.run_id, active, known is not None


def _known_run(resume: Path | None) -> str | None:
    """The run that a stage which was killed had, if the server still has it."""
    import mlflow

    if resume is None or not resume.exists():
        return None
    try:
        run = mlflow.MlflowClient().get_run(resume.read_text())
    except mlflow.MlflowException as error:
        if error.error_code in delivery.REFUSALS:
            return None
        raise
    return str(run.info.run_id) if run.info.lifecycle_stage == "active" else None


def _end(status: str) -> bool:
    """End the stage's run and the pipeline's; whether the server took it."""
    import mlflow

    taken = True
    for _ in range(2):
        try:
            mlflow.end_run(status)
        except Exception:  # the run is no longer active all the same; the outbox tells the server later
            taken = False
    return taken


def _outbox(header: dict[str, str]) -> Outbox:
    """The run's outbox; a further one while another process is sending what a killed one left in the first."""
    try:
        return Outbox(root() / header["run"], header)
    except Busy:
        return Outbox(root() / f"{header['run']}-{uuid.uuid4().hex[:8]}", header)


def _report(box: Outbox, server: str) -> None:
    """Say what was not sent, or will never be."""
    if left := box.contents():
        _say(
            f"MLflow at {server} did not take {left} of run {box.header['name']} ({box.header['run']}); they are kept "
            f"in {box.folder}, and the next stage or `python -m components sync` sends them."
        )
    if refused := box.refused():
        where = box.folder / "refused.jsonl"
        _say(f"MLflow at {server} refused {refused} of what was logged for good; {where} says what and why.")


def _say(sentence: str) -> None:
    from tqdm import tqdm

    tqdm.write(sentence, file=sys.stderr)


def _now() -> int:
    return int(time.time() * 1000)


def _experiment() -> str:
    """Id of the experiment, created when it is not there, and made the active one."""
    import mlflow

    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    found = mlflow.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "deleted":
        raise UserError(
            f"the experiment {name} of MLflow at {address(mlflow.get_tracking_uri())} was deleted; restore it (`mlflow "
            f"experiments restore --experiment-id {found.experiment_id}`), or set MLFLOW_EXPERIMENT_NAME to another."
        )
    if found is None:
        database = database_file(mlflow.get_tracking_uri())
        beside = None if database is None else database.resolve().parent / "mlartifacts"
        if beside is not None and unquote(str(beside)) != str(beside):
            _say(f"no model can be promoted from {beside}: {TWICE_DECODED}.")
        try:
            mlflow.create_experiment(name, artifact_location=beside.as_uri() if beside else None, tags=KIND)
        except mlflow.MlflowException as error:  # another stage was quicker
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    return str(mlflow.set_experiment(name).experiment_id)


def _pipeline_run(experiment: str) -> str:
    """Id of this pipeline's run, created by the first stage that asks; named after key and user."""
    import mlflow

    params = Path("params.yaml")
    commit = provenance.commit()
    code = "no-commit" if commit.startswith(provenance.UNKNOWN) else commit[:8]
    revision = f"{code}-{digest(params.read_text() if params.exists() else '')}"
    key = os.environ.get("EMD_PIPELINE_RUN") or os.environ.get("DVC_EXP_NAME") or revision
    client = mlflow.MlflowClient()

    def oldest() -> str | None:
        runs = client.search_runs([experiment], f"tags.pipeline = '{key}'")
        return min(((run.info.start_time, run.info.run_id) for run in runs), default=(0, None))[1]

    if (found := oldest()) is not None:
        return found
    user = provenance.user()
    tags = {"pipeline": key, "mlflow.user": user, "git.commit": commit}
    created = client.create_run(experiment, run_name=f"{key} by {user}", tags=tags).info.run_id
    winner = oldest() or created
    if winner != created:  # two stages started at once: both keep the older run
        client.delete_run(created)
    return winner
