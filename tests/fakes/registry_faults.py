"""Processes that move an alias on a real registry and are killed on the way, or start at once."""

import os
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from typing import Any

import mlflow
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

from tests.fakes.processes import PROCESSES

WRITES = [
    name for name in vars(SqlAlchemyStore) if name.split("_")[0] in ("set", "delete", "update", "create", "rename")
]


def killed_before(n: int) -> None:
    """This process is killed before its n-th write (counted from 1) to the registry."""
    written = 0

    def counted(write: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal written
            written += 1
            if written == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return write(*arguments, **named)

        return call

    for name in WRITES:
        setattr(SqlAlchemyStore, name, counted(getattr(SqlAlchemyStore, name)))


def _child(uri: str, kill: int, start: "Barrier | None", act: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ["MLFLOW_TRACKING_URI"] = uri
    mlflow.set_tracking_uri(uri)
    if kill:
        killed_before(kill)
    if start is not None:
        mlflow.MlflowClient().search_registered_models()  # connected before the race begins
        start.wait()
    act(*arguments)


def begin(
    uri: str, act: Callable[..., Any], *arguments: Any, kill: int = 0, start: "Barrier | None" = None
) -> BaseProcess:
    """A process of its own that calls act(*arguments), when all of `start` do; killed before its `kill`-th write."""
    process = PROCESSES.Process(target=_child, args=(uri, kill, start, act, arguments))
    process.start()
    return process
