"""Cuts are seen where the whole picture changes, and only there."""

import numpy as np
import pytest

from emd_core.faces.shots import number_shots
from tests.fakes import tiny


def room(seed: int, light: int = 0, pan: int = 0) -> np.ndarray:
    """A picture of broad patches in colours of its own; `pan` moves the camera by so many pixels."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 256, 3) // 2 + rng.integers(0, 128, (6, 16, 3))
    wall = np.repeat(np.repeat(patches, 20, axis=0), 20, axis=1)
    return np.clip(wall[:, pan : pan + 160] + light, 0, 255).astype(np.uint8)


def test_a_cut_and_the_cut_back() -> None:
    a, b, c = room(1), room(5), room(9)
    assert number_shots([a, a, b, a, c, c, b]) == [0, 0, 1, 0, 2, 2, 1]


@pytest.mark.parametrize(
    "images",
    [
        pytest.param([room(1, pan=20 * i) for i in range(8)], id="a camera that pans"),
        pytest.param([room(1, light=8 * i) for i in range(6)], id="light that rises"),
        pytest.param(tiny.face_frames(20, 45)[::4], id="a face that crosses a plain wall"),
    ],
)
def test_what_is_no_cut(images: list[np.ndarray]) -> None:
    assert set(number_shots(images)) == {0}
