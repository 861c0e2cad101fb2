"""Originals with a part of their own face laid over it a little changed: fakes of no method, with known masks.

After Shiohara and Yamasaki, "Detecting Deepfakes with Self-Blended Images", CVPR 2022: such a fake shows only what
manipulations have in common, a texture and colours within an edge that are not the camera's. Besides the whole face
ours change the upper or the lower face alone, as an expression's manipulation does.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from emd_core.detection.blending import OUTLINE, USUAL, lay_over, random_mask
from emd_core.detection.perturbations import blur, resize

MOUTH = OUTLINE[:, 1] > 0.5  # the points of the outline below the nose
PARTS = (OUTLINE, OUTLINE[~MOUTH], OUTLINE[MOUTH])
SHIFT, ZOOM = 0.015, 0.03  # of the part at most, in sides of the crop
GAIN, OFFSET = (0.93, 1.07), 6.0  # of each channel; the second a standard deviation, grey levels
LOSS = (1.0, 3.0)  # of texture: a factor of `resize` or a sigma of `blur`


def self_blend(crop: NDArray[np.uint8], rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The crop (HWC uint8 RGB) as such a fake, and where more than half of it is not the crop (HW)."""
    size = len(crop)
    zoom, (x, y) = 1 + rng.uniform(-ZOOM, ZOOM), rng.uniform(-SHIFT, SHIFT, 2) * size
    rest = (1 - zoom) * size / 2
    matrix = np.array([[zoom, 0, rest + x], [0, zoom, rest + y]])
    face = cv2.warpAffine(crop, matrix, (size, size), borderMode=cv2.BORDER_REFLECT_101)
    tinted = np.clip(np.rint(face * rng.uniform(*GAIN, 3) + rng.normal(0, OFFSET, 3)), 0, 255).astype(np.uint8)
    face = (resize, blur)[rng.integers(2)](tinted, rng.uniform(*LOSS))
    # A crop's square was cut around the face, so nobody has to look for it again.
    mask = random_mask(USUAL * size, size, rng, PARTS[rng.integers(len(PARTS))])
    return lay_over(crop, face, mask), mask > 0.5
