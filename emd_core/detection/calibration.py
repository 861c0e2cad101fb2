"""What is fitted to the val split's scores: a temperature and a decision threshold; and how far scores can be believed.

Scores are probabilities that a frame is manipulated; label 1 = manipulated.
"""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from emd_core.detection.metrics import THRESHOLD
from emd_core.models.checkpoint import Calibration

SMALLEST = 1e-7  # scores nearer to 0 or 1 are taken as this far: a rounded 1 has no logit
TEMPERATURES = (0.05, 20.0)  # without an error on val the likelihood has no maximum: the sharpest is always better
BINS = 15


def calibrate(label: np.ndarray, score: np.ndarray) -> Calibration | None:
    """Fit both to the scores of the val split; None where it has one class only."""
    if len(set(label.tolist())) < 2:
        return None
    return Calibration(fit_temperature(label, score), choose_threshold(label, score))


def fit_temperature(label: np.ndarray, score: np.ndarray) -> float:
    """The temperature of the least negative log-likelihood (temperature scaling, Guo et al. 2017)."""
    signed = np.where(label == 1, 1, -1) * logit(_inside(score))

    def negative_log_likelihood(log_temperature: float) -> float:
        return float(np.logaddexp(0, -signed / np.exp(log_temperature)).mean())

    fitted = minimize_scalar(negative_log_likelihood, bounds=np.log(TEMPERATURES), method="bounded")
    return float(np.exp(fitted.x))


def at_temperature(score: np.ndarray, temperature: float) -> np.ndarray:
    """The calibrated scores."""
    return np.asarray(expit(logit(_inside(score)) / temperature))


def choose_threshold(label: np.ndarray, score: np.ndarray) -> float:
    """The threshold of the highest balanced accuracy, of those between two scores and 0.5; ties: nearest to 0.5."""
    values = np.unique(score)
    candidates = np.concatenate([[THRESHOLD], (values[:-1] + values[1:]) / 2])
    real, fake = np.sort(score[label == 0]), np.sort(score[label == 1])
    kept = np.searchsorted(real, candidates, "right")  # originals that are not above the threshold
    caught = len(fake) - np.searchsorted(fake, candidates, "right")
    right = kept * len(fake) + caught * len(real)  # in whole numbers, so that ties are ties
    best = candidates[right == right.max()]
    return float(best[np.abs(best - THRESHOLD).argmin()])


def reliability(label: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean confidence, accuracy and number of frames in each of BINS equal bins of the predicted class's confidence.

    Empty bins have NaN.
    """
    confidence = np.maximum(score, 1 - score)
    right = (score > THRESHOLD) == (label == 1)
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)  # a bin holds its upper edge
    n = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        return np.bincount(bins, confidence, BINS) / n, np.bincount(bins, right, BINS) / n, n


def expected_calibration_error(label: np.ndarray, score: np.ndarray) -> float:
    """Mean distance of confidence and accuracy over the bins, weighed by their frames; in [0, 1]."""
    confidence, accuracy, n = reliability(label, score)
    return float(np.nansum(np.abs(confidence - accuracy) * n) / n.sum())


def _inside(score: np.ndarray) -> np.ndarray:
    return np.clip(score.astype(np.float64), SMALLEST, 1 - SMALLEST)
