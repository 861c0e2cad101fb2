"""One cell of a table: a network of one kind, trained and judged on one method and quality."""

import os
from pathlib import Path
from typing import Annotated

import typer

from components.evaluate import Evaluate, evaluate
from components.train_emd import train_emd
from emd_core.config import read_params, section
from emd_core.train_emd import TrainEmd


def cell(
    network: Annotated[str, typer.Option(help="Its settings are those of params/<profile>-<network>.yaml.")],
    method: Annotated[str, typer.Option(help="Manipulation, e.g. Face2Face.")],
    quality: Annotated[str, typer.Option(help="Compression, e.g. c23.")],
    data: Annotated[Path, typer.Option(help="Folder of faces, masks and report.")],
    fer: Annotated[Path, typer.Option(help="Folder of the trained expression network.")],
    out: Annotated[Path, typer.Option(help="Folder to write model and evaluation into.")],
    profile: Annotated[str, typer.Option(help="Which of the profiles in params/: sample or ffpp.")] = "sample",
    seed: Annotated[int, typer.Option(help="Of the training.")] = 0,
    targets: Annotated[int | None, typer.Option(help="Number of training videos; all if not given.")] = None,
) -> None:
    """Train and judge one network, as train_emd and evaluate do; one process saves their second start."""
    path = Path("params") / f"{profile}-{network}.yaml"
    chosen = [
        f"{stage}.{key}"
        for stage in ("train_emd", "evaluate")
        for key in (f"methods=[{method}]", f"qualities=[{quality}]")
    ]
    params = read_params(path, [*chosen, f"train_emd.seed={seed}", f"train_emd.targets={targets or 'null'}"])
    training = section(params, "train_emd", TrainEmd, where=str(path))
    judging = section(params, "evaluate", Evaluate, where=str(path))
    os.environ.setdefault("EMD_PIPELINE_RUN", f"{profile} {out.name}")
    faces, masks, model = data / "faces", data / "masks", out / "model"
    train_emd(training, faces=faces, masks=masks, fer=fer, report=data / "report", model=model)
    evaluate(judging, model=model, faces=faces, masks=masks, evaluation=out / "evaluation")
