"""Where a mask lies, in words."""

import numpy as np
import pytest

from emd_core.verdicts.regions import EYES, MOUTH, OUTSIDE, WHOLE, in_words, parts, share_of_parts

SIDE = 64
POINTS = np.array([[24, 26], [40, 26], [32, 34], [26, 44], [38, 44]], float)


def box(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[y1:y2, x1:x2] = True
    return mask


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (box(22, 38, 42, 50), [MOUTH]),
        (box(15, 18, 49, 30), [EYES]),
        (box(16, 12, 48, 55), [WHOLE]),
        (box(0, 0, 12, 12), [OUTSIDE]),
        (box(0, 0, 0, 0), []),
        (box(22, 38, 64, 50), [MOUTH, OUTSIDE]),
    ],
)
def test_a_mask_in_words(mask: np.ndarray, words: list[str]) -> None:
    assert in_words(share_of_parts(mask, POINTS)) == words


def test_parts_follow_a_tilted_and_a_turned_head() -> None:
    turn = np.radians(25)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    tilted = (POINTS - 32) @ rotation.T + 32
    mouth = parts(tilted, SIDE)[MOUTH]
    y, x = np.nonzero(mouth)
    assert np.hypot(x.mean() - tilted[3:, 0].mean(), y.mean() - tilted[3:, 1].mean()) < 1.5
    profile = POINTS.copy()
    profile[[1, 4], 0] = profile[[0, 3], 0] + 1  # both eyes in nearly one place
    assert parts(profile, SIDE)[WHOLE].sum() > 300
