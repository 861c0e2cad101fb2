"""What may befall a training crop: what videos suffer on their way. No pixel moves, so masks stay.

Crops are HWC uint8 RGB. Everything random comes from `rng`.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from emd_core.detection import perturbations
from emd_core.detection.recipe import Recipe

Crop = NDArray[np.uint8]
EACH = 0.3  # chance of each way of damage, of a crop that is damaged
CODED = 0.7  # and that it is coded once more, half of them each by JPEG and by H.264
ALONE = 7  # crf that one frame alone needs more than a clip, for the same mean error


def augment(crop: Crop, recipe: Recipe, rng: np.random.Generator) -> Crop:
    """The crop as somebody else might have sent it."""
    return damage(crop, rng) if rng.random() < recipe.damage else crop


def damage(crop: Crop, rng: np.random.Generator) -> Crop:
    """Some of what a video suffers on its way, in that order."""
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
