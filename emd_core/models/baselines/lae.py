"""LAE, the locality-aware auto-encoder: it classifies by which half of its latent map is active, and where that half
is active must be where the face was manipulated (Du et al., CIKM 2020, arXiv 1909.05999).

Half and class 0 mean original, 1 manipulated. Its decoder is there for training alone.
"""

from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from emd_core.models.baselines.forensictransfer import AutoEncoder
from emd_core.models.detector import Detector, Network, Publication, resize
from emd_core.models.latent_halves import activation_loss, half_activations, keep_half
from emd_core.models.parts.esr import ESR
from emd_core.models.parts.losses import mean_of_known

ROUNDED = 0.01  # attention below this and above 1 minus this looks the same in a mask


class LAEConfig(Network):
    """LAE."""

    kind: Literal["lae"]
    size: int = Field(ge=32, multiple_of=16, description="Side of the square input, pixels.")


class LAE(Detector):
    """The score is the softmax of the two halves' mean activations; the mask is the attention of the second."""

    config_type = LAEConfig
    publication = Publication(
        "Du et al., Towards Generalizable Deepfake Detection with Locality-aware AutoEncoder, CIKM 2020"
    )

    def __init__(self, config: LAEConfig, fer: ESR | None = None) -> None:
        super().__init__(config, fer)
        self.net = AutoEncoder(channels=3)

    def detect(self, image_B3SS: Tensor, expression_BChw: Tensor | None) -> tuple[Tensor, Tensor]:
        latent = self.net.encoder(image_B3SS * 2 - 1)
        return half_activations(latent), attention(latent).float().logit(eps=ROUNDED)

    def loss(self, image_B3HW: Tensor, label_B: Tensor, mask_B1HW: Tensor, known_B: Tensor) -> Tensor:
        """Activation + reconstruction (squared error) + attention, all of weight 1; the attention where `known_B`."""
        rgb_B3SS = self.view(image_B3HW) * 2 - 1
        latent = self.net.encoder(rgb_B3SS)
        rebuilt_B3SS = self.net.decoder(keep_half(latent, label_B))
        # The mask at the latent map's size: there is nothing to learn about pixels that it cannot tell apart.
        mask_B1hw = resize(mask_B1HW, latent.shape[2])
        attention_loss = mean_of_known(attention_error(attention(latent).float(), mask_B1hw), known_B)
        reconstruction_loss = F.mse_loss(rebuilt_B3SS.float(), rgb_B3SS)
        return activation_loss(half_activations(latent), label_B) + reconstruction_loss + attention_loss


def attention(latent: Tensor) -> Tensor:
    """The class activation map of "manipulated", B1hw: what each place adds to the activation of its half.

    Its mean over the places is that activation.
    """
    return latent.unflatten(1, (2, -1))[:, 1].abs().mean(dim=1, keepdim=True)


def attention_error(attention_B1hw: Tensor, mask_B1hw: Tensor) -> Tensor:
    """How far the attention is below 1 within the mask and above 0 outside of it, mean over the places, B.

    Above 1 within the mask is no error: its mean over all places is drawn to 1, by the activation loss.
    """
    error_B1hw = mask_B1hw * F.relu(1 - attention_B1hw) + (1 - mask_B1hw) * attention_B1hw
    return error_B1hw.mean(dim=(1, 2, 3))
