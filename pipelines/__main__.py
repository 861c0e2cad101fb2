"""`python -m pipelines <command>`."""

import typer

from components.__main__ import exit_on_user_error, telemetry_off
from pipelines.cell import cell
from pipelines.experiments import experiments
from pipelines.summary import summary


def main() -> None:
    telemetry_off()
    app = typer.Typer(add_completion=False, no_args_is_help=True, help="The pipeline as a whole.")
    for command in (summary, cell, experiments):
        app.command()(command)
    app(prog_name="python -m pipelines")


if __name__ == "__main__":
    exit_on_user_error(main)
