"""From batches of crops to what one training step computes with: mirrored at random, with expression features."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from emd_core.detection.crops import Batch, FaceCrops
from emd_core.models.detector import Detector
from emd_core.models.parts.precision import Precision, autocast, to_input
from emd_core.training import distributed
from emd_core.training.resuming import Preemption


class Inputs(NamedTuple):
    """The arguments of `Detector.loss`, on the device."""

    image_B3HW: Tensor
    label_B: Tensor
    mask_B1HW: Tensor
    known_B: Tensor
    expression_BChw: Tensor | None


def training_inputs(
    batches: Iterable[Batch], mirroring: torch.Generator, cache: "ExpressionCache | None", device: torch.device
) -> Iterator[Inputs]:
    """Every rank draws for the whole global batch: whether a sample is mirrored does not depend on their number."""
    ranks = distributed.world_size()
    for batch in batches:
        drawn = torch.rand(len(batch.index) * ranks, generator=mirroring) < 0.5
        mirrored_B = drawn[distributed.rank() :: ranks]
        yield Inputs(
            to_input(mirror(batch.image, mirrored_B), device),
            batch.label.to(device),
            mirror(batch.mask, mirrored_B).to(device).float(),
            batch.known.to(device),
            cache.read(batch.index, mirrored_B).to(device) if cache else None,
        )


def mirror(x_BCHW: Tensor, which_B: Tensor) -> Tensor:
    """Flip the chosen samples left to right."""
    return torch.where(which_B[:, None, None, None], x_BCHW.flip(3), x_BCHW)


class ExpressionCache:
    """The pooled expression features of every crop and of its mirror image, in bf16 (37 KB each at 96 pixels).

    Every rank keeps all of them: the next epoch's order may give it any crop.
    """

    def __init__(
        self,
        model: Detector,
        crops: FaceCrops,
        rows: np.ndarray,
        batch_size: int,
        precision: Precision,
        stop: Preemption,
    ) -> None:
        model.eval()
        device = next(model.parameters()).device
        batches = crops.batches(rows, batch_size)
        if distributed.is_main():
            batches = iter(tqdm(batches, total=-(-len(rows) // batch_size), desc="expression features"))
        parts = []
        for batch in stop.watch(batches):
            both = torch.cat([batch.image, batch.image.flip(3)])
            with autocast(device, precision):
                features = model.expression_features(to_input(both, device))
            assert features is not None  # a cache is made only for networks with an expression stream
            parts.append(torch.stack(features.to("cpu", torch.bfloat16).chunk(2), dim=1))
        self._features = torch.cat(parts)
        self._place = np.full(len(crops), -1)
        self._place[rows] = np.arange(len(rows))

    def read(self, index: np.ndarray, mirrored_B: Tensor) -> Tensor:
        return self._features[torch.from_numpy(self._place[index]), mirrored_B.long()]
