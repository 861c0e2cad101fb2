"""Stats-2L: statistics of feature maps (Rahmouni et al., WIFS 2017, "Distinguishing computer graphics from natural
images using convolution neural networks")."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from emd_core.models.baselines.centre import CentreConfig, CentreDetector
from emd_core.models.detector import Publication
from emd_core.models.parts.esr import ESR

CHANNELS = (32, 64)
STATISTICS = 4
GREEN = 1


class RahmouniConfig(CentreConfig):
    """Statistics of the maps of two convolutions."""

    kind: Literal["rahmouni"]
    hidden: int = Field(ge=1, description="Width of the hidden fully connected layer; 1024 in the publication.")


class Rahmouni(CentreDetector):
    """Two convolutions without pooling -> four statistics of each map -> two fully connected layers."""

    config_type = RahmouniConfig
    publication = Publication(
        "Rahmouni et al., Distinguishing Computer Graphics from Natural Images Using Convolution Neural Networks, "
        "WIFS 2017"
    )

    def __init__(self, config: RahmouniConfig, fer: ESR | None = None) -> None:
        super().__init__(config, fer)
        first, second = CHANNELS
        self.maps = nn.Sequential(
            nn.Conv2d(1, first, 3, padding=1), nn.ReLU(), nn.Conv2d(first, second, 3, padding=1), nn.ReLU()
        )
        self.classifier = nn.Sequential(
            nn.Linear(STATISTICS * second, config.hidden),
            nn.ReLU(),
            nn.Dropout(0.35),  # the published training keeps 0.65
            nn.Linear(config.hidden, 2),
        )

    def detect(self, image_B3SS: Tensor, expression_BChw: Tensor | None) -> tuple[Tensor, None]:
        maps_BCSS = self.maps(image_B3SS[:, GREEN : GREEN + 1])  # the published training reads the green channel alone
        return self.classifier(statistics(maps_BCSS.float())), None


def statistics(maps_BCSS: Tensor) -> Tensor:
    """Mean, minimum, maximum and (biased) variance of each map, those of a map side by side, B 4C."""
    x_BCP = maps_BCSS.flatten(2)
    return torch.stack([x_BCP.mean(2), x_BCP.amin(2), x_BCP.amax(2), x_BCP.var(2, correction=0)], dim=2).flatten(1)
