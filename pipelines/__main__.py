"""`python -m pipelines <command>`."""

import ast
import importlib
import sys
from pathlib import Path

import typer

from components.command_line.exits import exit_on_user_error, telemetry_off

COMMANDS = (  # each a function in a file of its name
    "summary",
    "experiments",
    "cell",
    "compile",
    "validate",
    "run_local",
    "submit",
    "schedule",
    "status",
)


def main() -> None:
    telemetry_off()
    app = typer.Typer(
        add_completion=False, no_args_is_help=True, rich_markup_mode=None, help="The pipeline as a whole."
    )
    asked = sys.argv[1].replace("-", "_") if len(sys.argv) > 1 else ""
    for name in COMMANDS:
        text = ast.get_docstring(ast.parse((Path(__file__).parent / f"{name}.py").read_text())) or ""
        # Only the command that runs is imported: torch and kfp take seconds each.
        command = getattr(importlib.import_module(f"pipelines.{name}"), name) if name == asked else lambda: None
        app.command(name.replace("_", "-"), help=text, short_help=text.partition("\n")[0])(command)
    app(prog_name="python -m pipelines")


if __name__ == "__main__":
    exit_on_user_error(main)
