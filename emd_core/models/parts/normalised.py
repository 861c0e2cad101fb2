"""The input of networks that start from somebody's weights: normalised as theirs was."""

from collections.abc import Sequence

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn


class Normalised(nn.Module):
    """RGB B3HW in [0, 1] -> less the channels' mean, in standard deviations; ImageNet's if not told otherwise."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: Sequence[float] = IMAGENET_DEFAULT_MEAN, std: Sequence[float] = IMAGENET_DEFAULT_STD
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        return (image_B3HW - self.mean) / self.std
