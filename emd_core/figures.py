"""Pictures of an evaluation: ROC curves and panels of crops with their masks."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from emd_core.dataset import FaceCrops
from emd_core.inference import predict
from emd_core.manifest import ORIGINAL
from emd_core.metrics import slices
from emd_core.models.emd import EMD
from emd_core.precision import Precision


def save_roc(path: Path, curves: pd.DataFrame) -> None:
    """Classification left, localisation right, one line per slice; `curves` as evaluation.roc_table makes them."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axis, (task, title) in zip(
        figure.subplots(1, 2), [("frame", "Classification"), ("pixel", "Localisation")], strict=True
    ):
        for name, curve in curves[curves["task"] == task].groupby("slice"):
            axis.plot(curve["fpr"], curve["tpr"], label=name)
        axis.plot([0, 1], [0, 1], color="0.8", linewidth=1)
        axis.set(title=title, xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
    axis.legend(fontsize="small", loc="lower right")
    FigureCanvasAgg(figure).print_png(str(path))


def pick_examples(frames: pd.DataFrame) -> list[int]:
    """Rows worth looking at, per slice: the fake nearest to its slice's median score and the one most missed."""
    picked = []
    for method, quality in slices(frames):
        rows = np.flatnonzero((frames["method"] == method) & (frames["quality"] == quality))
        score = frames["score"].to_numpy()[rows]
        typical, missed = np.abs(score - np.median(score)).argmin(), score.argmin()
        picked += [int(rows[typical]), int(rows[missed])]
    return picked


def save_panels(path: Path, model: EMD, crops: FaceCrops, frames: pd.DataFrame, precision: Precision) -> None:
    """One row per example: original, manipulated, true mask, predicted mask."""
    rows = pick_examples(frames)
    figure = Figure(figsize=(7, 1.75 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 4, squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        fake = crops.read(np.array([row]))
        _, mask_score = predict(model, fake.image, precision)
        shown = [
            _original_of(crops, row),
            fake.image[0].permute(1, 2, 0).numpy(),
            fake.mask[0, 0].numpy(),
            mask_score[0],
        ]
        entry = frames.loc[row]
        titles = [
            "original",
            f"{entry['video']} #{entry['frame']}",
            "true mask",
            f"predicted, score {entry['score']:.2f}",
        ]
        for axis, picture, title in zip(line, shown, titles, strict=True):
            axis.set_title(title, fontsize=7)
            axis.axis("off")
            if picture is not None:
                axis.imshow(picture, cmap="gray", vmin=0, vmax=1 if picture.ndim == 2 else 255)
    FigureCanvasAgg(figure).print_png(str(path))


def _original_of(crops: FaceCrops, row: int) -> np.ndarray | None:
    """The original's crop of the same frame, HWC uint8, where the split has it."""
    fake, table = crops.table.loc[row], crops.table
    same = (table["method"] == ORIGINAL) & (table["target"] == fake["target"]) & (table["quality"] == fake["quality"])
    match = table.index[same & (table["frame"] == fake["frame"])]
    return None if match.empty else crops.read(match.to_numpy()[:1]).image[0].permute(1, 2, 0).numpy()
