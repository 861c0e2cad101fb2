"""Face X-ray: shows where a face was blended into a picture, and calls it manipulated by how much of that there is
(Li et al., CVPR 2020, "Face X-ray for More General Face Forgery Detection").

A blend of mask M in [0, 1] has the X-ray B = 4 M (1 - M) (Eq. 2): 1 on the blending boundary, 0 elsewhere and in all of
an original. The mask logits here are the X-ray's, so they mark a manipulated region's edge and not its inside: their
IoU with masks of regions is low by construction.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import timm
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from emd_core.models.detector import Detector, Network, Publication, resize
from emd_core.models.parts.esr import ESR
from emd_core.models.parts.losses import classification_loss, segmentation_loss
from emd_core.models.parts.normalised import Normalised
from emd_core.storage.weights import downloading, load_exactly, read_state_dict

LAMBDA = 100  # weight of the X-ray's loss
USUAL, SLOPE = 0.05, 20.0  # the mean X-ray at which the classifier starts undecided, and how steeply
# Of an ImageNet network these parts follow the four maps, and are not used.
HEADS = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")


class FaceXrayConfig(Network):
    kind: Literal["facexray"]
    size: int = Field(ge=32, multiple_of=32, description="Side of the square input, pixels; 256 in the publication.")
    backbone: Literal["hrnet_w18_small", "hrnet_w18_small_v2", "hrnet_w18", "hrnet_w32", "hrnet_w48"] = Field(
        description="timm's name of the HRNet; the publication does not say its width, others take hrnet_w48."
    )


class FaceXray(Detector):
    config_type = FaceXrayConfig
    publication = Publication(
        "Li et al., Face X-ray for More General Face Forgery Detection, CVPR 2020",
        "'imagenet' or a state-dict file of the HRNet, made for ImageNet; none of Face X-ray were published",
        "MIT",
    )
    learns_from_blends = True

    def __init__(self, config: FaceXrayConfig, fer: ESR | None = None) -> None:
        super().__init__(config, fer)
        self.normalise = Normalised()
        self.backbone = hrnet(config.backbone, pretrained=False)
        self.xray = nn.Conv2d(sum(self.backbone.feature_info.channels()), 1, 1)
        self.classifier = nn.Linear(1, 2)
        with torch.no_grad():
            # A mean X-ray is a few percent: from PyTorch's own start this layer would take 10,000s of steps to see it.
            self.classifier.weight.copy_(torch.tensor([[-SLOPE], [SLOPE]]))
            self.classifier.bias.copy_(torch.tensor([SLOPE, -SLOPE]) * USUAL)

    def detect(self, image_B3SS: Tensor, expression_BChw: Tensor | None) -> tuple[Tensor, Tensor]:
        maps = self.backbone(self.normalise(image_B3SS))  # of strides 4, 8, 16, 32
        maps = [F.interpolate(x, maps[0].shape[2:], mode="bilinear", align_corners=False) for x in maps]
        logits_B1hw = self.xray(torch.cat(maps, dim=1)).float()
        xray_B1SS = F.interpolate(logits_B1hw, image_B3SS.shape[2:], mode="bilinear", align_corners=False)
        return self.classifier(xray_B1SS.sigmoid().mean(dim=(2, 3))), xray_B1SS

    def loss(self, image_B3HW: Tensor, label_B: Tensor, mask_B1HW: Tensor, known_B: Tensor) -> Tensor:
        """100 times the X-ray's cross-entropy + the class's (Eq. 5); `mask_B1HW` is M, in [0, 1]."""
        logits_B2, xray_B1SS = self.detect(self.view(image_B3HW), None)
        truth_B1SS = xray(resize(mask_B1HW, self.side))
        return LAMBDA * segmentation_loss(xray_B1SS, truth_B1SS, known_B) + classification_loss(
            logits_B2.float(), label_B
        )

    def pretrained(self) -> Iterable[nn.Module]:
        return (self.backbone,)

    def load_published(self, weights: str) -> None:
        """Of the HRNet: timm's download ("imagenet"), or a state-dict file with or without its classifier."""
        if weights != "imagenet":
            state = read_state_dict(Path(weights))
            load_exactly(self.backbone, {k: x for k, x in state.items() if not k.startswith(HEADS)}, weights)
            return
        with downloading(self.config.backbone, "the path of a state-dict file"):
            reference = hrnet(self.config.backbone, pretrained=True)
        self.backbone.load_state_dict(reference.state_dict())


def xray(mask: Tensor) -> Tensor:
    """Eq. 2, of masks in [0, 1]."""
    return 4 * mask * (1 - mask)


def hrnet(name: str, *, pretrained: bool) -> Any:
    """timm's HRNet without what follows its four maps, of strides 4, 8, 16 and 32."""
    maps: dict[str, Any] = {"features_only": True, "feature_location": "", "out_indices": (1, 2, 3, 4)}
    return timm.create_model(name, pretrained=pretrained, **maps)
