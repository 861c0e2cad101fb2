"""What may befall a training crop: what videos suffer on their way, and squares that are cut a little differently.

Crops are HWC uint8 RGB, masks HW, bool or float32 in [0, 1]. Everything random comes from `rng`.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from emd_core.detection import perturbations
from emd_core.detection.recipe import Recipe

Crop = NDArray[np.uint8]
Mask = NDArray[Any]
EACH = 0.3  # chance of each way of damage, of a crop that is damaged
CODED = 0.7  # and that it is coded once more, half of them each by JPEG and by H.264
ALONE = 7  # crf that one frame alone needs more than a clip, for the same mean error


def augment(crop: Crop, mask: Mask, recipe: Recipe, rng: np.random.Generator) -> tuple[Crop, Mask]:
    """The crop as somebody else might have cut and sent it, and its mask."""
    if recipe.jitter:
        crop, mask = jitter(crop, mask, recipe.jitter, rng)
    return (damage(crop, rng) if rng.random() < recipe.damage else crop), mask


def jitter(crop: Crop, mask: Mask, most: float, rng: np.random.Generator) -> tuple[Crop, Mask]:
    """Shifted and zoomed; beyond the border both go on as their mirror images."""
    size = len(crop)
    zoom, (x, y) = 1 + rng.uniform(-most, most), rng.uniform(-most, most, 2)
    centre = size / 2
    matrix = np.array([[zoom, 0, (1 - zoom) * centre + x * size], [0, zoom, (1 - zoom) * centre + y * size]])
    both = [
        cv2.warpAffine(a, matrix, (size, size), borderMode=cv2.BORDER_REFLECT_101)
        for a in (crop, mask.astype(np.float32))
    ]
    return np.asarray(both[0], np.uint8), like(mask, both[1])


def damage(crop: Crop, rng: np.random.Generator) -> Crop:
    """Some of what a video suffers on its way, in that order; no pixel moves, so the mask stays."""
    for change in (tone, shrink, soften, grain):
        if rng.random() < EACH:
            crop = change(crop, rng)
    if rng.random() < CODED:
        crop = (jpeg, h264)[rng.integers(2)](crop, rng)
    return crop


def tone(crop: Crop, rng: np.random.Generator) -> Crop:
    """Another exponent and gain for each channel, alike but for a tint."""
    exponent = np.exp(rng.uniform(-0.5, 0.5))
    gain = rng.uniform(0.8, 1.2) * rng.uniform(0.95, 1.05, 3)
    curve = np.clip(255 * (np.arange(256)[:, None] / 255) ** exponent * gain, 0, 255)
    return np.asarray(cv2.LUT(crop, np.rint(curve).astype(np.uint8)[None]), np.uint8)


def shrink(crop: Crop, rng: np.random.Generator) -> Crop:
    return perturbations.resize(crop, rng.uniform(1.2, 4))


def soften(crop: Crop, rng: np.random.Generator) -> Crop:
    return perturbations.blur(crop, rng.uniform(0.5, 3))


def grain(crop: Crop, rng: np.random.Generator) -> Crop:
    noise = rng.standard_normal(crop.shape, np.float32) * np.float32(rng.uniform(1, 18))
    return np.clip(np.rint(crop + noise), 0, 255).astype(np.uint8)


def jpeg(crop: Crop, rng: np.random.Generator) -> Crop:
    return perturbations.jpeg(crop, int(rng.integers(25, 96)))


def h264(crop: Crop, rng: np.random.Generator) -> Crop:
    """By x264, as a video of one frame, which needs a higher crf to suffer as much as the frames of a clip."""
    return perturbations.h264(crop[None], int(rng.integers(17, 42)) + ALONE)[0]


def like(mask: Mask, moved: NDArray[Any]) -> Mask:
    """The moved mask in the numbers of `mask`."""
    return moved > 0.5 if mask.dtype == bool else moved.astype(mask.dtype)
