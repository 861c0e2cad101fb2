"""What is done to training crops: results repeat, and nothing happens where nothing was asked for."""

import numpy as np
import pytest

from emd_core.detection import augmentation
from emd_core.detection.augmentation import augment, damage
from emd_core.detection.perturbations import h264
from emd_core.detection.recipe import PAPER
from tests.fakes.tiny import draw_face

SIZE = 96


def crop() -> np.ndarray:
    image = np.full((SIZE, SIZE, 3), 90, np.uint8)
    draw_face(image, SIZE // 2, SIZE // 2, 80)
    return image


@pytest.mark.parametrize("change", ["tone", "shrink", "soften", "grain", "jpeg", "h264"])
def test_each_way_of_damage_changes_the_crop_alike_for_equal_draws(change: str) -> None:
    function, shown = getattr(augmentation, change), crop()
    once, again, other = (function(shown.copy(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert once.shape == shown.shape and once.dtype == np.uint8
    assert (once == again).all() and (once != other).any()
    assert 0.2 < np.abs(once.astype(int) - shown).mean() < 60, "seen, and still a face"


@pytest.mark.parametrize("crf", [23, 32, 40])
def test_one_frame_at_a_higher_crf_suffers_like_the_frames_of_a_clip(crf: int) -> None:
    """Frames far apart in their video, with grain."""
    rng = np.random.default_rng(0)
    faces = [crop() for _ in range(10)]
    for i, face in enumerate(faces):
        draw_face(face, SIZE // 2 + 3 * i, SIZE // 2 - 2 * i, 70 - 2 * i)
    clip = np.clip(np.stack(faces) + rng.normal(0, 4, (10, SIZE, SIZE, 3)), 0, 255).astype(np.uint8)
    alone = np.concatenate([h264(face[None], crf + augmentation.ALONE) for face in clip])
    lost = [np.abs(coded.astype(int) - clip).mean() for coded in (h264(clip, crf), alone)]
    assert lost[0] == pytest.approx(lost[1], rel=0.3)


def test_crops_are_changed_as_often_as_asked() -> None:
    shown = crop()
    recipe = PAPER.model_copy(update={"damage": 0.5})
    same = [augment(shown, recipe, np.random.default_rng(seed)) is shown for seed in range(400)]
    assert 0.4 < np.mean(same) < 0.6
    assert augment(shown, PAPER, np.random.default_rng(0)) is shown


def test_damage_is_mild_for_some_and_heavy_for_others() -> None:
    shown = crop()
    lost = [np.abs(damage(shown, np.random.default_rng(seed)).astype(int) - shown).mean() for seed in range(100)]
    assert np.quantile(lost, 0.1) < 2 and np.quantile(lost, 0.9) > 8
