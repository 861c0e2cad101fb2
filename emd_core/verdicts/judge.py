"""Judges files, one after another, with one model."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from emd_core.verdicts.verdict import Seen, Verdict

THUMBNAIL = 160  # px, side of the picture of a face that is kept for the report
MASK_SIDE = 64  # px, side of its mask


class Look(NamedTuple):
    """A face in one frame, as a report shows it."""

    seen: Seen
    picture: bytes  # JPEG of the square that was judged, THUMBNAIL px
    mask: NDArray[
        np.uint8
    ]  # MASK_SIDE x MASK_SIDE, of the same square; probability that a pixel is manipulated, 255 = 1


class Judgement(NamedTuple):
    """A verdict with the pictures that stand behind it."""

    verdict: Verdict
    looks: list[list[Look]]  # per track, in the order of verdict.tracks; each in order of time, as track.seen
