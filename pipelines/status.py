"""The last runs on Kubeflow, or the tasks of one run with their states and durations."""

import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pipelines.server import options
from pipelines.server.client import Server

# Argo's nodes around each task: the workflow's root, a driver per task, the pod of the task and its retries.
MACHINERY = re.compile(r"(root|executor|.*-driver)(\(\d+\))?")


@dataclass(frozen=True)
class Task:
    """A task of a run; the copies of a loop are told apart by a number."""

    name: str
    state: str
    seconds: float | None  # None: not started, or not ended
    error: str


def status(
    run_id: Annotated[str, typer.Argument(help="A run, for its tasks; else the last runs.")] = "",
    last: Annotated[int, typer.Option(help="How many runs.", min=1, max=200)] = 10,
    endpoint: options.Endpoint = "",
    namespace: options.Namespace = "",
) -> None:
    """Print the last runs, or the tasks of one run."""
    server = Server(endpoint, namespace)
    if not run_id:
        Console(width=400).print(_runs(server, server.last_runs(last)))  # as wide as it needs: a URL is not cut
        return
    run = server.run(run_id)
    console = Console(width=max(120, Console().width))
    console.print(_tasks(run))
    console.print(server.run_url(run_id), highlight=False, soft_wrap=True)


def tasks(run: Any) -> list[Task]:
    """The pipeline's own tasks in the order they started; of Argo's other nodes only drivers that failed."""
    details = [d for d in (run.run_details.task_details if run.run_details else None) or [] if _shown(d)]
    seen: Counter[str] = Counter()
    result = []
    for detail in sorted(details, key=lambda d: (_started(d), d.task_id)):
        seen[detail.display_name] += 1
        number = f" #{seen[detail.display_name]}" if seen[detail.display_name] > 1 else ""
        ended = _real(detail.start_time) and _real(detail.end_time)
        seconds = (detail.end_time - detail.start_time).total_seconds() if ended else None
        said = detail.error.message if detail.error else ""
        result.append(Task(detail.display_name + number, detail.state or "PENDING", seconds, said or ""))
    return result


def failures(run: Any) -> str:
    """ "; failed: …" with the names of the failed tasks and what they said; "" if none failed."""
    failed = [task.name + (f" ({task.error})" if task.error else "") for task in tasks(run) if task.state == "FAILED"]
    said = run.error.message if run.error and run.error.message else ""
    return "".join(f"; {part}" for part in (f"failed: {', '.join(failed)}" if failed else "", said) if part)


def _shown(detail: Any) -> bool:
    name = detail.display_name or ""
    if MACHINERY.fullmatch(name):
        return "-driver" in name and detail.state == "FAILED"
    # The root node carries the workflow's name, after which Kubernetes names its pods.
    return not any((child.pod_name or "").startswith(f"{name}-") for child in detail.child_tasks or [])


def _started(detail: Any) -> float:
    return detail.start_time.timestamp() if _real(detail.start_time) else float("inf")


def _real(time: datetime | None) -> bool:
    """The server writes "not yet" as the year 1 or 1970."""
    return time is not None and time.year > 1970


def _runs(server: Server, runs: list[Any]) -> Table:
    table = Table(title=f"Last runs at {server.endpoint}")
    for title in ("name", "state", "created (UTC)", "URL"):
        table.add_column(title, no_wrap=True)
    for run in runs:
        created = run.created_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M") if _real(run.created_at) else ""
        table.add_row(run.display_name, run.state, created, server.run_url(run.run_id))
    return table


def _tasks(run: Any) -> Table:
    table = Table(title=f"{run.display_name}: {run.state}")
    for title in ("task", "state", "duration", "said"):
        table.add_column(title, justify="right" if title == "duration" else "left")
    for task in tasks(run):
        duration = "" if task.seconds is None else f"{task.seconds:.0f} s"
        table.add_row(task.name, task.state, duration, task.error)
    return table
