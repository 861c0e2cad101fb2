"""ForensicTransfer on residual images, FT-res: an auto-encoder that classifies by which half of its latent map is
active (Cozzolino et al., arXiv 1812.02510).

Half and class 0 mean original, 1 manipulated. Its decoder is there for training alone.
"""

import itertools
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from emd_core.models.detector import Detector, Network, Publication
from emd_core.models.latent_halves import activation_loss, half_activations, keep_half
from emd_core.models.parts.esr import ESR

WIDTHS = (8, 16, 32, 64, 128)  # of the encoder's convolutions; the last is the latent map's
RECONSTRUCTION = 0.1  # gamma, the weight of the reconstruction against the activation


class ForensicTransferConfig(Network):
    """FT-res."""

    kind: Literal["forensictransfer"]
    size: int = Field(ge=32, multiple_of=16, description="Side of the square input, pixels; 256 in the publication.")


class AutoEncoder(nn.Module):
    """B C S S in [-1, 1] -> latent map B 128 S/16 S/16 -> B C S S.

    3x3 convolutions, each but the first with a batch norm; strides of 2 down, doubled pixels up.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *_convolution(channels, WIDTHS[0], norm=False),
            *itertools.chain.from_iterable(_convolution(a, b, stride=2) for a, b in itertools.pairwise(WIDTHS)),
        )
        self.decoder = nn.Sequential(
            *itertools.chain.from_iterable(
                (nn.Upsample(scale_factor=2), *_convolution(a, b)) for a, b in itertools.pairwise(WIDTHS[::-1])
            ),
            nn.Conv2d(WIDTHS[0], channels, 3, padding=1),
            nn.Tanh(),
        )


class ForensicTransfer(Detector):
    """The score is the softmax of the two halves' mean activations."""

    config_type = ForensicTransferConfig
    publication = Publication(
        "Cozzolino et al., ForensicTransfer: Weakly-supervised Domain Adaptation for Forgery Detection, arXiv 2018"
    )
    localises = False

    def __init__(self, config: ForensicTransferConfig, fer: ESR | None = None) -> None:
        super().__init__(config, fer)
        self.net = AutoEncoder(channels=6)

    def detect(self, image_B3SS: Tensor, expression_BChw: Tensor | None) -> tuple[Tensor, None]:
        return half_activations(self.net.encoder(residual(image_B3SS))), None

    def loss(self, image_B3HW: Tensor, label_B: Tensor, mask_B1HW: Tensor, known_B: Tensor) -> Tensor:
        """Activation + gamma * the absolute error of the residual rebuilt from the half that the label names."""
        residual_B6SS = residual(self.view(image_B3HW))
        latent = self.net.encoder(residual_B6SS)
        rebuilt_B6SS = self.net.decoder(keep_half(latent, label_B))
        reconstruction_loss = F.l1_loss(rebuilt_B6SS.float(), residual_B6SS)
        return activation_loss(half_activations(latent), label_B) + RECONSTRUCTION * reconstruction_loss


def residual(image_B3SS: Tensor) -> Tensor:
    """The third derivative of each colour, -1 3 -3 1, along rows and then along columns; B6SS with zeros at the rim."""
    along_rows = F.pad(torch.diff(image_B3SS, n=3, dim=3), (1, 2, 0, 0))
    along_columns = F.pad(torch.diff(image_B3SS, n=3, dim=2), (0, 0, 1, 2))
    return torch.cat([along_rows, along_columns], dim=1)


def _convolution(inside: int, outside: int, stride: int = 1, *, norm: bool = True) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(inside, outside, 3, stride, padding=1)]
    return [*layers, *([nn.BatchNorm2d(outside)] if norm else []), nn.ReLU()]
