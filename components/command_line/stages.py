"""A stage's signature is its command line: --params, --section and one path per port."""

import importlib
import inspect
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

from components import Ins
from components.command_line import options
from components.command_line.kubeflow import list_paths, write_outputs
from emd_core.config import C, Config, lay_over, read_params
from emd_core.config import section as read_section
from emd_core.errors import UserError
from emd_core.storage.atomic import require_replaceable


def load_stage(name: str) -> Callable[..., None]:
    """The stage function `name` of the module `components.<name>`."""
    stage: Callable[..., None] = getattr(importlib.import_module(f"components.{name}"), name)
    return stage


def section_type(name: str) -> type[Config]:
    """The type of the section `name` of a params file, that of a stage or of a command."""
    module = importlib.import_module(f"components.{name}")
    found: type[Config] = getattr(module, name.title().replace("_", ""))
    return found


def ports(stage: Callable[..., None]) -> dict[str, str]:
    """Port name -> "in" or "out", in the order of the signature."""
    return {
        name: next(direction for direction in get_args(p.annotation)[1:])
        for name, p in inspect.signature(stage).parameters.items()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    }


def command(name: str) -> Callable[..., None]:
    """A function that typer can read: --params, --section and one path per port."""
    stage = load_stage(name)
    parameters = inspect.signature(stage).parameters
    model = parameters["cfg"].annotation

    def call(params: Path, section: str, set: list[str], pipeline_run: str, kubeflow: str, **paths: Any) -> None:
        cfg = read_cfg(name, model, params, section, set)
        if pipeline_run:
            os.environ["EMD_PIPELINE_RUN"] = pipeline_run
        elif kubeflow:
            raise UserError(
                "EMD_PIPELINE_RUN is empty in a Kubeflow task; compile the pipeline again, it names the run."
            )
        executor_input = parse_json(kubeflow, "--kubeflow") if kubeflow else None
        if executor_input:
            paths |= {port: list_paths(executor_input, port) for port, path in paths.items() if path == []}
        require_places(stage, paths)
        stage(cfg, **paths)
        if executor_input and os.environ.get("RANK", "0") == "0":  # torchrun's other processes write nothing
            write_outputs(name, executor_input, paths)

    def option(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

    def folder(port: str, direction: str) -> inspect.Parameter:
        if parameters[port].annotation is Ins:
            return option(port, options.InFolders, [])
        return option(port, options.InFolder if direction == "in" else options.OutFolder, parameters[port].default)

    taken = [
        option("params", options.ParamsFile, Path("params.yaml")),
        option("set", options.Changes, []),
        option("section", options.Section, ""),
        option("pipeline_run", options.Run, ""),
        option("kubeflow", options.Kubeflow, ""),
        *(folder(port, direction) for port, direction in ports(stage).items()),
    ]
    call.__signature__ = inspect.Signature(taken)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in taken}
    return call


def read_cfg(name: str, model: type[C], params: Path, section: str, changes: Sequence[str]) -> C:
    """The section of the params file, or the JSON text `section`, with the changes."""
    given = {name: parse_json(section, "--section")} if section else read_params(params)
    return read_section(lay_over(given, changes), name, model, where="--section" if section else str(params))


def require_places(stage: Callable[..., None], paths: dict[str, Any]) -> None:
    """Refuse folders to read that are not there, and new ones where nothing can be written, before the work."""
    for port, direction in ports(stage).items():
        given = paths[port]
        if direction == "in" and given == []:
            raise UserError(f"--{port} is missing; name at least one folder.")
        for path in given if isinstance(given, list) else [given]:
            if direction == "in" and path is not None and not path.exists():
                raise UserError(f"--{port} {path} does not exist; run the stage that makes it first.")
            if direction == "out" and path is not None and not path.is_dir():
                require_replaceable(path)


def parse_json(text: str, option: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{option} is not valid JSON ({error}); quote it as one argument.") from None
