"""Cuts between the picked frames of a video: after one, another person may be seen in the same place."""

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
# Two frames are of different shots where both hold: the whole picture changed, and its colours are other ones. A camera
# that moves changes the picture, but hardly its colours; light that changes, the colours of a part.
GRID = 16  # cells along each side of the picture
LEVELS = 25  # of 255, in any channel, by which a cell has changed
CHANGED = 0.55  # share of the cells; genuine shots reach 0.46 in ten seconds
ALIKE = 0.75  # share of the colours in common; genuine shots keep 0.80


class Shots:
    """Numbers the shots of frames that come one by one, HWC uint8 RGB; a cut back to an earlier one has its number."""

    def __init__(self) -> None:
        self._now = 0
        self._last: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []  # of each shot, its last frame so far

    def number(self, image: Image) -> int:
        """The shot of the next frame, from 0."""
        seen = cells(image), colours(image)
        # The shot that goes on is asked first.
        order = sorted(range(len(self._last)), key=lambda shot: (shot != self._now, shot))
        self._now = next((shot for shot in order if not is_cut(self._last[shot], seen)), len(self._last))
        self._last[self._now : self._now + 1] = [seen]
        return self._now


def number_shots(images: Iterable[Image]) -> list[int]:
    """The shot of each picked frame."""
    shots = Shots()
    return [shots.number(image) for image in images]


def is_cut(
    before: tuple[NDArray[np.int64], NDArray[np.float64]], after: tuple[NDArray[np.int64], NDArray[np.float64]]
) -> bool:
    changed = (np.abs(before[0] - after[0]).max(axis=2) > LEVELS).mean()
    alike = np.minimum(before[1], after[1]).sum()
    return bool(changed > CHANGED and alike < ALIKE)


def cells(image: Image) -> NDArray[np.int64]:
    """Mean colour of each cell of a grid."""
    return cv2.resize(image, (GRID, GRID), interpolation=cv2.INTER_AREA).astype(np.int64)


def colours(image: Image) -> NDArray[np.float64]:
    """The share of the picture that each of 4 x 4 x 4 colours has."""
    quarters = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA).astype(np.int64) // 64
    counts = np.bincount((quarters @ [16, 4, 1]).ravel(), minlength=64)
    return np.asarray(counts / counts.sum())
