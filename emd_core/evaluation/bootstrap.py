"""95 % intervals from a bootstrap that resamples videos: frames of one video are no independent samples.

A resample is a row of weights, how often each of V videos was drawn. Sums over it are products with counts per
video, whole numbers in float64, so they are exact and the same on every machine. R resamples.
"""

import numpy as np

RESAMPLES = 1000
SEED = 0


def resample(label_V: np.ndarray) -> np.ndarray:
    """Weights RV: originals and fakes are drawn apart, each as many as there are, with replacement."""
    rng = np.random.default_rng(SEED)
    weights_RV = np.zeros((RESAMPLES, len(label_V)))
    for label in (0, 1):
        videos = np.flatnonzero(label_V == label)
        if len(videos):
            weights_RV[:, videos] = rng.multinomial(len(videos), np.full(len(videos), 1 / len(videos)), RESAMPLES)
    return weights_RV


def interval(values_R: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of the resamples in which the figure is defined; NaN if there is none."""
    values_R = values_R[np.isfinite(values_R)]
    low, high = np.percentile(values_R, [2.5, 97.5]) if len(values_R) else (float("nan"), float("nan"))
    return float(low), float(high)


def frame_auc(weights_RV: np.ndarray, label_N: np.ndarray, score_N: np.ndarray, video_N: np.ndarray) -> np.ndarray:
    """AUC over the frames of each resample, R; `video_N` is the frame's column in the weights.

    The AUC is the share of pairs (fake, original) in which the fake scores higher, a tie being half a pair. Pairs are
    counted once per pair of videos; a resample weighs them.
    """
    n = weights_RV.shape[1]
    fake, real = label_N == 1, label_N == 0
    twice_won_VV = np.zeros((n, n))
    for column in np.unique(video_N[real]):
        scores = np.sort(score_N[real & (video_N == column)])
        twice_won = np.searchsorted(scores, score_N[fake], "left") + np.searchsorted(scores, score_N[fake], "right")
        twice_won_VV[:, column] = np.bincount(video_N[fake], twice_won, minlength=n)
    won_R = ((weights_RV @ twice_won_VV) * weights_RV).sum(axis=1) / 2
    fakes_R, reals_R = (weights_RV @ np.bincount(video_N[rows], minlength=n) for rows in (fake, real))
    pairs_R = fakes_R * reals_R
    return np.divide(won_R, pairs_R, out=np.full(len(won_R), np.nan), where=pairs_R > 0)
