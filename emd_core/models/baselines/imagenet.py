"""ImageNet's networks of torchvision, from which others start: VGG-19, whole or its front, and AlexNet."""

from pathlib import Path
from typing import Any

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torchvision.models import alexnet, get_model
from torchvision.models.vgg import cfgs, make_layers

from emd_core.errors import UserError
from emd_core.storage.weights import load_exactly, read_state_dict

WIDTH = 64  # channels of VGG-19's first convolution
VGG19 = cfgs["E"]  # channels of its convolutions, "M" for a pooling


class Normalised(nn.Module):
    """RGB B3HW in [0, 1] -> with the mean and variance that these networks were trained on."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_DEFAULT_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_DEFAULT_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        return (image_B3HW - self.mean) / self.std


def vgg19_features(width: int, depth: int = len(VGG19)) -> nn.Sequential:
    """The first `depth` convolutions and poolings of VGG-19, all narrower by the same factor where `width` is."""
    return _drawn(make_layers([step if step == "M" else int(step) * width // WIDTH for step in VGG19[:depth]]))


def alexnet_features() -> nn.Sequential:
    with torch.device("meta"):  # where its dense layers, which nobody needs here, take neither memory nor time
        features = alexnet().features
    return _drawn(features.to_empty(device="cpu"))


def _drawn(features: nn.Sequential) -> nn.Sequential:
    """Random weights that keep the signal's strength; with PyTorch's own it fades layer by layer."""
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return features


def imagenet_network(name: str, folder: Path | None) -> Any:
    """torchvision's network `name` with its weights: those in the folder's file, or downloaded."""
    if folder is not None:
        file = one_file(folder, f"{name}-*.pth")
        network = get_model(name)
        load_exactly(network, read_state_dict(file), str(file), network=f"torchvision's {name}")
        return network
    try:
        return get_model(name, weights="IMAGENET1K_V1")
    except Exception as error:  # torchvision raises what its download raises
        raise UserError(
            f"the ImageNet weights of {name} could not be downloaded ({type(error).__name__}); set train_emd.weights "
            f"to a folder that holds torchvision's file {name}-<digits>.pth, or to 'random'."
        ) from error


def require_width(width: int) -> None:
    """Weights fit the published width alone."""
    if width != WIDTH:
        raise UserError(
            f"ImageNet's VGG-19 is {WIDTH} channels wide, but train_emd.network.width is {width}; set it to {WIDTH}, "
            "or train_emd.weights to 'random'."
        )


def one_file(folder: Path, pattern: str) -> Path:
    files = sorted(folder.glob(pattern))
    if len(files) != 1:
        raise UserError(f"{folder} holds {len(files)} files {pattern}; train_emd.weights must name a folder with one.")
    return files[0]
