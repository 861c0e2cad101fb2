"""What every detector here shares: a frozen expression network beside a network that learns (Algorithm 1)."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emd_core.models.parts.esr import ESR, pool_branches, vote


class Detector(nn.Module, ABC):
    """Face crops B3HW, RGB in [0, 1] -> class logits B2 (1 = manipulated) and mask logits B1HW.

    phi (`fer`) is trained before and frozen here, or None in the variants without it; theta is everything else.
    Crops of another size than `size` are resized, and the mask logits have the size of the crops.
    """

    config: Any

    def __init__(self, size: int, fer: ESR | None) -> None:
        super().__init__()
        self.size = size
        self.fer = fer
        if fer is not None:
            fer.requires_grad_(False)

    def train(self, mode: bool = True) -> "Detector":
        super().train(mode)
        if self.fer is not None:
            self.fer.eval()  # phi keeps its batch statistics too
        return self

    @torch.no_grad()
    def recognise(self, image_B3HW: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The pooled map FF, B 512 hw, of Eq. 2 to 5, and the voted class, B; None without an expression network."""
        if self.fer is None:
            return None, None
        features_BKChw, logits_BKN = self.fer(resize(image_B3HW, self.fer.config.size))
        return pool_branches(features_BKChw, logits_BKN), vote(logits_BKN)

    def expression_features(self, image_B3HW: Tensor) -> Tensor | None:
        """The first of `recognise`."""
        return self.recognise(image_B3HW)[0]

    def forward(self, image_B3HW: Tensor, expression_BChw: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`expression_BChw` may be given where it was computed before: phi is frozen, so it never changes."""
        if expression_BChw is None:
            expression_BChw = self.expression_features(image_B3HW)
        logits_B2, mask_B1hw = self.detect(resize(image_B3HW, self.size), expression_BChw)
        return logits_B2, F.interpolate(mask_B1hw, image_B3HW.shape[2:], mode="bilinear", align_corners=False)

    @abstractmethod
    def detect(self, image_B3SS: Tensor, expression_BChw: Tensor | None) -> tuple[Tensor, Tensor]:
        """Class and mask logits of crops of the network's own size; the mask may be smaller."""

    @abstractmethod
    def loss(
        self, image_B3HW: Tensor, label_B: Tensor, mask_B1HW: Tensor, known_B: Tensor, expression_BChw: Tensor | None
    ) -> Tensor:
        """What theta is trained on; `mask_B1HW` float, `known_B` says whose mask counts."""

    @abstractmethod
    def pretrained(self) -> Iterable[nn.Module]:
        """The modules that the warm-up fixes: those that may start from published weights."""


def resize(image_B3HW: Tensor, size: int) -> Tensor:
    """Bilinear, antialiased, to a square of `size` pixels."""
    if image_B3HW.shape[2:] == (size, size):
        return image_B3HW
    return F.interpolate(image_B3HW, (size, size), mode="bilinear", antialias=True, align_corners=False)
