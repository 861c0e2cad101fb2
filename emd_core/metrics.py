"""Metrics: counts first, ratios last, so that batch size never changes a number. Label 1 = manipulated."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score, roc_curve

from emd_core.manifest import ORIGINAL

THRESHOLD = 0.5
COUNTS = ["tn", "fp", "fn", "tp"]
HISTOGRAM_BINS = 2048  # of pixel scores in [0, 1]; the AUC over bins differs from the exact one by under 1e-3


def confusion(predicted_BHW: np.ndarray, truth_BHW: np.ndarray) -> np.ndarray:
    """Pixel counts per image, B4 in the order of COUNTS, of two bool arrays."""
    cell = (2 * truth_BHW + predicted_BHW).reshape(len(truth_BHW), -1)
    return np.stack([(cell == k).sum(axis=1) for k in range(4)], axis=1)


def pixel_accuracy(tn: int, fp: int, fn: int, tp: int) -> float:
    """Share of pixels that are classified right."""
    return (tn + tp) / (tn + fp + fn + tp)


def mean_iou(tn: int, fp: int, fn: int, tp: int) -> float:
    """Mean of the IoU of the manipulated pixels and that of the others; NaN where a class is absent from both."""
    return 0.5 * (_ratio(tp, tp + fp + fn) + _ratio(tn, tn + fp + fn))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def score_histogram(score_BHW: np.ndarray, truth_BHW: np.ndarray) -> np.ndarray:
    """Pixel counts by class and score, 2 x HISTOGRAM_BINS, of scores in [0, 1]."""
    bins = np.minimum((score_BHW * HISTOGRAM_BINS).astype(np.int64), HISTOGRAM_BINS - 1)
    flat = (truth_BHW.astype(np.int64) * HISTOGRAM_BINS + bins).ravel()
    return np.bincount(flat, minlength=2 * HISTOGRAM_BINS).reshape(2, HISTOGRAM_BINS)


def histogram_roc(histogram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rate, from (0, 0) to (1, 1), of a score histogram."""
    above = np.cumsum(histogram[:, ::-1], axis=1, dtype=np.float64)
    rates = np.concatenate([np.zeros((2, 1)), above / above[:, -1:]], axis=1)
    return rates[0], rates[1]


def roc(label: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rate over all thresholds."""
    false_positive_rate, true_positive_rate, _ = roc_curve(label, score)
    return false_positive_rate, true_positive_rate


def slice_rows(frames: pd.DataFrame, method: str, quality: str) -> pd.DataFrame:
    """The rows on which a method is judged at a quality: its fakes and the originals of that quality."""
    return frames[(frames["quality"] == quality) & frames["method"].isin([method, ORIGINAL])]


def slices(frames: pd.DataFrame) -> list[tuple[str, str]]:
    """Every (method, quality) of the fakes, in order."""
    fakes = frames.loc[frames["method"] != ORIGINAL, ["method", "quality"]]
    return sorted(set(fakes.itertuples(index=False, name=None)))


def summarise(frames: pd.DataFrame, histogram: np.ndarray) -> dict[str, Any]:
    """All figures of one slice.

    `frames` has a row per frame: label, video, score and the pixel counts of COUNTS; `histogram` is the sum of
    score_histogram over the same frames. The floors are what predicting "nothing is manipulated" would reach.
    """
    videos = frames.groupby("video").agg(label=("label", "first"), score=("score", "mean"))
    tn, fp, fn, tp = (int(n) for n in frames[COUNTS].sum())
    false_positive_rate, true_positive_rate = histogram_roc(histogram)
    return {
        "frames": len(frames),
        "videos": len(videos),
        "frame_accuracy": _accuracy(frames),
        "frame_auc": float(roc_auc_score(frames["label"], frames["score"])),
        "video_accuracy": _accuracy(videos),
        "video_auc": float(roc_auc_score(videos["label"], videos["score"])),
        "pixel_accuracy": pixel_accuracy(tn, fp, fn, tp),
        "pixel_accuracy_floor": pixel_accuracy(tn + fp, 0, fn + tp, 0),
        "miou": mean_iou(tn, fp, fn, tp),
        "miou_floor": mean_iou(tn + fp, 0, fn + tp, 0),
        "pixel_auc": float(np.trapezoid(true_positive_rate, false_positive_rate)),
    }


def _accuracy(rows: pd.DataFrame) -> float:
    return float(((rows["score"] > THRESHOLD) == (rows["label"] == 1)).mean())


def summarise_slices(frames: pd.DataFrame, histograms: Mapping[tuple[str, str], np.ndarray]) -> dict[str, Any]:
    """`summarise` for every slice, keyed "method/quality"; histograms are keyed (method, quality), originals too."""
    return {
        f"{method}/{quality}": summarise(
            slice_rows(frames, method, quality), histograms[method, quality] + histograms[ORIGINAL, quality]
        )
        for method, quality in slices(frames)
    }
