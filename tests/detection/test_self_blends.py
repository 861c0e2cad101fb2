"""Originals blended with themselves: what changes where, and how a training reads them."""

import numpy as np
import pytest

from emd_core.detection.crops import FaceCrops
from emd_core.detection.loading import load, order_of
from emd_core.detection.recipe import PAPER
from emd_core.detection.self_blends import self_blend
from tests.fakes.training_data import write_training_data

SIZE = 96
RECIPE = PAPER.model_copy(update={"self_blends": 0.4})


def crop() -> np.ndarray:
    return np.random.default_rng(0).integers(60, 200, (SIZE, SIZE, 3), dtype=np.uint8)


def test_a_part_of_the_face_is_smoother_and_the_rest_is_the_same() -> None:
    base = crop()
    parts = []
    for seed in range(60):
        blend, mask = self_blend(base, np.random.default_rng(seed))
        changed = (blend != base).any(axis=2)
        assert mask.any() and changed[mask].mean() > 0.95
        assert not changed[:8].any() and not changed[:, :8].any() and not changed[:, -8:].any(), "around the face"
        parts.append(mask)
        assert np.abs(np.diff(blend.astype(int), axis=1))[mask[:, 1:]].mean() < 44, "noise of this crop: 47"
    rows = np.array([np.flatnonzero(mask.any(axis=1))[[0, -1]] for mask in parts]) / SIZE
    above, below = rows[:, 1] < 0.62, rows[:, 0] > 0.5
    for part in (above, below, ~above & ~below):
        assert 10 <= part.sum() <= 30, "the upper face, the lower face, all of it"


def test_equal_draws_give_equal_blends() -> None:
    (one, where), (again, there) = (self_blend(crop(), np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(one, again) and np.array_equal(where, there)
    assert not np.array_equal(one, self_blend(crop(), np.random.default_rng(4))[0])


def test_a_share_of_the_fakes_are_originals_blended_with_themselves() -> None:
    rows, label = np.arange(100, 200), np.arange(100) % 4 > 0  # 25 originals
    order = order_of(rows, label.astype(int), RECIPE, np.random.default_rng(0))
    blended = order < 0
    assert len(order) == 150 and 20 <= blended.sum() <= 40
    assert not label[~order[blended] - 100].any(), "of originals"
    assert (~label[order[~blended] - 100]).sum() == 75, "and half of the epoch is originals as they are"
    plain = order_of(rows, label.astype(int), PAPER, np.random.default_rng(0))
    assert (plain >= 100).all() and (plain[~blended] == order[~blended]).all()


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> FaceCrops:
    data = write_training_data(tmp_path_factory.mktemp("data"))
    return FaceCrops(data / "faces", data / "masks", "train")


def test_they_are_fakes_with_known_masks(crops: FaceCrops) -> None:
    originals = np.flatnonzero(crops.table["label"] == 0)[:2]
    order = np.concatenate([originals, ~originals])
    batch, plain = next(load(crops, order, 4, RECIPE, (0, 1), 0, 0)), crops.read(originals)
    assert batch.label.tolist() == [0, 0, 1, 1] and batch.known.all()
    assert (batch.image[:2] == plain.image).all() and (batch.image[2:] != plain.image).any(dim=(1, 2, 3)).all()
    assert not batch.mask[:2].any() and batch.mask[2:].any(dim=(1, 2, 3)).all()
