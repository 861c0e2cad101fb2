"""The options that every stage has beside its ports."""

from pathlib import Path
from typing import Annotated

import typer

from emd_core.errors import UserError

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
