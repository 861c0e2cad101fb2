"""Processes of their own for tests, to be killed or to start together; a script under ranks without their launcher.

They are forked from a server that has imported once what takes seconds each: torch, timm and MLflow.
"""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["components.train_emd", "mlflow.store.model_registry.sqlalchemy_store", __name__])


def exit_code(act: Callable[..., Any], *arguments: Any) -> int:
    """What act(*arguments) ends with as a process of its own; -9 if SIGKILL ended it."""
    process = PROCESSES.Process(target=act, args=arguments)
    process.start()
    return code_of(process)


def code_of(process: BaseProcess) -> int:
    """Its exit code once it has ended; one that hangs is killed and no answer."""
    process.join(300)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"{process.name} did not end in 300 s")
    return process.exitcode


def start_script(arguments: list[str], folder: Path, environment: dict[str, str], errors: Path) -> BaseProcess:
    """The script arguments[0] with the others, in the folder; what it says to stderr goes to `errors`."""
    process = PROCESSES.Process(target=_script, args=(arguments, folder, environment, errors))
    process.start()
    return process


def _script(arguments: list[str], folder: Path, environment: dict[str, str], errors: Path) -> None:
    multiprocessing.set_start_method("fork", force=True)  # as in a fresh process; the server's would be its own
    os.chdir(folder)
    os.environ.update(environment)
    with errors.open("w") as file:
        os.dup2(file.fileno(), 2)
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name="__main__")
