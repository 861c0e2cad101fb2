"""EMD: the two-stream network. Expression features join a manipulation encoder; two heads classify and localise."""

import torch
import torch.nn.functional as F
from pydantic import Field
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
from torch import Tensor, nn

from emd_core.config import Config
from emd_core.models.esr import ESR, FEATURE_CHANNELS, ESRConfig, pool_branches
from emd_core.models.xception import LATENT_CHANNELS, LOW_CHANNELS, XceptionEncoder

DECODER_CHANNELS = 256


class EMDConfig(Config):
    """What it takes to build the network again from its checkpoint."""

    image_size: int = Field(ge=48, description="Side of the square face crop, pixels.")
    atrous_rates: tuple[int, int, int] = Field(description="Of the decoder's pyramid; within the latent map's side.")
    fer: ESRConfig


class EMD(nn.Module):
    """Face crops B3HW, RGB in [0, 1] -> class logits B2 (1 = manipulated) and mask logits B1HW.

    phi (`fer`) is trained before and frozen here; theta is everything else (Algorithm 1).
    """

    def __init__(self, config: EMDConfig, fer: ESR, encoder: XceptionEncoder, decoder: nn.Module, fc: nn.Linear):
        super().__init__()
        self.config = config
        self.fer = fer.requires_grad_(False)
        self.encoder, self.decoder, self.fc = encoder, decoder, fc
        self.mask = nn.Conv2d(DECODER_CHANNELS, 1, 1)

    def train(self, mode: bool = True) -> "EMD":
        super().train(mode)
        self.fer.eval()  # phi keeps its batch statistics too
        return self

    @torch.no_grad()
    def expression_features(self, image_B3HW: Tensor) -> Tensor:
        """The pooled map FF, B 512 hw, of Eq. 2 to 5."""
        size = (self.fer.config.size, self.fer.config.size)
        small = F.interpolate(image_B3HW, size, mode="bilinear", antialias=True, align_corners=False)
        return pool_branches(*self.fer(small))

    def forward(self, image_B3HW: Tensor, expression_BChw: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`expression_BChw` may be given where it was computed before: phi is frozen, so it never changes."""
        if expression_BChw is None:
            expression_BChw = self.expression_features(image_B3HW)
        low, latent = self.encoder(image_B3HW * 2 - 1, expression_BChw)
        logits_B2 = self.fc(latent.mean(dim=(2, 3)))
        # Xception's unpadded stem makes the low map a few pixels smaller than 4x the latent one.
        low = F.interpolate(low, [4 * s for s in latent.shape[2:]], mode="bilinear", align_corners=False)
        decoded = self.decoder([latent, latent, low, latent])
        mask = F.interpolate(self.mask(decoded), image_B3HW.shape[2:], mode="bilinear", align_corners=False)
        return logits_B2, mask


def build_emd(config: EMDConfig) -> EMD:
    """EMD with random weights; load a checkpoint or the parts' weights into it."""
    decoder = DeepLabV3PlusDecoder(
        encoder_channels=(LATENT_CHANNELS, LATENT_CHANNELS, LOW_CHANNELS, LATENT_CHANNELS),  # it reads [2] and [-1]
        encoder_depth=4,
        out_channels=DECODER_CHANNELS,
        atrous_rates=config.atrous_rates,
        output_stride=16,
        aspp_separable=True,
        aspp_dropout=0.5,
    )
    encoder = XceptionEncoder(extra_channels=FEATURE_CHANNELS)
    return EMD(config, ESR(config.fer), encoder, decoder, nn.Linear(LATENT_CHANNELS, 2))
