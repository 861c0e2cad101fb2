"""Pictures of an evaluation: ROC curves, reliability, and panels of crops with their masks and activation maps."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from emd_core.detection.calibration import BINS, at_temperature, expected_calibration_error, reliability
from emd_core.detection.crops import FaceCrops
from emd_core.detection.inference import predict
from emd_core.detection.metrics import THRESHOLD
from emd_core.evaluation.cam import class_activation_map
from emd_core.evaluation.slices import slice_rows, slices
from emd_core.models.checkpoint import Calibration
from emd_core.models.detector import Detector
from emd_core.models.parts.esr import EXPRESSIONS
from emd_core.models.parts.precision import Precision, to_input
from emd_core.storage.manifest import ORIGINAL


def save_roc(path: Path, curves: pd.DataFrame) -> None:
    """Classification left, localisation right, one line per slice; `curves` as evaluation.roc_table makes them."""
    titles = {"frame": "Classification", "pixel": "Localisation"}
    tasks = [task for task in titles if task == "frame" or task in set(curves["task"])]
    figure = Figure(figsize=(4.5 * len(tasks), 4), layout="constrained")
    names = sorted(curves["slice"].unique())  # a slice has one colour, also where the other has no curve
    for axis, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        for name, curve in curves[curves["task"] == task].groupby("slice"):
            axis.plot(curve["fpr"], curve["tpr"], color=f"C{names.index(name)}", label=name)
        axis.plot([0, 1], [0, 1], color="0.8", linewidth=1)
        axis.set(title=titles[task], xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize="small", loc="lower right")
    FigureCanvasAgg(figure).print_png(str(path))


def save_reliability(path: Path, frames: pd.DataFrame, calibration: Calibration | None) -> None:
    """Accuracy over confidence of all frames, before and after calibration; below, how many frames each bin has."""
    label, score = frames["label"].to_numpy(), frames["score"].to_numpy()
    figure = Figure(figsize=(5, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot([0.5, 1], [0.5, 1], color="0.8", linewidth=1)
    before_after = {"as trained": score}
    if calibration:
        temperature = calibration.temperature
        before_after[f"temperature {temperature:.2f}"] = at_temperature(score, temperature)
    for i, (name, values) in enumerate(before_after.items()):
        confidence, accuracy, n = reliability(label, values)
        error = expected_calibration_error(label, values)
        used = n > 0
        upper.plot(confidence[used], accuracy[used], "o-", label=f"{name}, ECE {error:.3f}")
        middle = (np.arange(BINS) + 0.5 + 0.4 * (i - 0.5)) / BINS
        lower.bar(middle[used], n[used] / n.sum(), width=0.4 / BINS)
    upper.set(ylabel="accuracy", xlim=(0.46, 1.01), ylim=(-0.02, 1.02))
    upper.legend(fontsize="small", loc="lower right")
    lower.set(xlabel="confidence in the predicted class", ylabel="share of frames", ylim=(0, 1))
    FigureCanvasAgg(figure).print_png(str(path))


def save_confusions(path: Path, frames: pd.DataFrame) -> None:
    """A matrix per slice: of the originals and of the fakes (rows), the share and number taken for each."""
    found = slices(frames)
    columns = min(len(found), 4)
    lines = -(-len(found) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.7 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis in axes[len(found) :]:
        axis.axis("off")
    for axis, (method, quality) in zip(axes, found, strict=False):
        rows = slice_rows(frames, method, quality)
        said = (rows["score"] > THRESHOLD).astype(int)
        counts = np.zeros((2, 2), int)
        np.add.at(counts, (rows["label"].to_numpy(), said.to_numpy()), 1)
        shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(2, 2):
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = f"{shares[row, column]:.2f}\n{counts[row, column]}"
            axis.text(column, row, text, ha="center", va="center", color=colour)
        axis.set_xticks([0, 1], ["original", "fake"])
        axis.set_yticks([0, 1], ["original", "fake"], rotation=90, va="center")
        axis.set(title=f"{method}/{quality}", xlabel="taken for", ylabel="is")
    FigureCanvasAgg(figure).print_png(str(path))


def pick_examples(frames: pd.DataFrame) -> list[int]:
    """Rows worth looking at, per slice: a fake of median score, the one most missed, and the surest if it is alone."""
    picked: list[int] = []
    found = slices(frames)
    for method, quality in found:
        rows = np.flatnonzero((frames["method"] == method) & (frames["quality"] == quality))
        score = frames["score"].to_numpy()[rows]
        chosen = [np.abs(score - np.median(score)).argmin(), score.argmin(), score.argmax()]
        picked += dict.fromkeys(int(rows[i]) for i in chosen[: 3 if len(found) == 1 else 2])  # each once, in order
    return picked


def save_panels(path: Path, model: Detector, crops: FaceCrops, frames: pd.DataFrame, precision: Precision) -> None:
    """One row per example: original, manipulated, true mask, predicted mask, and what the expression network saw.

    What the network does not tell has no column.
    """
    rows = pick_examples(frames)
    fakes = crops.read(np.array(rows))
    score, mask_score = predict(model, fakes.image, precision)
    fer = model.fer
    if fer is not None:
        cam, expression = class_activation_map(fer, to_input(fakes.image, next(fer.parameters()).device))
    columns = 3 + (mask_score is not None) + (fer is not None)
    figure = Figure(figsize=(2 * columns, 2.35 * len(rows)), layout="constrained")
    for i, line in enumerate(figure.subplots(len(rows), columns, squeeze=False)):
        entry, image = frames.loc[rows[i]], fakes.image[i].permute(1, 2, 0).numpy()
        known = not np.isnan(entry["mask_share"])
        _show(line[0], "original", _original_of(crops, rows[i]))
        _show(
            line[1], f"{entry['method']}/{entry['quality']}\n{entry['video'].split('/')[-1]} #{entry['frame']}", image
        )
        _show(line[2], "true mask" if known else "no mask", fakes.mask[i, 0].numpy() if known else None)
        if mask_score is not None:
            _show(line[3], f"predicted mask\nscore {score[i]:.2f}", mask_score[i])
        else:
            line[1].set_title(f"{line[1].get_title()}\nscore {score[i]:.2f}", fontsize=9)
        if fer is not None:
            _show(line[-1], f"expression seen:\n{EXPRESSIONS[int(expression[i])]}", image)
            heat = cv2.resize(cam[i].float().cpu().numpy(), image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
            line[-1].imshow(heat, cmap="jet", vmin=0, vmax=1, alpha=0.45)
    FigureCanvasAgg(figure).print_png(str(path))


def _show(axis: Axes, title: str, picture: np.ndarray | None) -> None:
    """HWC uint8 or HW in [0, 1]; nothing where there is none."""
    axis.set_title(title, fontsize=9)
    axis.axis("off")
    if picture is not None:
        axis.imshow(picture, cmap="gray", vmin=0, vmax=1 if picture.ndim == 2 else 255)


def _original_of(crops: FaceCrops, row: int) -> np.ndarray | None:
    """The original's crop of the same frame, HWC uint8, where the split has it."""
    fake, table = crops.table.loc[row], crops.table
    same = (table["method"] == ORIGINAL) & (table["target"] == fake["target"]) & (table["quality"] == fake["quality"])
    match = table.index[same & (table["frame"] == fake["frame"])]
    return None if match.empty else crops.read(match.to_numpy()[:1]).image[0].permute(1, 2, 0).numpy()
