"""Train the expression network on an AffectNet-shaped set of faces.

Writes model.safetensors (the best epoch), metrics.json and curves.csv, and of the best epoch's answers on the
validation faces confusion.csv (a row per face) and confusion.png. A killed run goes on from its last epoch.
"""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from components import In, Out
from components.tracking.provenance import MODEL, model_digest
from components.tracking.run import RUN, stage_run
from emd_core.config import digest
from emd_core.expressions import training as core
from emd_core.expressions.training import TrainFer
from emd_core.models.parts.checkpoint import CHECKPOINT
from emd_core.models.parts.esr import EXPRESSIONS
from emd_core.models.parts.precision import pick_device, resolve
from emd_core.storage.atomic import resumable_dir
from emd_core.storage.listing import is_companion
from emd_core.training import distributed
from emd_core.training.output import best_metrics, input_key, write_training_output


def train_fer(cfg: TrainFer, *, expressions: In, fer: Out) -> None:
    """expressions: AffectNet-shaped folder; fer: the trained network."""
    distributed.refuse_several_processes("train_fer")
    history: list[dict[str, float]] = []
    found = ((p.relative_to(expressions), p) for p in expressions.rglob("*.*") if not is_companion(p.name))
    images = sorted((str(name), path.stat().st_size) for name, path in found)
    data, name = digest(images), f"train_fer {cfg.network.branches} branches {cfg.network.size} px seed {cfg.seed}"
    with (
        resumable_dir(fer, input_key(cfg, images), state=[core.PHASES, RUN]) as work,
        stage_run("train_fer", cfg, {}, name=name, resume=work / RUN) as run,
    ):

        def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
            history.append(metrics)
            run.log_metrics(metrics, epoch)

        def watch(epoch: int, _network: Any, figures: dict[str, float]) -> None:
            run.log_metrics(figures, epoch)

        run.set_tags({"data.digest": data, "precision": resolve(cfg.precision, pick_device())})
        run.log_input(expressions, data, rows=len(images), context="train")
        core.train_fer(cfg, expressions=expressions, work=work, on_epoch=on_epoch, watch=watch)
        table = core.confusion_table(cfg, expressions, work / CHECKPOINT)
        table.to_csv(work / "confusion.csv", index=False)
        save_confusion(work / "confusion.png", table)
        run.log_artifact(work / "confusion.png")
        run.log_metrics(best_metrics(history))
        write_training_output(work, history)
        run.set_tags({MODEL: model_digest(work)})


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """Of the faces of each actual class (rows), the share that was taken for each class (columns)."""
    counts = pd.crosstab(table["actual"], table["predicted"])
    counts = counts.reindex(index=EXPRESSIONS, columns=EXPRESSIONS, fill_value=0)
    return counts.div(counts.sum(axis=1).clip(lower=1), axis=0)


def save_confusion(path: Path, table: pd.DataFrame) -> None:
    """The matrix of shares, numbers in its cells."""
    matrix = shares(table).to_numpy()
    figure = Figure(figsize=(6, 5.5), layout="constrained")
    axis = figure.subplots()
    axis.imshow(matrix, cmap="Blues", vmin=0, vmax=1)
    for row, line in enumerate(matrix):
        for column, share in enumerate(line):
            colour = "white" if share > 0.5 else "black"
            axis.text(column, row, f"{share:.2f}", ha="center", va="center", fontsize=8, color=colour)
    ticks = range(len(EXPRESSIONS))
    axis.set_xticks(ticks, EXPRESSIONS, rotation=45, ha="right")
    axis.set_yticks(ticks, EXPRESSIONS)
    axis.set(xlabel="predicted", ylabel="actual")
    FigureCanvasAgg(figure).print_png(str(path))
