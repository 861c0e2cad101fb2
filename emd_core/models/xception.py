"""Xception (timm's `legacy_xception`, the network of FaceForensics++) as an encoder with output stride 16."""

from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emd_core.errors import UserError

LOW_CHANNELS = 128  # block1, stride 4
MIDDLE_CHANNELS = 1536  # conv3, the map that the expression features join
LATENT_CHANNELS = 2048  # conv4


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
        for layer in (net.conv3, net.conv4):
            layer.conv1.dilation = layer.conv1.padding = (2, 2)
        if extra_channels:
            dilated = net.conv4.conv1
            channels = MIDDLE_CHANNELS + extra_channels
            net.conv4.conv1 = nn.Conv2d(
                channels, channels, 3, padding=dilated.padding, dilation=dilated.dilation, groups=channels, bias=False
            )
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

    def fresh_prefixes(self) -> tuple[str, ...]:
        """Names of the layers that never come from ImageNet: the last convolution and its batch norm."""
        return ("net.conv4.", "net.bn4.")

    def load_imagenet(self, weights: str) -> None:
        """Load all but conv4, bn4 and fc from timm's download ("imagenet") or from a state-dict file."""
        if weights == "imagenet":
            try:
                state = timm.create_model("legacy_xception", pretrained=True).state_dict()
            except Exception as error:  # timm raises what its download library raises
                raise UserError(
                    f"the ImageNet weights of Xception could not be downloaded ({type(error).__name__}); set "
                    "train_emd.encoder_weights to the path of a state-dict file, or to 'random'."
                ) from error
        else:
            if not Path(weights).is_file():
                raise UserError(
                    f"train_emd.encoder_weights names {weights}, which does not exist; "
                    "give a state-dict file of timm's legacy_xception, 'imagenet' or 'random'."
                )
            state = torch.load(weights, map_location="cpu", weights_only=True)
        fresh = tuple(p.removeprefix("net.") for p in self.fresh_prefixes())
        own = self.net.state_dict()
        for key, tensor in own.items():
            if key.startswith(fresh):
                continue
            if key not in state or state[key].shape != tensor.shape:
                raise UserError(
                    f"{weights} does not hold '{key}' of shape {tuple(tensor.shape)}; "
                    "it must be a state dict of timm's legacy_xception."
                )
            tensor.copy_(state[key])
