"""Scoring of a split: one row per frame, pixel counts included, from which every metric follows."""

from collections import defaultdict

import numpy as np
import pandas as pd
from tqdm import tqdm

from emd_core.dataset import FaceCrops
from emd_core.inference import predict_all
from emd_core.metrics import (
    COUNTS,
    HISTOGRAM_BINS,
    THRESHOLD,
    confusion,
    histogram_roc,
    roc,
    score_histogram,
    slice_rows,
    slices,
)
from emd_core.models.emd import EMD
from emd_core.precision import Precision

COLUMNS = ["video", "frame", "method", "quality", "label", "target", "source"]
Histograms = dict[tuple[str, str], np.ndarray]


def score_frames(
    model: EMD, crops: FaceCrops, batch_size: int, precision: Precision
) -> tuple[pd.DataFrame, Histograms]:
    """The crops' table with `score` and the pixel counts of COUNTS; pixel histograms by (method, quality)."""
    histograms: Histograms = defaultdict(lambda: np.zeros((2, HISTOGRAM_BINS), np.int64))
    scores, counts = [], []
    progress = tqdm(total=len(crops), desc="evaluate", unit="crop")
    for batch, score, mask_score in predict_all(model, crops, batch_size, precision):
        truth = batch.mask.squeeze(1).numpy()
        scores.append(score)
        counts.append(confusion(mask_score > THRESHOLD, truth))
        rows = crops.table.iloc[batch.index]
        for method, quality in set(zip(rows["method"], rows["quality"], strict=True)):
            same = ((rows["method"] == method) & (rows["quality"] == quality)).to_numpy()
            histograms[method, quality] += score_histogram(mask_score[same], truth[same])
        progress.update(len(rows))
    progress.close()
    frames = crops.table[COLUMNS].assign(score=np.concatenate(scores))
    frames[COUNTS] = np.concatenate(counts)
    return frames, histograms


def roc_table(frames: pd.DataFrame, histograms: Histograms, original: str, points: int = 200) -> pd.DataFrame:
    """ROC curves of classification (per frame) and localisation (per pixel) of every slice, thinned for plotting."""
    tables = []
    grid = np.linspace(0, 1, points)
    for method, quality in slices(frames):
        rows = slice_rows(frames, method, quality)
        curves = {
            "frame": roc(rows["label"].to_numpy(), rows["score"].to_numpy()),
            "pixel": histogram_roc(histograms[method, quality] + histograms[original, quality]),
        }
        for task, (fpr, tpr) in curves.items():
            values = {"slice": f"{method}/{quality}", "task": task, "fpr": grid, "tpr": np.interp(grid, fpr, tpr)}
            tables.append(pd.DataFrame(values))
    return pd.concat(tables, ignore_index=True)
