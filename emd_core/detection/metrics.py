"""Metrics: counts first, ratios last, so that batch size never changes a number. Label 1 = manipulated.

The ratios take one slice's counts or arrays of them (a bootstrap has a thousand); what is undefined is NaN.
"""

from typing import Any

import numpy as np

THRESHOLD = 0.5
COUNTS = ["tn", "fp", "fn", "tp"]


def confusion(predicted_BHW: np.ndarray, truth_BHW: np.ndarray) -> np.ndarray:
    """Pixel counts per image, B4 in the order of COUNTS, of two bool arrays."""
    cell_BHW = 2 * truth_BHW + predicted_BHW
    return np.stack([(cell_BHW == k).sum(axis=(1, 2)) for k in range(4)], axis=1)


def ratio(part: Any, whole: Any) -> Any:
    """part / whole, NaN where the whole is 0; a plain float of plain numbers."""
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient = np.true_divide(part, whole)
    return quotient if np.ndim(quotient) else float(quotient)


def pixel_accuracy(tn: Any, fp: Any, fn: Any, tp: Any) -> Any:
    """Share of pixels that are classified right."""
    return ratio(tn + tp, tn + fp + fn + tp)


def iou(tn: Any, fp: Any, fn: Any, tp: Any) -> Any:
    """IoU of the manipulated pixels; NaN where neither truth nor prediction has any."""
    return ratio(tp, tp + fp + fn)


def mean_iou(tn: Any, fp: Any, fn: Any, tp: Any) -> Any:
    """Mean of the IoU of the manipulated pixels and that of the others; NaN where a class is absent from both."""
    return 0.5 * (iou(tn, fp, fn, tp) + iou(tp, fn, fp, tn))


def roc(label: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rate over all thresholds."""
    from sklearn.metrics import roc_curve  # a served model does without scikit-learn

    false_positive_rate, true_positive_rate, _ = roc_curve(label, score)
    return false_positive_rate, true_positive_rate


def equal_error_rate(label: np.ndarray, score: np.ndarray) -> float:
    """Where as many originals are called fakes as fakes originals, on the straight lines between the ROC's points."""
    false_positive_rate, true_positive_rate = roc(label, score)
    return float(np.interp(0, false_positive_rate - (1 - true_positive_rate), false_positive_rate))
