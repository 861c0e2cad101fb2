"""Batches do not depend on who reads them when, and a worker's end is no riddle."""

import multiprocessing
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from emd_core.detection.blends import make_blends
from emd_core.detection.crops import Batch, FaceCrops
from emd_core.detection.loading import load
from emd_core.detection.recipe import PAPER
from emd_core.errors import UserError
from emd_core.training import distributed
from emd_core.training.resuming import Preemption
from tests.fakes.training_data import ON, write_training_data


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> FaceCrops:
    data = write_training_data(tmp_path_factory.mktemp("data"))
    return FaceCrops(data / "faces", data / "masks", "train")


ORDER = np.random.default_rng(0).integers(0, 12, 26)  # six batches of four, and two crops too few for another


def content(batch: Batch) -> tuple[bytes, ...]:
    return tuple(x.numpy().tobytes() for x in (batch.image, batch.mask.float(), batch.label, batch.known))


def by_crop(batches: Iterator[Batch]) -> list[bytes]:
    """The crops of each batch, in no order."""
    return [b"".join(sorted(image.numpy().tobytes() for image in batch.image)) for batch in batches]


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_are_the_same_whoever_reads_them(crops: FaceCrops, workers: int) -> None:
    originals = np.flatnonzero(crops.table["label"] == 0)
    blends = make_blends(crops, originals, 0, Preemption(""))
    for read, order in ((crops, ORDER), (blends, np.resize(blends.rows(1), len(ORDER)))):
        alone = [content(batch) for batch in load(read, order, 4, ON, (0, 1), 0, 0)]
        assert len(alone) == 6 == len(set(alone))
        assert alone == [content(batch) for batch in load(read, order, 4, ON, (0, 1), 0, workers)]
        assert alone[4:] == [content(batch) for batch in load(read, order, 4, ON, (0, 1), 4, workers)], "after a stop"
        assert alone[0] != content(next(load(read, order, 4, ON, (0, 2), 0, 0))), "each epoch changes crops anew"


def test_two_ranks_read_what_one_does(crops: FaceCrops, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = by_crop(load(crops, ORDER, 4, ON, (0, 1), 0, 0))
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    ranks = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        ranks.append([batch.image for batch in load(crops, ORDER, 4, ON, (0, 1), 0, 0)])
    together = [torch.cat(pair) for pair in zip(*ranks, strict=True)]
    assert alone == [b"".join(sorted(image.numpy().tobytes() for image in batch)) for batch in together]


def test_the_paper_s_recipe_leaves_crops_and_random_numbers_alone(crops: FaceCrops) -> None:
    torch.manual_seed(5)
    before = torch.default_generator.get_state()
    first = next(load(crops, ORDER, 4, PAPER, (0, 1), 0, 1))
    assert content(first) == content(crops.read(ORDER[:4]))
    assert torch.equal(torch.default_generator.get_state(), before)


class Refusing:
    def read(self, index: NDArray[np.int64]) -> Batch:
        raise UserError("crop 3 is broken; make it anew.")


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_worker_refuses_is_refused_in_its_words(workers: int) -> None:
    with pytest.raises(UserError, match=r"^crop 3 is broken; make it anew\.$"):
        next(load(Refusing(), ORDER, 4, PAPER, (0, 1), 0, workers))


def fail_amid_an_epoch(crops: FaceCrops) -> None:
    batches = load(crops, ORDER, 4, PAPER, (0, 1), 0, 2)
    next(batches)
    raise UserError("the training diverges.")


def test_a_training_that_fails_does_not_wait_for_its_workers(crops: FaceCrops) -> None:
    process = multiprocessing.get_context("fork").Process(target=fail_amid_an_epoch, args=(crops,))
    process.start()
    process.join(60)
    assert process.exitcode == 1
