"""The batches of an epoch, read and changed by worker processes ahead of the steps that need them.

What happens to a crop depends on the seed, the epoch and its place in the epoch's order, never on who reads it when:
any number of workers and of ranks, and a training that was stopped, gives the same batches.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from emd_core.detection.augmentation import augment
from emd_core.detection.crops import Batch, balanced_order
from emd_core.detection.recipe import Recipe
from emd_core.detection.self_blends import self_blend
from emd_core.training import distributed
from emd_core.training.batches import Batches

Rows = NDArray[np.int64]
AHEAD = 4  # batches that a worker has ready


class Crops(Protocol):
    """FaceCrops, or what reads like them."""

    def read(self, index: Rows) -> Batch: ...


class Epoch(Dataset[Batch]):
    """The batches of an epoch; each is asked for by the places of its crops in the order."""

    def __init__(self, crops: Crops, order: Rows, recipe: Recipe, seed: tuple[int, int]) -> None:
        """`order`: of `order_of`, the whole epoch's; `seed`: of the training, and the epoch's number."""
        self._crops, self._order, self._recipe, self._seed = crops, order, recipe, seed

    def __getitem__(self, places: Rows) -> Batch:
        rows = self._order[places]
        blended = rows < 0
        batch = self._crops.read(np.where(blended, ~rows, rows))
        if not self._recipe.changes_crops:
            return batch
        image = batch.image.permute(0, 2, 3, 1).contiguous().numpy()
        mask = batch.mask.squeeze(1).numpy()
        for i, place in enumerate(places):
            rng = np.random.default_rng([*self._seed, int(place)])
            if blended[i]:
                image[i], mask[i] = self_blend(image[i], rng)
            image[i] = augment(image[i], self._recipe, rng)
        which = torch.from_numpy(blended)
        return replace(
            batch,
            image=torch.from_numpy(image).permute(0, 3, 1, 2),
            mask=torch.from_numpy(mask).unsqueeze(1),
            label=batch.label.masked_fill(which, 1),
            known=batch.known | which,
        )


def order_of(rows: Rows, label: NDArray[np.int64], recipe: Recipe, rng: np.random.Generator) -> Rows:
    """An epoch's order of these rows, of these labels, in which both classes are equally frequent.

    The recipe's share of the fakes are self-blends instead: ~row, below 0, of an original.
    """
    chosen = balanced_order(label, rng)
    order = rows[chosen]
    if not recipe.self_blends:
        return order
    blended = (label[chosen] == 1) & (rng.random(len(order)) < recipe.self_blends)
    return np.where(blended, ~rng.choice(rows[label == 0], len(order)), order)


def load(
    crops: Crops, order: Rows, batch_size: int, recipe: Recipe, seed: tuple[int, int], done: int, workers: int
) -> Iterator[Batch]:
    """This rank's share of the epoch's full batches (batch norm needs them full) without the first `done`."""
    steps = rank_share(np.arange(len(order)), batch_size, done)
    ahead = {"prefetch_factor": AHEAD} if workers else {}
    return iter(
        Batches(
            Epoch(crops, order, recipe, seed),
            None,
            sampler=[*steps],
            num_workers=workers,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # else it draws from the one that the steps draw from
            **ahead,
        )
    )


def rank_share(order: Rows, batch_size: int, done: int) -> Rows:
    """This rank's part of each batch of an epoch's order behind the first `done`, one row for each.

    Of every global batch rank r of n has rows r, r + n, r + 2n, ...; the optimizer sees the batches of one process.
    """
    full = order[: len(order) - len(order) % batch_size].reshape(-1, batch_size)
    return full[done:, distributed.rank() :: distributed.world_size()]
