"""From batches of crops to what one training step computes with: mirrored at random, on the device."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from emd_core.detection.crops import Batch
from emd_core.models.parts.precision import to_input
from emd_core.training import distributed


class Inputs(NamedTuple):
    """The arguments of `Detector.loss`, on the device."""

    image_B3HW: Tensor
    label_B: Tensor
    mask_B1HW: Tensor
    known_B: Tensor


def training_inputs(batches: Iterable[Batch], mirroring: torch.Generator, device: torch.device) -> Iterator[Inputs]:
    """Every rank draws for the whole global batch: whether a sample is mirrored does not depend on their number."""
    ranks = distributed.world_size()
    for batch in batches:
        drawn = torch.rand(len(batch.label) * ranks, generator=mirroring) < 0.5
        mirrored_B = drawn[distributed.rank() :: ranks]
        yield Inputs(
            to_input(mirror(batch.image, mirrored_B), device),
            batch.label.to(device),
            mirror(batch.mask, mirrored_B).to(device).float(),
            batch.known.to(device),
        )


def mirror(x_BCHW: Tensor, which_B: Tensor) -> Tensor:
    """Flip the chosen samples left to right."""
    return torch.where(which_B[:, None, None, None], x_BCHW.flip(3), x_BCHW)
