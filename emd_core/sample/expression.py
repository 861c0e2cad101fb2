"""Facial expressions as poses of a few face muscles, and how they change over a video."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Expression(NamedTuple):
    """Deviations from the neutral face, each about -1 to 1."""

    brow_height: float
    brow_slant: float  # > 0: inner ends up (sad), < 0: inner ends down (angry)
    eye_open: float  # -1: closed
    mouth_open: float  # 0: closed
    mouth_width: float
    mouth_corners: float  # > 0: up
    asymmetry: float  # one mouth corner raised
    nose_wrinkle: float


# In AffectNet's order of classes.
EXPRESSIONS = {
    "Neutral": Expression(0, 0, 0, 0, 0, 0, 0, 0),
    "Happy": Expression(0.1, 0, -0.25, 0.4, 0.6, 1.0, 0, 0),
    "Sad": Expression(-0.1, 0.9, -0.35, 0, -0.25, -0.8, 0, 0),
    "Surprise": Expression(1.0, 0.1, 0.6, 1.0, -0.45, 0, 0, 0),
    "Fear": Expression(0.6, 0.8, 0.55, 0.45, 0.35, -0.4, 0, 0),
    "Disgust": Expression(-0.5, -0.35, -0.45, 0.2, -0.15, -0.55, 0, 1.0),
    "Anger": Expression(-0.7, -1.0, 0.15, 0.1, -0.2, -0.4, 0, 0.35),
    "Contempt": Expression(0, -0.15, -0.2, 0, 0.1, 0.1, 1.0, 0),
}
# Valence and arousal of each class in [-1, 1]: where Russell's circumplex puts these words, roughly.
VALENCE_AROUSAL = ((0, 0), (0.8, 0.4), (-0.7, -0.4), (0.2, 0.8), (-0.5, 0.7), (-0.7, 0.4), (-0.5, 0.7), (-0.5, 0.3))

POSES = np.array(list(EXPRESSIONS.values()), dtype=np.float32)
HOLD_FRAMES = (8, 17)  # an expression is reached this many frames after the one before it: [low, high)
BLINK_EVERY = 60  # frames, on average
BLINK = (-0.5, -1.0, -0.6)  # added to eye_open in the three frames of a blink
TALK_HZ = (2.0, 4.0)
FPS = 25


def random_expression(rng: np.random.Generator, label: int) -> Expression:
    """Class `label` (0 to 7, AffectNet's order) at a random strength, as one person shows it."""
    pose = POSES[label] * rng.uniform(0.6, 1.1) + rng.normal(0, 0.06, POSES.shape[1])
    pose[3] = max(pose[3], 0.0)
    return Expression(*pose.tolist())


def expression_path(rng: np.random.Generator, frames: int) -> list[Expression]:
    """An expression per frame: smooth ways between random classes, with speech and blinks."""
    keys, times = [random_expression(rng, int(rng.integers(8)))], [0]
    while times[-1] < frames:
        keys.append(random_expression(rng, int(rng.integers(8))))
        times.append(times[-1] + int(rng.integers(*HOLD_FRAMES)))
    t = np.arange(frames)
    before = np.searchsorted(times, t, side="right") - 1
    start, end = np.take(times, before), np.take(times, before + 1)
    step = (t - start) / (end - start)
    smooth = (step**2 * (3 - 2 * step))[:, None]
    table: NDArray[np.float64] = np.array(keys)
    path = table[before] * (1 - smooth) + table[before + 1] * smooth

    talk = np.sin(2 * np.pi * rng.uniform(*TALK_HZ) * t / FPS + rng.uniform(0, 2 * np.pi))
    path[:, 3] = np.maximum(path[:, 3] + rng.uniform(0, 0.25) * np.maximum(talk, 0), 0)
    for blink in np.flatnonzero(rng.random(frames) < 1 / BLINK_EVERY):
        span = path[blink : blink + len(BLINK), 2]
        span += BLINK[: len(span)]
    path[:, 2] = np.maximum(path[:, 2], -1)
    return [Expression(*row) for row in path.tolist()]
