"""DCNN: the first fully connected layers of VGG-19 and AlexNet side by side, and a classifier on both (Raghavendra et
al., CVPRW 2017, "Transferable deep-CNN features for detecting digital and print-scanned morphed face images").

The paper's tables quote it from the Capsule-Forensics paper, and cite it there as [23] by mistake.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from emd_core.models.baselines.imagenet import (
    WIDTH,
    features_of,
    imagenet_network,
    require_width,
)
from emd_core.models.detector import Detector, Network, Publication
from emd_core.models.parts.normalised import Normalised


class DCNNConfig(Network):
    """Features of VGG-19 and AlexNet, and a linear classifier."""

    kind: Literal["dcnn"]
    size: int = Field(ge=64, description="Side of the square input, pixels; 224 in torchvision's networks.")
    width: int = Field(
        ge=4,
        le=WIDTH,
        description=f"Channels of both first convolutions, all other layers in proportion; {WIDTH} in torchvision's.",
    )


class FirstDense(nn.Module):
    """A network up to its first fully connected layer: normalised B3SS -> features BC."""

    def __init__(self, features: nn.Sequential, channels: int, side: int, outside: int) -> None:
        super().__init__()
        self.features = features
        self.pool = nn.AdaptiveAvgPool2d(side)
        self.fc = nn.Linear(channels * side**2, outside)

    def forward(self, x_B3SS: Tensor) -> Tensor:
        features_BC: Tensor = self.fc(self.pool(self.features(x_B3SS)).flatten(1)).relu()
        return features_BC


class DCNN(Detector):
    """A linear layer on the features of both networks, all of which learn."""

    config_type = DCNNConfig
    publication = Publication(
        "Raghavendra et al., Transferable Deep-CNN Features for Detecting Digital and Print-Scanned Morphed Face "
        "Images, CVPRW 2017",
        "'imagenet', or a folder of torchvision's vgg19-<digits>.pth and alexnet-<digits>.pth",
        "BSD-3-Clause",
    )
    localises = False

    def __init__(self, config: DCNNConfig, fer: None = None) -> None:
        super().__init__(config, fer)
        outside = WIDTH * config.width
        self.normalise = Normalised()
        self.vgg19 = FirstDense(features_of("vgg19", config.width), 8 * config.width, 7, outside)
        self.alexnet = FirstDense(features_of("alexnet", config.width), 4 * config.width, 6, outside)
        self.classifier = nn.Sequential(nn.Dropout(0.5), nn.Linear(2 * outside, 2))

    def detect(self, image_B3SS: Tensor, expression_BChw: Tensor | None) -> tuple[Tensor, None]:
        x_B3SS = self.normalise(image_B3SS)
        return self.classifier(torch.cat([self.vgg19(x_B3SS), self.alexnet(x_B3SS)], dim=1)), None

    def pretrained(self) -> Iterable[nn.Module]:
        return [self.vgg19, self.alexnet]

    def load_published(self, weights: str) -> None:
        """Both networks from torchvision's downloads ('imagenet') or from a folder of its files."""
        require_width(self.config.width)
        folder = None if weights == "imagenet" else Path(weights)
        for name, own, first_dense in (("vgg19", self.vgg19, 0), ("alexnet", self.alexnet, 1)):
            network = imagenet_network(name, folder)
            own.features.load_state_dict(network.features.state_dict())
            own.fc.load_state_dict(network.classifier[first_dense].state_dict())
