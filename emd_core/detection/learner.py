"""A detector with what teaches it: the optimizer's steps, or one fit to all crops."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from emd_core.detection.inputs import Inputs
from emd_core.detection.recipe import Recipe
from emd_core.models.detector import Detector, Fitted
from emd_core.models.parts.precision import Precision, autocast
from emd_core.training import distributed


class LossOf(nn.Module):
    """The detector's loss as a forward call, the one thing that DistributedDataParallel wraps."""

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Any) -> Tensor:
        return self.model.loss(*inputs)


class Learner:
    """The model, its optimizer, and the average of its weights where the recipe asks for one."""

    def __init__(self, model: Detector, optimizer: torch.optim.Optimizer, recipe: Recipe, precision: Precision) -> None:
        self.model, self.optimizer, self.precision = model, optimizer, precision
        # Nothing is averaged over the one step of a network that learns from all crops at once.
        by_steps = not isinstance(model, Fitted)
        self._average = averaged(model, recipe.average) if recipe.average and by_steps else None

    @property
    def kept(self) -> Detector:
        """The network that is validated and kept."""
        kept = self.model if self._average is None else self._average.module
        assert isinstance(kept, Detector)
        return kept

    @property
    def weights(self) -> nn.Module:
        """All that a training goes on from, beside the optimizer."""
        return self.model if self._average is None else nn.ModuleList([self.model, self._average])

    def learn(self, inputs: Iterable[Inputs], losses: list[Tensor]) -> Iterator[None]:
        """One step for each of `inputs`; appends its loss, a number on the device, to `losses`, and yields after it.

        A network that learns from all crops at once has one loss, at the end, or before a stop.
        """
        if isinstance(self.model, Fitted):
            if not losses:
                losses.append(self.model.fit((x.image_B3HW, x.label_B) for x in inputs))
                yield
            return
        # Anew in each epoch: what is fixed changes after the warm-up.
        loss_of = distributed.data_parallel(LossOf(self.model))
        for x in inputs:
            with autocast(x.image_B3HW.device, self.precision):
                loss = loss_of(*x)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            with torch.no_grad():
                self.model.after_step()
            if self._average is not None:
                self._average.update_parameters(self.model)
            losses.append(loss.detach())
            yield

    def recompute_statistics(self, images: Iterable[Tensor]) -> Iterator[None]:
        """Give averaged weights the batch statistics of crops, B3HW: those of the steps are of weights that are gone.

        Yields after each batch. As torch's `update_bn`, but what the warm-up fixes keeps its statistics, as does phi,
        and dropout stays off: no random number is drawn, and begun anew after a stop it gives the same network.
        """
        if self._average is None:
            return
        learning = {name for name, module in self.model.named_modules() if module.training}
        norms = [x for name, x in self.kept.named_modules() if isinstance(x, _BatchNorm) and name in learning]
        momenta = [norm.momentum for norm in norms]
        self.kept.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
            norm.train()
        for image_B3HW in images if norms else ():
            with torch.no_grad(), autocast(image_B3HW.device, self.precision):
                self.kept(image_B3HW)
            yield
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        self.kept.eval()


def averaged(model: Detector, decay: float) -> AveragedModel:
    """The model's exponential moving average over the steps; the batch statistics are the model's until recomputed."""
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
