"""ImageNet's networks of torchvision, from which others start: VGG-19, whole or its front, and AlexNet."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models import get_model

from emd_core.errors import UserError
from emd_core.storage.weights import downloading, load_exactly, read_state_dict

WIDTH = 64  # channels of the first convolution of both
RGB = 3  # channels of the input


def features_of(name: str, width: int, layers: int | None = None) -> nn.Sequential:
    """The first convolutions and poolings of torchvision's network `name`, all narrower by one factor.

    `width` is that of the first convolution. The weights are random, of the variance that keeps a signal's strength.
    """
    with torch.device("meta"):  # where the dense layers, which nobody needs here, take neither memory nor time
        features = get_model(name).features[:layers]
    return nn.Sequential(*(_narrowed(layer, width) if isinstance(layer, nn.Conv2d) else layer for layer in features))


def _narrowed(layer: nn.Conv2d, width: int) -> nn.Conv2d:
    inside, outside = (c if c == RGB else c * width // WIDTH for c in (layer.in_channels, layer.out_channels))
    narrow: Any = nn.Conv2d(inside, outside, layer.kernel_size, layer.stride, layer.padding)  # type: ignore[arg-type]
    nn.init.kaiming_normal_(narrow.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(narrow.bias)
    return narrow


def imagenet_network(name: str, folder: Path | None) -> Any:
    """torchvision's network `name` with its weights: those in the folder's file, or downloaded."""
    if folder is not None:
        file = one_file(folder, f"{name}-*.pth")
        network = get_model(name)
        load_exactly(network, read_state_dict(file), str(file), network=f"torchvision's {name}")
        return network
    with downloading(name, f"a folder that holds torchvision's file {name}-<digits>.pth"):
        return get_model(name, weights="IMAGENET1K_V1")


def require_width(width: int) -> None:
    """Weights fit the published width alone."""
    if width != WIDTH:
        raise UserError(
            f"ImageNet's networks have train_emd.network.width {WIDTH}, but it is {width}; set it to {WIDTH}, or "
            "train_emd.weights to 'random'."
        )


def one_file(folder: Path, pattern: str) -> Path:
    files = sorted(folder.glob(pattern))
    if len(files) != 1:
        raise UserError(f"{folder} holds {len(files)} files {pattern}; train_emd.weights must name a folder with one.")
    return files[0]
