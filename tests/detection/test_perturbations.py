"""Every perturbation of a clip, by table."""

import cv2
import numpy as np
import pytest

from emd_core.detection.perturbations import PERTURBATIONS, Clip, gamma, h264, require_known
from emd_core.errors import UserError
from tests.fakes.tiny import draw_face


def clip(size: int = 97, n: int = 4) -> Clip:
    """A face that moves, with grain; an odd side, which 4:2:0 has not."""
    rng = np.random.default_rng(0)
    images = []
    for i in range(n):
        image = np.full((size, size, 3), (60, 110, 90), np.uint8)
        draw_face(image, size // 2 + 2 * i, size // 2, size // 2)
        images.append(np.clip(image + rng.normal(0, 6, image.shape), 0, 255))
    return np.stack(images).astype(np.uint8)


def change(name: str, shown: Clip) -> float:
    """Mean change in grey levels."""
    return float(np.abs(PERTURBATIONS[name](shown).astype(int) - shown).mean())


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_keeps_the_form_and_changes_pixels_alike_each_time(name: str) -> None:
    shown = clip()
    before = shown.copy()
    once, again = PERTURBATIONS[name](shown), PERTURBATIONS[name](shown.copy())
    assert once.shape == shown.shape and once.dtype == np.uint8
    assert (once == again).all() and (shown == before).all()
    assert 0.05 < change(name, shown) < 40
    for changed, image in zip(once, shown, strict=True):  # the same picture, channels and places kept
        a, b = (cv2.GaussianBlur(x, (0, 0), 4).astype(float).ravel() for x in (changed, image))
        assert np.corrcoef(a, b)[0, 1] > 0.97


@pytest.mark.parametrize(
    "names",
    [
        ("h264_crf23", "h264_crf32", "h264_crf40"),
        ("jpeg_q75", "jpeg_q30"),
        ("blur_s1", "blur_s2"),
        ("noise_s5", "noise_s15"),
        ("resize_half", "resize_quarter"),
    ],
)
def test_stronger_ones_change_more(names: tuple[str, ...]) -> None:
    changes = [change(name, clip()) for name in names]
    assert changes == sorted(changes) and len(set(changes)) == len(changes)


def test_single_crops_do_not_depend_on_their_clip() -> None:
    for name in set(PERTURBATIONS) - {n for n in PERTURBATIONS if n.startswith("h264")}:
        assert (PERTURBATIONS[name](clip())[2] == PERTURBATIONS[name](clip()[2:3])[0]).all(), name


def test_a_clip_keeps_its_order_and_every_frame() -> None:
    """B-frames leave the encoder out of order; levels tell which frame is which."""
    levels = np.linspace(20, 230, 30).astype(np.uint8)
    shown = np.broadcast_to(levels[:, None, None, None], (30, 33, 33, 3)).copy()
    assert np.abs(h264(shown, 23).mean(axis=(1, 2, 3)) - levels).max() < 4
    assert h264(shown[:1], 23).shape == (1, 33, 33, 3)


def test_gamma_by_hand() -> None:
    assert gamma(np.array([[[0, 128, 255]]], np.uint8), 2).tolist() == [[[0, 64, 255]]]


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    require_known(PERTURBATIONS)
    with pytest.raises(UserError, match=r"names h265, .* choose from h264_crf23, .*gamma_1\.4"):
        require_known(["jpeg_q30", "h265"])
