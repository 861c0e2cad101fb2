"""The scores of all pixels of an evaluation in bounded memory, as close to exact as a ROC curve needs.

Up to CAPACITY scores of a class are all kept. Beyond that they are thinned as Munro and Paterson do (1980): of two
sorted runs, merged, every second score stays, for two. Of N scores the share that lies below any score is then known
to log2(N / CAPACITY) / (4 CAPACITY), whatever the scores are: for 10^9 pixels the AUC is right to 5e-5.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

CAPACITY = 1 << 17
Scores = NDArray[np.float32]


class ScoreSample:
    """Scores of one class of pixels, in the order in which they come; batches make no difference."""

    def __init__(self) -> None:
        self._rest: Scores = np.empty(0, np.float32)
        self._runs: list[Scores | None] = []  # at k: CAPACITY sorted scores that stand for 2^k each, if there are any
        self._kept: list[int] = []  # at k: which of two scores stayed last; in turn, so that the errors cancel

    def add(self, scores: Scores) -> None:
        scores = np.concatenate([self._rest, scores.ravel()])
        whole = len(scores) - len(scores) % CAPACITY
        for start in range(0, whole, CAPACITY):
            self._carry(np.sort(scores[start : start + CAPACITY]))
        self._rest = scores[whole:]

    def weighted(self) -> tuple[Scores, NDArray[np.float64]]:
        """The kept scores, and how many each stands for."""
        runs = [(self._rest, 1.0), *((run, 2.0**k) for k, run in enumerate(self._runs) if run is not None)]
        return np.concatenate([run for run, _ in runs]), np.concatenate([np.full(len(run), w) for run, w in runs])

    def _carry(self, run: Scores) -> None:
        """Put a run where there is room for it, as a counter carries its ones."""
        for k, other in enumerate(self._runs):
            if other is None:
                self._runs[k] = run
                return
            self._kept[k] = 1 - self._kept[k]
            run, self._runs[k] = np.sort(np.concatenate([other, run]), kind="stable")[self._kept[k] :: 2], None
        self._runs.append(run)
        self._kept.append(1)


class PixelScores:
    """Of the pixels that are manipulated, and of those that are not."""

    def __init__(self) -> None:
        self._classes = (ScoreSample(), ScoreSample())

    def add(self, score_BHW: Scores, truth_BHW: NDArray[np.bool_]) -> None:
        for label, sample in enumerate(self._classes):
            sample.add(score_BHW[truth_BHW == label])

    def weighted(self) -> tuple[NDArray[np.int64], Scores, NDArray[np.float64]]:
        """Label, score and weight."""
        parts = [sample.weighted() for sample in self._classes]
        labels = np.repeat([0, 1], [len(scores) for scores, _ in parts])
        return labels, np.concatenate([s for s, _ in parts]), np.concatenate([w for _, w in parts])


def pixel_roc(parts: Sequence[PixelScores]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False and true positive rate, (0, 0) to (1, 1), over all pixels of the parts; NaN where a class is absent."""
    label, score, weight = (np.concatenate(arrays) for arrays in zip(*(p.weighted() for p in parts), strict=True))
    if len(np.unique(label)) < 2:
        return np.array([np.nan]), np.array([np.nan])
    false_positive_rate, true_positive_rate, _ = roc_curve(label, score, sample_weight=weight)
    return false_positive_rate, true_positive_rate
