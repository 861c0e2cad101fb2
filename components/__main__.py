"""`python -m components <stage>`: what there is to run."""

import ast
import sys
from pathlib import Path

import typer

from components import STAGES
from components.command_line.exits import exit_on_user_error, telemetry_off
from components.command_line.stages import command, load_stage

# What is no stage of the pipeline: a function of that name in a file of that name.
COMMANDS = {
    "detect": "Judge videos and pictures: is a face manipulated, when and where (not a stage of the pipeline).",
    "serve": "Judge videos and pictures over HTTP, with a page (not a stage of the pipeline).",
    "merge_verdicts": "One table and page of what detect wrote into several folders (not a stage of the pipeline).",
    "look": "Contact sheets of crops with their masks, worst detections first (not a stage of the pipeline).",
    "sync": "Send to MLflow what runs kept while it was away (not a stage of the pipeline).",
    "lineage": "Where a registered model comes from, and what differs here (not a stage of the pipeline).",
    "rollback": "Make the champion's predecessor the champion again (not a stage of the pipeline).",
}


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


if __name__ == "__main__":
    exit_on_user_error(main)
