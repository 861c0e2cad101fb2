"""Bayar and Stamm's network with a constrained first layer (IH&MMSec 2016, "A deep learning approach to universal
image manipulation detection using a new convolutional layer").

FaceForensics++ names its parts: the constrained layer, two convolutions, two max-poolings, three fully connected
layers. That is the network of 2016, not the one of 2018 ("MISLnet").
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from emd_core.models.baselines.centre import CentreConfig, CentreDetector
from emd_core.models.baselines.residuals import grey
from emd_core.models.detector import Publication
from emd_core.models.parts.esr import ESR

CHANNELS = (12, 64, 48)
KERNEL = 5  # of the constrained layer
STRIDE = 8  # of the last map


class BayarConfig(CentreConfig):
    """The network with a constrained first layer."""

    kind: Literal["bayar"]
    hidden: int = Field(ge=1, description="Width of the two hidden fully connected layers; 4096 in the publication.")


class Bayar(CentreDetector):
    """Prediction errors of grey levels -> two convolutions -> three fully connected layers."""

    config_type = BayarConfig
    publication = Publication(
        "Bayar and Stamm, A Deep Learning Approach to Universal Image Manipulation Detection Using a New "
        "Convolutional Layer, IH&MMSec 2016"
    )

    def __init__(self, config: BayarConfig, fer: ESR | None = None) -> None:
        super().__init__(config, fer)
        first, second, third = CHANNELS
        side = -(-(config.size - KERNEL + 1) // STRIDE)
        self.constrained = nn.Conv2d(1, first, KERNEL, bias=False)
        # From positive weights: dividing by a sum close to 0 would give huge ones.
        nn.init.uniform_(self.constrained.weight, 0, 1)
        self.layers = nn.Sequential(
            nn.Conv2d(first, second, 7, stride=2, padding=3),
            *_reduced(),
            nn.Conv2d(second, third, 5, padding=2),
            *_reduced(),
            nn.Flatten(),
            nn.Linear(third * side * side, config.hidden),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(config.hidden, config.hidden),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(config.hidden, 2),
        )
        self.after_step()

    def detect(self, image_B3SS: Tensor, expression_BChw: Tensor | None) -> tuple[Tensor, None]:
        with torch.autocast(image_B3SS.device.type, enabled=False):  # small differences of large grey levels
            error_BCss = self.constrained(grey(image_B3SS))
        return self.layers(error_BCss), None

    @torch.no_grad()
    def after_step(self) -> None:
        project(self.constrained.weight)


def project(weight_C1KK: Tensor) -> None:
    """In place onto the constraint: -1 in the centre, a sum of 1 around it. So a filter gives the error of a prediction
    of the pixel from its neighbours.
    """
    centre = weight_C1KK.shape[-1] // 2
    weight_C1KK[..., centre, centre] = 0
    weight_C1KK /= weight_C1KK.sum(dim=(1, 2, 3), keepdim=True)
    weight_C1KK[..., centre, centre] = -1


def _reduced() -> tuple[nn.Module, ...]:
    return nn.ReLU(), nn.LocalResponseNorm(5), nn.MaxPool2d(3, stride=2, padding=1)
