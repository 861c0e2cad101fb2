"""MesoNet: Meso4 and MesoInception4, few layers that look at mesoscopic properties of a face (Afchar et al., WIFS 2018,
"MesoNet: a compact facial video forgery detection network").

The published networks answer with the probability that a face is real; here class 1 is manipulated, as everywhere.
"""

import re
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from emd_core.errors import UserError
from emd_core.models.detector import Detector, Network, Publication
from emd_core.reading import reading
from emd_core.storage.weights import load_exactly

PUBLISHED_SIZE = 256  # pixels; the first dense layer sees all of the last map, so its weights fit one size
KERAS_LAYERS = {"conv2d": nn.Conv2d, "batch_normalization": nn.BatchNorm2d, "dense": nn.Linear}
KERAS_WEIGHTS = {
    "kernel": "weight",
    "gamma": "weight",
    "bias": "bias",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


class MesoConfig(Network):
    """Meso4, or MesoInception4, whose first two convolutions are inception modules."""

    kind: Literal["meso4", "mesoinception4"]
    size: int = Field(ge=32, multiple_of=32, description="Side of the square input, pixels; 256 in the publication.")


class Inception(nn.Module):
    """Four branches that see 1, 3, 5 and 7 pixels far, concatenated: B C HW -> B sum(channels) HW."""

    def __init__(self, inside: int, channels: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList([_convolution(inside, channels[0], 1)])
        for dilation, outside in enumerate(channels[1:], start=1):
            self.branches.append(
                nn.Sequential(_convolution(inside, outside, 1), _convolution(outside, outside, 3, dilation))
            )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return torch.cat([branch(x_BCHW) for branch in self.branches], dim=1)


class MesoNet(Detector):
    """Four convolutions, each with batch norm and pooling, and two dense layers on all of the last map."""

    config_type = MesoConfig
    publication = Publication(
        "Afchar et al., MesoNet: a Compact Facial Video Forgery Detection Network, WIFS 2018",
        "Meso4_<DF or F2F>.h5 for meso4, MesoInception_<DF or F2F>.h5 for mesoinception4",
        "Apache-2.0",
    )
    localises = False

    def __init__(self, config: MesoConfig, fer: None = None) -> None:
        super().__init__(config, fer)
        first: nn.Module
        second: nn.Module
        if config.kind == "meso4":
            first, second, channels = _convolution(3, 8, 3), _convolution(8, 8, 5), (8, 8)
        else:
            first, second, channels = Inception(3, (1, 4, 4, 2)), Inception(11, (2, 4, 4, 2)), (11, 12)
        self.features = nn.Sequential(
            *(first, _norm(channels[0]), nn.MaxPool2d(2)),
            *(second, _norm(channels[1]), nn.MaxPool2d(2)),
            *(_convolution(channels[1], 16, 5), _norm(16), nn.MaxPool2d(2)),
            *(_convolution(16, 16, 5), _norm(16), nn.MaxPool2d(4)),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(0.5),
            nn.Linear(16 * (config.size // 32) ** 2, 16),
            nn.LeakyReLU(0.1),
            nn.Dropout(0.5),
            nn.Linear(16, 1),
        )
        self.apply(_initialise)

    def detect(self, image_B3SS: Tensor, expression_BChw: Tensor | None) -> tuple[Tensor, None]:
        map_BhwC = self.features(image_B3SS).permute(0, 2, 3, 1)  # flattened in the order of the published weights
        real_B1 = self.classifier(map_BhwC.flatten(1))
        return F.pad(real_B1, (0, 1)), None  # softmax of (x, 0) is (sigmoid of x, the rest)

    def loss(self, image_B3HW: Tensor, label_B: Tensor, mask_B1HW: Tensor, known_B: Tensor) -> Tensor:
        """The squared error of the score, as published."""
        score_B = self(image_B3HW)[0].float().softmax(1)[:, 1]
        return F.mse_loss(score_B, label_B.float())

    def load_published(self, weights: str) -> None:
        """A file of the authors, which Keras's `save_weights` wrote.

        Its layers are numbered in the order of their making, which is the order of the modules here.
        """
        if self.config.size != PUBLISHED_SIZE:
            raise UserError(
                f"the published weights of MesoNet are for {PUBLISHED_SIZE} pixels, but train_emd.network.size is "
                f"{self.config.size}; set it to {PUBLISHED_SIZE}, or train_emd.weights to 'random'."
            )
        state = read_keras(Path(weights))
        layers = nn.ModuleDict()  # this network's modules under the names of the file's layers
        for kind, module_type in KERAS_LAYERS.items():
            own = [module for module in self.modules() if isinstance(module, module_type)]
            given = sorted({name.split(".")[0] for name in state if _kind(name) == kind}, key=_number)
            if len(given) != len(own):
                raise UserError(
                    f"{weights} holds {len(given)} layers {kind} ({', '.join(given) or 'none'}) where "
                    f"{self.config.kind} has {len(own)}; name a file of that network."
                )
            layers.update(dict(zip(given, own, strict=True)))
        load_exactly(layers, state, weights, network=self.config.kind)


def read_keras(path: Path) -> dict[str, Tensor]:
    """The weights of a file that Keras's `save_weights` wrote, as PyTorch names and shapes them.

    {"conv2d_1.weight": ..., "batch_normalization_1.running_mean": ...}
    """
    import h5py

    state: dict[str, Tensor] = {}

    def keep(key: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            *_, layer, name = key.split("/")
            name = name.split(":")[0]
            state[f"{layer}.{KERAS_WEIGHTS.get(name, name)}"] = _transposed(torch.from_numpy(item[()]))

    what = "an HDF5 file of weights that Keras wrote"
    with reading(path, what, "name a file that the authors of MesoNet published"), h5py.File(path) as file:
        file.visititems(keep)
    return state


def _kind(name: str) -> str:
    """ "conv2d" of "conv2d_12.weight"."""
    return re.sub(r"(_\d+)?\..*", "", name)


def _number(layer: str) -> int:
    """12 of "conv2d_12"; Keras gives the first layer of its kind no number."""
    found = re.search(r"_(\d+)$", layer)
    return int(found[1]) if found else 0


def _transposed(weight: Tensor) -> Tensor:
    """Convolutions from height, width, inputs, outputs; dense layers from inputs, outputs."""
    return weight.permute(3, 2, 0, 1) if weight.ndim == 4 else weight.t()


def _convolution(inside: int, outside: int, side: int, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inside, outside, side, padding="same", dilation=dilation), nn.ReLU())


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)  # Keras's eps


def _initialise(module: nn.Module) -> None:
    """The published start, which is Keras's."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        assert module.bias is not None
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
