"""Capsule-Forensics: three capsules on the front of a VGG-19 agree on two, one of each class (Nguyen et al., ICASSP
2019, "Capsule-forensics: using capsule networks to detect forged images and videos"; the first version).

Layer names and shapes are those of the published weights. There class 0 means fake and class 1 real; outside this file
label 1 means manipulated, as everywhere.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from emd_core.models.baselines.imagenet import (
    WIDTH,
    features_of,
    imagenet_network,
    one_file,
    require_width,
)
from emd_core.models.detector import Detector, Network, Publication
from emd_core.models.parts.normalised import Normalised
from emd_core.storage.weights import load_exactly, read_state_dict

FRONT = 19  # layers of VGG-19: up to its third pooling
PRIMARY, CLASSES, OUTPUT, INPUT = 3, 2, 4, 8  # numbers of primary and output capsules, the sides of their matrices
ROUNDS = 2
NOISE = 0.01  # standard deviation, of the routing weights in training


class CapsuleConfig(Network):
    """Capsule-Forensics on 1/8 of the input's size."""

    kind: Literal["capsule"]
    size: int = Field(ge=32, multiple_of=8, description="Side of the square input, pixels; 128 in the publication.")
    width: int = Field(
        ge=4, le=WIDTH, description=f"Channels of VGG-19's first convolution, the others in proportion; {WIDTH} there."
    )


class Statistics(nn.Module):
    """Mean and standard deviation of each channel, float: BCHW -> B2C."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        std_BC, mean_BC = torch.std_mean(x_BCHW.float(), dim=(2, 3))
        return torch.stack([mean_BC, std_BC], dim=1)


class Primary(nn.ModuleDict):
    """The primary capsules: VGG's map BChw -> BI8, squashed over the capsules I."""

    def __init__(self, inside: int) -> None:
        super().__init__({f"ext_{n}": _primary(inside) for n in range(1, PRIMARY + 1)})

    def forward(self, map_BChw: Tensor) -> Tensor:
        return squash(torch.stack([capsule(map_BChw).float() for capsule in self.values()], dim=1), dim=1)


class Routing(nn.Module):
    """Dynamic routing: primary capsules BI8 -> output capsules BO4, each a weighted mean of the votes of all I."""

    def __init__(self) -> None:
        super().__init__()
        self.route_weights = nn.Parameter(torch.randn(CLASSES, PRIMARY, OUTPUT, INPUT))

    def forward(self, capsules_BI8: Tensor) -> Tensor:
        weights_OI48: Tensor = self.route_weights
        if self.training:
            weights_OI48 = weights_OI48 + NOISE * torch.randn_like(weights_OI48)
        votes_BOI4 = (weights_OI48 * capsules_BI8[:, None, :, None]).sum(dim=-1)
        return route(votes_BOI4)


class CapsuleForensics(Detector):
    """The probability of a class is the mean, over the dimensions, of the softmax over the two output capsules."""

    config_type = CapsuleConfig
    publication = Publication(
        "Nguyen et al., Capsule-Forensics: Using Capsule Networks to Detect Forged Images and Videos, ICASSP 2019",
        "capsule_<n>.pt, or a folder of it and of torchvision's vgg19-<digits>.pth; 'imagenet' for VGG-19 alone",
        "BSD-3-Clause",
    )
    localises = False

    def __init__(self, config: CapsuleConfig, fer: None = None) -> None:
        super().__init__(config, fer)
        self.normalise = Normalised()
        self.front = features_of("vgg19", config.width, FRONT)
        self.capsules = nn.ModuleDict({"fea_ext": Primary(4 * config.width), "routing_stats": Routing()})

    def detect(self, image_B3SS: Tensor, expression_BChw: Tensor | None) -> tuple[Tensor, None]:
        return self.classes(image_B3SS).mean(dim=1).log().flip(1), None

    def loss(self, image_B3HW: Tensor, label_B: Tensor, mask_B1HW: Tensor, known_B: Tensor) -> Tensor:
        """The sum of the dimensions' cross-entropies, of what is a softmax already, as published."""
        classes_B42, class_B = self.classes(self.view(image_B3HW)), 1 - label_B
        return torch.stack([F.cross_entropy(classes_B2, class_B) for classes_B2 in classes_B42.unbind(1)]).sum()

    def classes(self, image_B3SS: Tensor) -> Tensor:
        """Softmax over the output capsules (fake, real) for each of their four dimensions, B42."""
        capsules_BI8 = self.capsules["fea_ext"](self.front(self.normalise(image_B3SS)))
        output_BO4 = self.capsules["routing_stats"](capsules_BI8)
        return output_BO4.transpose(1, 2).softmax(dim=-1)

    def pretrained(self) -> Iterable[nn.Module]:
        """VGG-19's front, which the published training never changed."""
        return [self.front]

    def load_published(self, weights: str) -> None:
        """'imagenet', the authors' file of the capsules (VGG-19 is downloaded), or a folder of both files."""
        require_width(self.config.width)
        folder = Path(weights) if Path(weights).is_dir() else None
        if weights != "imagenet":
            file = one_file(folder, "capsule_*.pt") if folder else Path(weights)
            load_exactly(self.capsules, read_state_dict(file), str(file), network="Capsule-Forensics")
        features = imagenet_network("vgg19", folder).features
        self.front.load_state_dict(features[:FRONT].state_dict())


def route(votes_BOI4: Tensor) -> Tensor:
    """In each round an output is the squashed mean of its votes, and votes like it weigh more in the next.

    As published: agreement is not summed over the dimensions, and the softmax is over the inputs I.
    """
    agreement_BOI4 = torch.zeros_like(votes_BOI4)
    for _ in range(ROUNDS - 1):
        agreement_BOI4 = agreement_BOI4 + votes_BOI4 * _mean(votes_BOI4, agreement_BOI4)[:, :, None]
    return _mean(votes_BOI4, agreement_BOI4)


def _mean(votes_BOI4: Tensor, agreement_BOI4: Tensor) -> Tensor:
    return squash((agreement_BOI4.softmax(dim=2) * votes_BOI4).sum(dim=2), dim=-1)


def squash(x: Tensor, dim: int) -> Tensor:
    """The same direction along `dim`, its length n as n^2 / (1 + n^2)."""
    length = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    return x * length / (1 + length**2)


def _primary(inside: int) -> nn.Sequential:
    layers = nn.Sequential(
        *(nn.Conv2d(inside, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.Conv2d(64, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        Statistics(),
        *(nn.Conv1d(2, 8, 5, stride=2, padding=2), nn.BatchNorm1d(8)),
        *(nn.Conv1d(8, 1, 3, padding=1), nn.BatchNorm1d(1)),
        nn.Flatten(),
    )
    return layers.apply(_initialise)


def _initialise(module: nn.Module) -> None:
    """The published start."""
    if isinstance(module, nn.Conv2d | nn.Conv1d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
        nn.init.normal_(module.weight, 1.0, 0.02)
