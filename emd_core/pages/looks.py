"""Looks at a face as a person follows them over time: runs without gaps, and what holds between two of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emd_core.verdicts.judge import Look
from emd_core.verdicts.verdict import Media, Seen, Track

MISSED = 1.5  # times the usual distance between looks: farther apart, the face was not seen in between


def runs(seen: Sequence[Seen], media: Media) -> list[list[int]]:
    """Places in `seen` of the looks that follow each other without a gap."""
    usual = -(-media.frames // max(media.looked_at, 1))
    frames = np.array([look.frame for look in seen])
    starts = np.flatnonzero(np.diff(frames) > MISSED * usual) + 1
    return [list(map(int, run)) for run in np.split(np.arange(len(frames)), starts) if len(run)]


class Place(NamedTuple):
    """A face at a moment."""

    x: float  # px of the upright frame, as in Seen
    y: float
    side: float
    look: Look  # the nearest one in time


class Course:
    """Where a face is, at any moment from its first look to its last; in a gap between looks it is nowhere."""

    def __init__(self, track: Track, looks: Sequence[Look], media: Media) -> None:
        self._looks = looks
        self._times = np.array([look.seen.time_s for look in looks])
        self._boxes = np.array([(look.seen.x, look.seen.y, look.seen.side) for look in looks], float)
        self._goes_on = {i for run in runs(track.seen, media) for i in run[:-1]}  # to the next look without a gap
        self._instant = media.seconds / max(media.frames, 1) / 2

    def at(self, time_s: float) -> Place | None:
        nearest = int(np.abs(self._times - time_s).argmin())
        if abs(self._times[nearest] - time_s) <= self._instant:  # on a look; one between two gaps has its frame alone
            return self._place(self._boxes[nearest], nearest)
        before = int(np.searchsorted(self._times, time_s)) - 1
        if before not in self._goes_on:
            return None
        first, second = self._times[before], self._times[before + 1]
        part = (time_s - first) / (second - first)
        return self._place((1 - part) * self._boxes[before] + part * self._boxes[before + 1], nearest)

    def _place(self, box: NDArray[np.float64], look: int) -> Place:
        x, y, side = map(float, box)
        return Place(x, y, side, self._looks[look])
