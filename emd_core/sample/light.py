"""One lamp, and how it shades the relief of a face."""

from typing import NamedTuple

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from emd_core.sample.identity import Colour, Identity


class Light(NamedTuple):
    """A lamp: direction towards it (x right, y down, the viewer at z = 1), share of ambient light, colour gains."""

    x: float
    y: float
    ambient: float
    colour: Colour


def random_light(rng: np.random.Generator) -> Light:
    warmth = rng.uniform(-0.06, 0.06)
    level = rng.uniform(0.85, 1.08)
    colour = (level * (1 + warmth), level, level * (1 - warmth))
    return Light(rng.uniform(-0.7, 0.7), rng.uniform(-0.8, 0.0), rng.uniform(0.45, 0.7), colour)


def shading(identity: Identity, light: Light, x: NDArray[np.float64], y: NDArray[np.float64], unit: int) -> MatLike:
    """Lambert's law, ambient + (1 - ambient) n·l, on a relief of the face: float32 HW, about 1 on average.

    `x` and `y` are the head units of each pixel, `unit` is pixels per head unit.
    """

    def bump(cx: float, cy: float, rx: float, ry: float) -> NDArray[np.float64]:
        return np.exp(-(((x - cx) / rx) ** 2) - ((y - cy) / ry) ** 2)

    z = 0.9 * np.sqrt(np.maximum(1 - (x / (1.25 * identity.jaw_width)) ** 2 - (y / 1.35) ** 2, 0.02))
    z += 0.16 * bump(0, identity.nose_length - 0.08, 0.1, 0.1) + 0.09 * bump(0, 0.02, 0.07, 0.25)
    z += 0.05 * bump(0, 0.9, 0.18, 0.12) + 0.04 * bump(0, -0.36, 0.45, 0.08)
    for side in (-1, 1):
        z += 0.06 * bump(side * 0.4, 0.18, 0.18, 0.16) - 0.08 * bump(side * identity.eye_spacing, -0.17, 0.17, 0.11)
    dz_dy, dz_dx = np.gradient(cv2.GaussianBlur(z, (0, 0), 0.03 * unit), 1 / unit)
    lamp = np.array([light.x, light.y, 1.0]) / np.linalg.norm([light.x, light.y, 1.0])
    facing: MatLike = (-dz_dx * lamp[0] - dz_dy * lamp[1] + lamp[2]) / np.sqrt(dz_dx**2 + dz_dy**2 + 1)
    shade: MatLike = light.ambient + (1 - light.ambient) * np.maximum(facing, 0)
    relative: MatLike = (shade / (0.95 * lamp[2])).astype(np.float32)
    return relative
