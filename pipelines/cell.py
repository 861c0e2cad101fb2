"""One cell of a table: a network of one kind, trained and judged on one method and quality."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from emd_core.config import read_params, section


def cell(
    step: Annotated[Literal["train", "judge"], typer.Argument(help="Which half: a mend of a figure trains nothing.")],
    network: Annotated[str, typer.Option(help="Its settings are those of params/<profile>-<network>.yaml.")],
    method: Annotated[str, typer.Option(help="Manipulation, e.g. Face2Face.")],
    quality: Annotated[str, typer.Option(help="Compression, e.g. c23.")],
    data: Annotated[Path, typer.Option(help="Folder of faces, masks and report.")],
    fer: Annotated[Path, typer.Option(help="Folder of the trained expression network.")],
    out: Annotated[Path, typer.Option(help="Folder of the cell's model and evaluation.")],
    profile: Annotated[str, typer.Option(help="Which of the profiles in params/: sample or ffpp.")] = "sample",
    seed: Annotated[int, typer.Option(help="Of the training.")] = 0,
    targets: Annotated[int | None, typer.Option(help="Number of training videos; all if not given.")] = None,
) -> None:
    """Train one network as train_emd does, or judge it as evaluate does."""
    path = Path("params") / f"{profile}-{network}.yaml"
    stage = "train_emd" if step == "train" else "evaluate"
    chosen = [f"{stage}.methods=[{method}]", f"{stage}.qualities=[{quality}]"]
    os.environ.setdefault("EMD_PIPELINE_RUN", f"{profile} {out.name}")
    faces, masks, model = data / "faces", data / "masks", out / "model"
    if step == "train":
        from components.train_emd import TrainEmd, train_emd

        params = read_params(path, [*chosen, f"train_emd.seed={seed}", f"train_emd.targets={targets or 'null'}"])
        training = section(params, stage, TrainEmd, where=str(path))
        train_emd(training, faces=faces, masks=masks, fer=fer, report=data / "report", model=model)
    else:
        from components.evaluate import Evaluate, evaluate

        judging = section(read_params(path, chosen), stage, Evaluate, where=str(path))
        evaluate(judging, model=model, faces=faces, masks=masks, evaluation=out / "evaluation")
