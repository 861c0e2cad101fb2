"""MultiTask: a Y-shaped auto-encoder that classifies by which half of its latent map is active, segments and
reconstructs (Nguyen et al., BTAS 2019, "Multi-task learning for detecting and segmenting manipulated facial images").

Layer names and shapes are those of the published weights. There half 0 and class 0 mean altered, half 1 and class 1
original; outside this file label 1 means manipulated, as everywhere.
"""

import itertools
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from emd_core.errors import UserError
from emd_core.models.detector import Detector, Network, Publication, resize
from emd_core.models.latent_halves import activation_loss, half_activations, keep_half
from emd_core.models.parts.esr import ESR, FEATURE_CHANNELS
from emd_core.models.parts.losses import mean_of_known
from emd_core.models.parts.normalised import Normalised
from emd_core.storage.weights import load_exactly, read_state_dict

LATENT_CHANNELS = 128
LAST = 24  # index of the encoder's last convolution


class MultiTaskConfig(Network):
    """MultiTask, with the expression stream (EnsFER; SimFER if that has one branch) or without."""

    kind: Literal["multitask"]
    size: int = Field(ge=32, multiple_of=16, description="Side of the square input, pixels; 256 in the publication.")
    expression: bool = Field(description="Whether the expression features join the encoder.")


class Encoder(nn.Module):
    """Normalised B3SS -> latent map B 128 S/16 S/16. Extra channels join before the last convolution."""

    def __init__(self, extra_channels: int) -> None:
        super().__init__()
        plan = [(3, 8, 1), (8, 8, 2), (8, 16, 1), (16, 16, 2), (16, 32, 1), (32, 32, 2), (32, 64, 1), (64, 64, 2)]
        plan.append((64 + extra_channels, LATENT_CHANNELS, 1))
        self.encoder = nn.Sequential(
            *itertools.chain.from_iterable(
                (nn.Conv2d(inside, outside, 3, stride, padding=1), nn.BatchNorm2d(outside), nn.ReLU())
                for inside, outside, stride in plan
            )
        )
        self.encoder.apply(_initialise)

    def forward(self, x_B3SS: Tensor, extra_BChw: Tensor | None) -> Tensor:
        middle = self.encoder[:LAST](x_B3SS)
        if extra_BChw is not None:
            extra = F.interpolate(extra_BChw.to(middle.dtype), middle.shape[2:], mode="bilinear", align_corners=False)
            middle = torch.cat([middle, extra], dim=1)
        latent: Tensor = self.encoder[LAST:](middle)
        return latent


class Decoder(nn.Module):
    """Latent map -> mask logits B2SS (1 = manipulated) and the reconstruction B3SS in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Sequential(*_up(LATENT_CHANNELS, 64, 1), *_up(64, 64, 2), *_up(64, 32, 1), *_up(32, 32, 2))
        self.segmenter = _head(2)
        self.decoder = _head(3)
        self.segmenter.apply(_initialise)
        self.decoder.apply(_initialise)

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        shared = self.shared(latent)
        return self.segmenter(shared), self.decoder(shared).tanh()


class MultiTask(Detector):
    """The score is the softmax of the two halves' mean activations; the mask is decoded from the winning half."""

    config_type = MultiTaskConfig
    publication = Publication(
        "Nguyen et al., Multi-task Learning for Detecting and Segmenting Manipulated Facial Images, BTAS 2019",
        "the folder of encoder_<n>.pt and decoder_<n>.pt",
        "BSD-3-Clause",
    )

    def __init__(self, config: MultiTaskConfig, fer: ESR | None = None) -> None:
        super().__init__(config, fer)
        self.encoder = Encoder(0 if fer is None else FEATURE_CHANNELS)
        self.decoder = Decoder()
        self.normalise = Normalised()

    def detect(self, image_B3SS: Tensor, expression_BChw: Tensor | None) -> tuple[Tensor, Tensor]:
        latent, activation_B2 = self.encode(self.normalise(image_B3SS), expression_BChw)
        altered, original = activation_B2.unbind(1)
        seg_B2SS, _ = self.decoder(keep_half(latent, (original >= altered).long()))
        return activation_B2.flip(1), seg_B2SS[:, 1:] - seg_B2SS[:, :1]

    def loss(self, image_B3HW: Tensor, label_B: Tensor, mask_B1HW: Tensor, known_B: Tensor) -> Tensor:
        """Activation + segmentation + reconstruction loss, all of weight 1 as published."""
        rgb = self.normalise(self.view(image_B3HW))
        latent, activation_B2 = self.encode(rgb, self.expression_features(image_B3HW))
        half_B = 1 - label_B
        seg_B2SS, rebuilt = self.decoder(keep_half(latent, half_B))  # in training the label chooses the half
        mask_BSS = (resize(mask_B1HW, self.config.size) >= 0.5).long().squeeze(1)
        # The published loss takes the softmax twice: its network ends in one, and so does cross-entropy.
        entropy_BSS = F.cross_entropy(seg_B2SS.float().softmax(1), mask_BSS, reduction="none")
        segmentation_loss = mean_of_known(entropy_BSS.mean(dim=(1, 2)), known_B)
        return activation_loss(activation_B2, half_B) + segmentation_loss + F.mse_loss(rebuilt.float(), rgb)

    def encode(self, rgb_B3SS: Tensor, expression_BChw: Tensor | None) -> tuple[Tensor, Tensor]:
        """The latent map and the mean activation of its halves, B2 (altered, original)."""
        latent = self.encoder(rgb_B3SS, expression_BChw)
        return latent, half_activations(latent)

    def load_published(self, weights: str) -> None:
        """The folder's encoder_<n>.pt and decoder_<n>.pt, the files that the authors published."""
        folder = Path(weights)
        if self.fer is not None:
            raise UserError(
                f"{folder} holds the published MultiTask, which knows no expression features; "
                "set train_emd.network.expression to false, or train_emd.weights to 'random'."
            )
        for part, module in (("encoder", self.encoder), ("decoder", self.decoder)):
            files = sorted(folder.glob(f"{part}_*.pt"))
            if len(files) != 1:
                raise UserError(
                    f"{folder} holds {len(files)} files {part}_<n>.pt; it must hold exactly one encoder_<n>.pt and one "
                    "decoder_<n>.pt, as the authors of MultiTask published them."
                )
            load_exactly(module, read_state_dict(files[0]), str(files[0]))


def _up(inside: int, outside: int, stride: int) -> tuple[nn.Module, ...]:
    convolution = nn.ConvTranspose2d(inside, outside, 3, stride, padding=1, output_padding=stride - 1)
    return convolution, nn.BatchNorm2d(outside), nn.ReLU()


def _head(outside: int) -> nn.Sequential:
    layers = (*_up(32, 16, 1), *_up(16, 16, 2), *_up(16, 8, 1), *_up(8, 8, 2))
    return nn.Sequential(*layers, nn.ConvTranspose2d(8, outside, 3, padding=1))


def _initialise(module: nn.Module) -> None:
    """The published start: narrow normal weights (the decoder's shared part keeps PyTorch's own)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 0.5, 0.02)
