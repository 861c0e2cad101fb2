"""One cell of a table: a network trained and judged on one method and quality, or on all methods but one."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from emd_core.config import read_params, section
from emd_core.errors import UserError
from emd_core.storage.manifest import MASKS, ORIGINAL, read_manifest


def cell(
    step: Annotated[Literal["train", "judge"], typer.Argument(help="Which half: a mend of a figure trains nothing.")],
    network: Annotated[str, typer.Option(help="Its settings are those of params/<profile>-<network>.yaml.")],
    quality: Annotated[str, typer.Option(help="Compression, e.g. c23.")],
    data: Annotated[Path, typer.Option(help="Folder of faces, masks and report.")],
    fer: Annotated[Path, typer.Option(help="Folder of the trained expression network.")],
    out: Annotated[Path, typer.Option(help="Folder of the cell's model and evaluation.")],
    profile: Annotated[str, typer.Option(help="Which of the profiles in params/: sample or ffpp.")] = "sample",
    method: Annotated[str | None, typer.Option(help="Manipulation to learn and judge, e.g. Face2Face.")] = None,
    unseen: Annotated[
        str | None, typer.Option(help="Or the one that is not learned; the others of the data are, all are judged.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the training.")] = 0,
    targets: Annotated[int | None, typer.Option(help="Number of training videos; all if not given.")] = None,
) -> None:
    """Train one network as train_emd does, or judge it as evaluate does."""
    path = Path("params") / f"{profile}-{network}.yaml"
    stage = "train_emd" if step == "train" else "evaluate"
    if (method is None) == (unseen is None):
        raise UserError("a cell is of one --method, or of all but --unseen; name one of the two.")
    methods = f"[{method}]"
    if unseen is not None:
        methods = f"[{', '.join(others(data, unseen))}]" if step == "train" else "null"
    chosen = [f"{stage}.methods={methods}", f"{stage}.qualities=[{quality}]"]
    os.environ.setdefault("EMD_PIPELINE_RUN", f"{profile} {out.name}")
    faces, masks, model = data / "faces", data / "masks", out / "model"
    if step == "train":
        from components.train_emd import TrainEmd, train_emd

        params = read_params(path, [*chosen, f"train_emd.seed={seed}", f"train_emd.targets={targets or 'null'}"])
        training = section(params, stage, TrainEmd, where=str(path))
        train_emd(training, faces=faces, masks=masks, fer=fer, report=data / "report", model=model)
    else:
        from components.evaluate import Evaluate, evaluate

        # Under perturbations only the joint network is judged, once.
        judging = section(read_params(path, [*chosen, "evaluate.perturbations=[]"]), stage, Evaluate, where=str(path))
        evaluate(judging, model=model, faces=faces, masks=masks, evaluation=out / "evaluation")


def others(data: Path, unseen: str) -> list[str]:
    """The methods of the data's crops without one of them."""
    methods = set(read_manifest(data / "masks", MASKS).table["method"]) - {ORIGINAL}
    if unseen not in methods or len(methods) < 2:
        known = ", ".join(sorted(methods)) or "no method"
        raise UserError(f"--unseen is {unseen}, but the crops of {data} are of {known}; choose one of at least two.")
    return sorted(methods - {unseen})
