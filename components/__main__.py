"""`python -m components <stage>`: each stage's signature is its command line."""

import ast
import importlib
import inspect
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from components import STAGES, Ins
from components.cluster.kubeflow import list_paths, write_outputs
from emd_core.config import lay_over, read_params
from emd_core.config import section as read_section
from emd_core.errors import Preempted, UserError, fault_of_place

# Telemetry of our tools is off unless the user turned it on.
TELEMETRY_OFF = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "NO_ALBUMENTATIONS_UPDATE": "1",
}

# What is no stage of the pipeline: a function of that name in a file of that name.
COMMANDS = {
    "look": "Contact sheets of crops with their masks, worst detections first (not a stage of the pipeline).",
    "sync": "Send to MLflow what runs kept while it was away (not a stage of the pipeline).",
    "lineage": "Where a registered model comes from, and what differs here (not a stage of the pipeline).",
    "rollback": "Make the champion's predecessor the champion again (not a stage of the pipeline).",
}

ParamsFile = Annotated[Path, typer.Option(help="Params file; the stage reads its own section.")]
Section = Annotated[str, typer.Option(metavar="JSON", help="The section itself, instead of a params file.")]


def run_name(given: str) -> str:
    """The name of a pipeline run. UserError if it is a placeholder, which all runs would share."""
    if "{{" in given:
        raise UserError(
            f"EMD_PIPELINE_RUN (--pipeline-run) is '{given}', which Kubeflow did not resolve, so all runs would share "
            "their checkpoints; compile the pipeline again."
        )
    return given


Run = Annotated[
    str,
    typer.Option(
        envvar="EMD_PIPELINE_RUN", callback=run_name, help="Id of the pipeline's run: groups the stages in MLflow."
    ),
]
Kubeflow = Annotated[
    str, typer.Option(metavar="JSON", help="Kubeflow's executor input; only a Kubeflow pipeline passes it.")
]
Changes = Annotated[list[str], typer.Option(metavar="SECTION.KEY=VALUE", help="A value to change; may be repeated.")]
InFolder = Annotated[Path, typer.Option(help="Folder to read.")]
InFolders = Annotated[list[Path], typer.Option(help="Folder to read; may be repeated.")]
OutFolder = Annotated[Path, typer.Option(help="Folder to write.")]


def load_stage(name: str) -> Callable[..., None]:
    """The stage function `name` of the module `components.<name>`."""
    stage: Callable[..., None] = getattr(importlib.import_module(f"components.{name}"), name)
    return stage


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
        given = {name: _parse_json(section, "--section")} if section else read_params(params)
        cfg = read_section(lay_over(given, set), name, model, where="--section" if section else str(params))
        if pipeline_run:
            os.environ["EMD_PIPELINE_RUN"] = pipeline_run
        elif kubeflow:
            raise UserError(
                "EMD_PIPELINE_RUN is empty in a Kubeflow task; compile the pipeline again, it names the run."
            )
        executor_input = _parse_json(kubeflow, "--kubeflow") if kubeflow else None
        if executor_input:
            paths |= {port: list_paths(executor_input, port) for port, path in paths.items() if path == []}
        require_inputs(stage, paths)
        stage(cfg, **paths)
        if executor_input and os.environ.get("RANK", "0") == "0":  # torchrun's other processes write nothing
            write_outputs(name, executor_input, paths)

    def option(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

    def folder(port: str, direction: str) -> inspect.Parameter:
        if parameters[port].annotation is Ins:
            return option(port, InFolders, [])
        return option(port, InFolder if direction == "in" else OutFolder, parameters[port].default)

    options = [
        option("params", ParamsFile, Path("params.yaml")),
        option("set", Changes, []),
        option("section", Section, ""),
        option("pipeline_run", Run, ""),
        option("kubeflow", Kubeflow, ""),
        *(folder(port, direction) for port, direction in ports(stage).items()),
    ]
    call.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in options}
    return call


def require_inputs(stage: Callable[..., None], paths: dict[str, Any]) -> None:
    """Refuse folders to read that are not there."""
    for port, direction in ports(stage).items():
        given = paths[port]
        if direction == "in" and given == []:
            raise UserError(f"--{port} is missing; name at least one folder.")
        for path in given if isinstance(given, list) else [given]:
            if direction == "in" and path is not None and not path.exists():
                raise UserError(f"--{port} {path} does not exist; run the stage that makes it first.")


def _parse_json(text: str, option: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{option} is not valid JSON ({error}); quote it as one argument.") from None


def telemetry_off() -> None:
    """Before any of those tools is imported; a user's own setting wins."""
    for variable, value in TELEMETRY_OFF.items():
        os.environ.setdefault(variable, value)


def main() -> None:
    telemetry_off()
    app = typer.Typer(
        add_completion=False, no_args_is_help=True, rich_markup_mode=None, help="The stages of the pipeline."
    )
    asked = sys.argv[1] if len(sys.argv) > 1 else ""
    for name in STAGES:
        text = ast.get_docstring(ast.parse((Path(__file__).parent / f"{name}.py").read_text())) or ""
        # Only the stage that runs is imported: torch, MLflow and Great Expectations take seconds each.
        told = text.partition("\n")[0]
        app.command(name, help=text, short_help=told)(command(name) if name == asked else lambda: None)
    for name, text in COMMANDS.items():
        app.command(name, help=text, short_help=text)(load_stage(name) if name == asked else lambda: None)
    app(prog_name="python -m components")


def exit_on_user_error(run: Callable[[], Any]) -> None:
    """Exit 2 with one sentence where the user can mend it, 143 after SIGTERM; our own mistakes show their traceback."""
    try:
        run()
    except UserError as error:
        sys.exit(_refuse(str(error)))
    except Preempted as stop:
        _say(f"stopped: {stop}")
        sys.exit(128 + signal.SIGTERM)  # 143, what a shell says of a process that SIGTERM ended
    except OSError as error:
        if sentence := fault_of_place(error):
            sys.exit(_refuse(sentence))
        raise


def _refuse(sentence: str) -> int:
    _say(f"error: {sentence}")
    return 2


def _say(sentence: str) -> None:
    """On a line of its own, also where a progress bar was being drawn."""
    from tqdm import tqdm

    tqdm.write(sentence, file=sys.stderr)


if __name__ == "__main__":
    exit_on_user_error(main)
