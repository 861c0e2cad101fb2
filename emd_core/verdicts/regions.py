"""Where in a face a mask lies, in words."""

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

MOUTH, EYES, NOSE, WHOLE, OUTSIDE = "mouth", "eyes and brows", "nose", "whole face", "outside the face"
COVERED = 0.35  # share of a part that must be manipulated for it to be named
MOST = 0.5  # share of the face from which on all of it is meant
LARGE = 0.25  # share of the manipulated pixels from which on what lies outside is named
Mask = NDArray[np.bool_]


def parts(landmarks_52: NDArray[np.floating], side: int) -> dict[str, Mask]:
    """The face and its parts in a square of `side` px, by the landmarks in its pixels.

    landmarks: left eye, right eye, nose, left and right corner of the mouth, (5, 2), x right, y down.
    """
    left, right, nose, left_mouth, right_mouth = landmarks_52.astype(np.float64)
    eyes, mouth = (left + right) / 2, (left_mouth + right_mouth) / 2
    across = right - left
    unit = max(float(np.hypot(*across)), float(np.hypot(*(mouth - eyes))) * 0.8, 1.0)  # a face in profile has no width
    angle = float(np.degrees(np.arctan2(across[1], across[0])))
    down = (mouth - eyes) / max(float(np.hypot(*(mouth - eyes))), 1e-6)

    def ellipse(centre: NDArray[np.float64], width: float, height: float) -> Mask:
        drawn = np.zeros((side, side), np.uint8)
        axes = (max(1, round(width * unit)), max(1, round(height * unit)))
        cv2.ellipse(drawn, (round(centre[0]), round(centre[1])), axes, angle, 0, 360, 1, -1)
        return drawn.astype(bool)

    return {
        WHOLE: ellipse(eyes + down * 0.45 * unit, 1.0, 1.35),
        EYES: ellipse(eyes - down * 0.12 * unit, 0.85, 0.35),
        NOSE: ellipse(nose - down * 0.1 * unit, 0.28, 0.3),
        MOUTH: ellipse(mouth, 0.5, 0.3),
    }


def share_of_parts(mask: Mask, landmarks_52: NDArray[np.floating]) -> dict[str, float]:
    """Which share of the face and of its parts the mask (SS) covers; for OUTSIDE, which share of the mask is there."""
    found = parts(landmarks_52, mask.shape[0])
    shares = {name: float(mask[part].mean()) if part.any() else 0.0 for name, part in found.items()}
    return shares | {OUTSIDE: float((mask & ~found[WHOLE]).sum() / max(mask.sum(), 1))}


def in_words(shares: Mapping[str, float]) -> list[str]:
    """The parts that are meant, from top to bottom; empty where the mask covers none of them."""
    named = [WHOLE] if shares[WHOLE] >= MOST else [part for part in (EYES, NOSE, MOUTH) if shares[part] >= COVERED]
    return named + ([OUTSIDE] if shares[OUTSIDE] >= LARGE else [])
