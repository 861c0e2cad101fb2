"""The last runs on Kubeflow, or the stages of one run with their states and durations."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pipelines.server import options
from pipelines.server.client import Server

# Argo's nodes around each stage: drivers, pods, groups, and "name(0)" for each attempt where the server retries by
# default.
MACHINERY = re.compile(
    r"root|executor|.*-driver|.*\([\d:]+\)|iteration-(item|iterations)"
    r"|(exit-handler|for-loop|condition|condition-branches)-\d+(\.onExit)?"
)
ITERATIONS = "iteration-iterations"  # the group whose children are the loop's rounds
SHARDED = ("extract-frames", "crop-faces", "generate-masks", "detect")  # in the loops
# kfp's wait_for_run_completion knows no CANCELED and would wait for ever.
ENDED = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}
LAG = timedelta(minutes=1)  # what the server knows of a node may be so much older than its metadata


@dataclass(frozen=True)
class Stage:
    """A stage of a run, its copies in the loop taken together."""

    name: str
    state: str  # CACHED: nothing ran; UNKNOWN: the run is over, but its details stopped before
    shards: str  # "2/3" are done; "" outside the loop
    seconds: float | None  # None: not ended, or not done at all


def status(
    run_id: Annotated[str, typer.Argument(help="A run, for its stages; else the last runs.")] = "",
    last: Annotated[int, typer.Option(help="How many runs.", min=1, max=200)] = 10,
    endpoint: options.Endpoint = "",
    namespace: options.Namespace = "",
) -> None:
    """Print the last runs, or the stages of one run."""
    server = Server(endpoint, namespace)
    if not run_id:
        Console(width=400).print(_runs(server, server.last_runs(last)))  # as wide as it needs: a URL is not cut
        return
    run = server.run(run_id)
    Console(width=max(120, Console().width)).print(_table(run))
    changed = _last(run)
    if said := stopped(run) or (f"Last change at {_clock(changed)}." if changed else ""):
        print(said)
    print(server.run_url(run_id))


def stages(run: Any) -> list[Stage]:
    """The pipeline's own stages in the order they started; of Argo's other nodes only drivers that failed."""
    copies: dict[str, list[Any]] = {}
    for detail in sorted(_details(run), key=lambda d: _real(d.start_time) or datetime.max.replace(tzinfo=UTC)):
        if detail.state and _shown(detail):  # Argo gives no state to what it left out after a failure
            copies.setdefault(detail.display_name, []).append(detail)
    rounds = max((len(d.child_tasks or []) for d in _details(run) if d.display_name == ITERATIONS), default=0)
    return [_stage(name, of_name, rounds if name in SHARDED else 1, run) for name, of_name in copies.items()]


def failures(run: Any) -> str:
    """ "; failed: …" with the names of the failed stages; "" if none is known to have failed."""
    failed = [s.name + (f" ({s.shards} shards)" if s.shards else "") for s in stages(run) if s.state == "FAILED"]
    return f"; failed: {', '.join(failed)}" if failed else ""


def stopped(run: Any) -> str:
    """A sentence if the server no longer learns what the stages do, which is no fault of theirs; else ""."""
    last = _last(run)
    rows = run.run_details.task_details or [] if run.run_details else []
    metadata = [time for d in rows if not d.display_name for time in _times(d)]
    over = run.state in ENDED and any(d.state in ("RUNNING", "PENDING") for d in _details(run))
    if last is None or not (over or any(last + LAG < time < datetime.now(UTC) - LAG for time in metadata)):
        return ""
    return (
        f"The stages' details stopped at {_clock(last)}: the server learns no more of them once Argo's record of the "
        f"run passes 1 MB. That the run is {run.state} is right."
    )


def _details(run: Any) -> list[Any]:
    """Argo's nodes; rows without a name are the server's own, of what tasks leave in the cache."""
    return [d for d in (run.run_details.task_details if run.run_details else None) or [] if d.display_name]


def _shown(detail: Any) -> bool:
    name = detail.display_name
    if MACHINERY.fullmatch(name):
        return name.endswith("-driver") and detail.state == "FAILED"
    # The root node carries the workflow's name, after which Kubernetes names its pods.
    return not any((child.pod_name or "").startswith(f"{name}-") for child in detail.child_tasks or [])


def _stage(name: str, copies: list[Any], rounds: int, run: Any) -> Stage:
    total = max(len(copies), rounds)
    done = sum(d.state == "SUCCEEDED" for d in copies)
    ended = [d for d in copies if d.state in ENDED]
    span = [time for d in copies for time in _times(d)]
    cached = all(d.start_time == d.end_time for d in copies)
    seconds = (max(span) - min(span)).total_seconds() if span and len(ended) == total and not cached else None
    states = {d.state for d in copies}
    if "FAILED" in states:
        state = "FAILED"
    elif done == total:
        state = "CACHED" if cached else "SUCCEEDED"
    elif run.state in ENDED:
        state = "UNKNOWN"
    else:
        state = "PENDING" if states == {"PENDING"} else "RUNNING"
    return Stage(name, state, f"{done}/{total}" if name in SHARDED else "", seconds)


def _last(run: Any) -> datetime | None:
    """When a stage was last seen to start or to end."""
    return max((time for d in _details(run) for time in _times(d)), default=None)


def _clock(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _times(detail: Any) -> list[datetime]:
    """When it started and ended, as far as it did."""
    return [time for time in (_real(detail.start_time), _real(detail.end_time)) if time]


def _real(time: datetime | None) -> datetime | None:
    """The server writes "not yet" as the year 1 or 1970."""
    return time if time is not None and time.year > 1970 else None


def _runs(server: Server, runs: list[Any]) -> Table:
    table = Table(title=f"Last runs at {server.endpoint}")
    for title in ("name", "state", "created (UTC)", "URL"):
        table.add_column(title, no_wrap=True)
    for run in runs:
        created = _real(run.created_at)
        when = f"{created.astimezone(UTC):%Y-%m-%d %H:%M}" if created else ""
        table.add_row(run.display_name, run.state, when, server.run_url(run.run_id))
    return table


def _table(run: Any) -> Table:
    table = Table(title=f"{run.display_name}: {run.state}")
    for title in ("stage", "state", "shards", "duration"):
        table.add_column(title, justify="right" if title == "duration" else "left")
    for stage in stages(run):
        seconds = "" if stage.seconds is None else str(timedelta(seconds=round(stage.seconds)))
        table.add_row(stage.name, stage.state, stage.shards, seconds)
    return table
