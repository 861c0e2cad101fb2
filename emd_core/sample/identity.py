"""Who is drawn: the traits that stay the same over a video."""

from dataclasses import dataclass

import numpy as np

Colour = tuple[float, float, float]  # RGB in [0, 255]

SKINS = ((244, 208, 184), (228, 184, 152), (206, 156, 118), (172, 118, 82), (128, 84, 58), (98, 64, 46))
HAIRS = ((36, 26, 22), (70, 44, 28), (118, 78, 44), (176, 134, 78), (150, 66, 36), (142, 138, 134))
IRISES = ((74, 48, 30), (104, 74, 40), (92, 112, 70), (84, 122, 156), (108, 124, 130))


@dataclass(frozen=True)
class Identity:
    """Lengths in head units: half the height of the face is 1 (see landmarks.py)."""

    skin: Colour
    hair: Colour
    iris: Colour
    lips: Colour
    jaw_width: float  # half the width of the head
    jaw_square: float  # exponent: small = square jaw, large = pointed chin
    eye_spacing: float  # from the middle to an eye's centre
    eye_width: float  # half
    eye_height: float  # half, neutral
    eye_tilt: float
    brow_thickness: float
    brow_arch: float
    nose_width: float  # half
    nose_length: float
    mouth_width: float  # half, neutral
    mouth_y: float
    lip_thickness: float
    hair_length: float  # how far down the hair reaches beside the face; -1 = bald
    fringe: float  # how far the hair covers the forehead
    beard: float  # opacity in [0, 1]
    freckles: float  # contrast
    texture_seed: int


def random_identity(rng: np.random.Generator) -> Identity:
    """Draw all traits independently."""
    skin = np.array(SKINS[rng.integers(len(SKINS))]) * rng.uniform(0.92, 1.06) + rng.normal(0, 3, 3)
    hair = np.array(HAIRS[rng.integers(len(HAIRS))]) + rng.normal(0, 5, 3)
    lips = skin * (0.84, 0.58, 0.60) + (18, 4, 8) + rng.normal(0, 5, 3)
    return Identity(
        skin=_colour(skin),
        hair=_colour(hair),
        iris=_colour(np.array(IRISES[rng.integers(len(IRISES))]) + rng.normal(0, 4, 3)),
        lips=_colour(lips),
        jaw_width=rng.uniform(0.68, 0.80),
        jaw_square=rng.uniform(0.72, 1.05),
        eye_spacing=rng.uniform(0.28, 0.34),
        eye_width=rng.uniform(0.125, 0.16),
        eye_height=rng.uniform(0.05, 0.075),
        eye_tilt=rng.uniform(-0.02, 0.03),
        brow_thickness=rng.uniform(0.03, 0.065),
        brow_arch=rng.uniform(0.03, 0.08),
        nose_width=rng.uniform(0.11, 0.17),
        nose_length=rng.uniform(0.24, 0.32),
        mouth_width=rng.uniform(0.22, 0.30),
        mouth_y=rng.uniform(0.53, 0.60),
        lip_thickness=rng.uniform(0.035, 0.07),
        hair_length=float(rng.choice([-1.0, 0.0, 0.3, 1.1], p=[0.1, 0.4, 0.2, 0.3])),
        fringe=rng.uniform(0.0, 0.28),
        beard=float(rng.choice([0.0, 0.35, 0.75], p=[0.65, 0.2, 0.15])),
        freckles=rng.uniform(0.0, 0.05),
        texture_seed=int(rng.integers(2**31)),
    )


def _colour(rgb: np.ndarray) -> Colour:
    r, g, b = np.clip(rgb, 5, 250).tolist()
    return r, g, b
