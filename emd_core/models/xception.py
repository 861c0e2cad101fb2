"""Xception (timm's `legacy_xception`, the network of FaceForensics++) as an encoder with output stride 16."""

from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emd_core.storage.weights import downloading, load_exactly, read_state_dict

LOW_CHANNELS = 128  # block1, stride 4
MIDDLE_CHANNELS = 1536  # conv3, the map that the expression features join
LATENT_CHANNELS = 2048  # conv4
FRESH = ("conv4", "bn4")  # "the layer after feature concatenation" starts from random weights


class DilatedDepthwise(nn.Conv2d):
    """A depthwise 3x3 convolution of dilation 2 that keeps the size.

    On CPUs it is computed as what it is, a plain one on each of four grids, those of every second row and column:
    oneDNN has no fast backward pass for dilated ones.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=2, dilation=2, groups=channels, bias=False)

    def forward(self, x_BChw: Tensor) -> Tensor:
        if x_BChw.is_cuda:
            return super().forward(x_BChw)
        batch, channels, height, width = x_BChw.shape
        rows, columns = -(-height // 2), -(-width // 2)
        even = F.pad(x_BChw, (0, width % 2, 0, height % 2)).permute(0, 2, 3, 1)
        grids = even.reshape(batch, rows, 2, columns, 2, channels).permute(0, 2, 4, 1, 3, 5)
        grids = grids.reshape(4 * batch, rows, columns, channels).permute(0, 3, 1, 2)
        found = F.conv2d(grids, self.weight, padding=1, groups=channels).permute(0, 2, 3, 1)
        found = found.reshape(batch, 2, 2, rows, columns, channels).permute(0, 3, 1, 4, 2, 5)
        whole = found.reshape(batch, 2 * rows, 2 * columns, channels).permute(0, 3, 1, 2)
        return whole[:, :, :height, :width]


class XceptionEncoder(nn.Module):
    """B3HW normalised to [-1, 1] -> low-level map (stride 4) and latent map (stride 16).

    `extra_channels` more channels are concatenated to the map before the last convolution, conv4. With any, conv4
    has another shape than in ImageNet's network and starts from random weights, as the paper says.
    """

    net: Any  # timm's module; its layers are not typed

    def __init__(self, extra_channels: int) -> None:
        super().__init__()
        net: Any = timm.create_model("legacy_xception", pretrained=False)
        # Output stride 16: block12 no longer shrinks, and what follows is dilated to see as far as before.
        net.block12.skip.stride = (1, 1)
        net.block12.rep[-1].stride = 1
        net.conv3.conv1 = DilatedDepthwise(net.conv3.conv1.in_channels)
        channels = MIDDLE_CHANNELS + extra_channels
        net.conv4.conv1 = DilatedDepthwise(channels)
        if extra_channels:
            net.conv4.pointwise = nn.Conv2d(channels, LATENT_CHANNELS, 1, bias=False)
        net.fc = nn.Identity()
        self.net = net

    def forward(self, x_B3HW: Tensor, extra_BChw: Tensor | None = None) -> tuple[Tensor, Tensor]:
        net = self.net
        x = net.act2(net.bn2(net.conv2(net.act1(net.bn1(net.conv1(x_B3HW))))))
        low = x = net.block1(x)
        for i in range(2, 13):
            x = getattr(net, f"block{i}")(x)
        middle = net.act3(net.bn3(net.conv3(x)))
        if extra_BChw is not None:
            # F_i = FM_i ⊕ FF_i, before Eq. 6
            extra = F.interpolate(extra_BChw.to(middle.dtype), middle.shape[2:], mode="bilinear", align_corners=False)
            middle = torch.cat([middle, extra], dim=1)
        latent = net.act4(net.bn4(net.conv4(middle)))
        return low, latent

    def pretrained(self) -> list[nn.Module]:
        """All layers but conv4 and bn4, which never come from ImageNet."""
        return [module for name, module in self.net.named_children() if name not in FRESH]

    def load_weights(self, weights: str) -> None:
        """Load all but conv4, bn4 and fc from timm's download ("imagenet") or from a state-dict file.

        The file may be of timm's legacy_xception or of FaceForensics++'s Xception, with or without its classifier.
        """
        reference: Any = timm.create_model("legacy_xception", num_classes=0)
        if weights == "imagenet":
            with downloading("Xception", "the path of a state-dict file"):
                reference = timm.create_model("legacy_xception", pretrained=True, num_classes=0)
        else:
            load_exactly(reference, without_classifier(read_state_dict(Path(weights))), weights)
        own = self.net.state_dict()
        for key, tensor in reference.state_dict().items():
            if key.split(".")[0] not in FRESH:
                own[key].copy_(tensor)


# What follows the encoder in the published networks; DeepfakeBench's has another head beside its classifier.
HEADS = ("fc.", "last_linear.", "adjust_channel.")


def without_classifier(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The keys of timm's legacy_xception without fc, from those of FaceForensics++ (`last_linear`) or DeepfakeBench.

    The oldest published file stores pointwise convolutions as matrices; they become 1x1 kernels.
    """
    return {
        key: tensor[:, :, None, None] if "pointwise" in key and tensor.ndim == 2 else tensor
        for key, tensor in state.items()
        if not key.startswith(HEADS)
    }
