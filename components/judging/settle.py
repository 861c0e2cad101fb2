"""`python -m components.judging.settle`: which version a model's address means now.

The first task of the Kubeflow pipeline `emd-detect`: an alias may move while its shards are judged, for days.
"""

from typing import Annotated

import typer

from components.command_line.exits import exit_on_user_error, telemetry_off
from components.command_line.kubeflow import write_views
from components.command_line.options import Kubeflow
from components.command_line.stages import parse_json
from components.judging.model import SETTLED, identify


def settle(
    model: Annotated[str, typer.Option(help="Folder, or a registered model.")],
    kubeflow: Kubeflow,
) -> None:
    """Hand the address of the version to Kubeflow."""
    settled = identify(model)
    print(f"{model} is {settled}")
    write_views(parse_json(kubeflow, "--kubeflow"), {"settled": {SETTLED: settled}})


if __name__ == "__main__":
    telemetry_off()
    exit_on_user_error(lambda: typer.run(settle))
