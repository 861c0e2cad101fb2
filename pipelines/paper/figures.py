"""Figure 4 of the paper: ROC curves with and without FER, and accuracy against the number of training videos."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

TASKS = {"frame": ("classification", "-"), "pixel": ("segmentation", ":")}


def save_roc_pair(path: Path, curves: Mapping[str, Path]) -> None:
    """One colour per network (label -> its roc.csv), solid for classification and dotted for segmentation."""
    figure = Figure(figsize=(5.5, 4.5), layout="constrained")
    axis = figure.subplots()
    for k, (label, file) in enumerate(curves.items()):
        table = pd.read_csv(file)
        for task, (name, style) in TASKS.items():
            curve = table[table["task"] == task]
            axis.plot(curve["fpr"], curve["tpr"], style, color=f"C{k}", label=f"{name}, {label}")
    axis.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1.01))
    axis.legend(fontsize="small", loc="lower right")
    FigureCanvasAgg(figure).print_png(str(path))


def save_accuracy_by_size(path: Path, by_size: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> None:
    """Accuracy with its interval against training videos; per slice, number of videos -> the slice's metrics."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    tasks = {"frame_accuracy": "Classification", "pixel_accuracy": "Segmentation"}
    for axis, (key, title) in zip(figure.subplots(1, 2), tasks.items(), strict=True):
        for name, sizes in by_size.items():
            videos = sorted(sizes)
            value = [100 * sizes[n][key] for n in videos]
            below = [100 * (sizes[n][key] - sizes[n][f"{key}_low"]) for n in videos]
            above = [100 * (sizes[n][f"{key}_high"] - sizes[n][key]) for n in videos]
            axis.errorbar(videos, value, yerr=(below, above), marker="o", capsize=3, label=name)
        axis.set(title=title, xlabel="training videos", ylabel="accuracy, %")
        axis.legend(fontsize="small", loc="lower right")
    FigureCanvasAgg(figure).print_png(str(path))
