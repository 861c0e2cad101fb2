"""EMD: the two-stream network. Expression features join a manipulation encoder; two heads classify and localise."""

from collections.abc import Iterable
from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
from torch import Tensor, nn

from emd_core.models.detector import Detector, Network, Publication
from emd_core.models.parts.esr import ESR, FEATURE_CHANNELS
from emd_core.models.parts.losses import PixelReduction, manipulation_loss
from emd_core.models.xception import LATENT_CHANNELS, LOW_CHANNELS, XceptionEncoder

DECODER_CHANNELS = 256


class EMDConfig(Network):
    """Xception + DeepLabV3+, with the expression stream (EMD; SimFER if that has one branch) or without."""

    kind: Literal["emd"]
    size: int = Field(ge=48, description="Side of the square input, pixels; 299 in Xception.")
    expression: bool = Field(description="Whether the expression features join the encoder.")
    atrous_rates: tuple[int, int, int] = Field(description="Of the decoder's pyramid; (6, 12, 18) at 299 pixels.")
    pixel_loss: PixelReduction = Field(description="Eq. 7: the mean over an image's pixels, or their sum as printed.")


class EMD(Detector):
    """The paper's network; without `fer` its twin, called XceptionNet in the paper's tables."""

    config_type = EMDConfig
    publication = Publication(
        "Mazaheri and Roy-Chowdhury, Detection and Localization of Facial Expression Manipulations, WACV 2022",
        "Xception: ImageNet's (timm), or a state dict of timm's or FaceForensics++'s Xception",
        "Apache-2.0 (timm)",
    )

    def __init__(self, config: EMDConfig, fer: ESR | None = None) -> None:
        super().__init__(config, fer)
        decoder = DeepLabV3PlusDecoder(
            encoder_channels=(LATENT_CHANNELS, LATENT_CHANNELS, LOW_CHANNELS, LATENT_CHANNELS),  # it reads [2] and [-1]
            encoder_depth=4,
            out_channels=DECODER_CHANNELS,
            atrous_rates=config.atrous_rates,
            output_stride=16,
            aspp_separable=True,
            aspp_dropout=0.5,
        )
        self.encoder = XceptionEncoder(extra_channels=0 if fer is None else FEATURE_CHANNELS)
        self.decoder = decoder  # made first: a seed gives the same weights as it always did
        self.fc = nn.Linear(LATENT_CHANNELS, 2)
        self.mask = nn.Conv2d(DECODER_CHANNELS, 1, 1)

    def detect(self, image_B3SS: Tensor, expression_BChw: Tensor | None) -> tuple[Tensor, Tensor]:
        low, latent = self.encoder(image_B3SS * 2 - 1, expression_BChw)
        logits_B2 = self.fc(latent.mean(dim=(2, 3)))
        # Xception's unpadded stem makes the low map a few pixels smaller than 4x the latent one.
        low = F.interpolate(low, [4 * s for s in latent.shape[2:]], mode="bilinear", align_corners=False)
        return logits_B2, self.mask(self.decoder([latent, latent, low, latent]))

    def loss(self, image_B3HW: Tensor, label_B: Tensor, mask_B1HW: Tensor, known_B: Tensor) -> Tensor:
        logits, mask_logits = self(image_B3HW)
        return manipulation_loss(
            logits.float(), mask_logits.float(), label_B, mask_B1HW, known_B, self.config.pixel_loss
        )

    def pretrained(self) -> Iterable[nn.Module]:
        return self.encoder.pretrained()

    def load_published(self, weights: str) -> None:
        self.encoder.load_weights(weights)
