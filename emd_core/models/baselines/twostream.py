"""Two-stream: a network that looks at the face, and one that looks at the noise of its patches (Zhou et al., CVPRW
2017, "Two-Stream Neural Networks for Tampered Face Detection").

Patches are told apart by an embedding in which those of one image lie close together and those of others far away.
"""

from collections.abc import Iterable
from typing import Any, Literal

import timm
import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor, nn

from emd_core.errors import UserError
from emd_core.models.baselines.residuals import FEATURES, residual_features
from emd_core.models.detector import Detector, Network, Publication
from emd_core.models.parts.esr import ESR
from emd_core.models.parts.losses import classification_loss
from emd_core.models.parts.normalised import Normalised
from emd_core.storage.weights import downloading

HIDDEN, EMBEDDING = 128, 64  # channels of the embedding's two layers
MARGIN = 0.2  # by which another image's patch must be further away, on the unit sphere


class TwoStreamConfig(Network):
    """Two-stream."""

    kind: Literal["twostream"]
    size: int = Field(ge=32, description="Side of the square input, pixels; 299 in the publication.")
    face: str = Field(description="The face stream, a classifier of timm; inception_v3 in the publication.")
    patches: int = Field(ge=2, description="Patches along each side of the input; they do not overlap.")

    @field_validator("face")
    @classmethod
    def _known(cls, name: str) -> str:
        if not timm.is_model(name):
            raise ValueError(f"timm has no network '{name}'")
        return name


class TwoStream(Detector):
    """The score is the softmax of the mean of both streams' logits, the patches' averaged before."""

    config_type = TwoStreamConfig
    publication = Publication(
        "Zhou et al., Two-Stream Neural Networks for Tampered Face Detection, CVPRW 2017",
        "the face stream: ImageNet's (timm)",
        "as timm states it for the network",
    )
    localises = False

    def __init__(self, config: TwoStreamConfig, fer: ESR | None = None) -> None:
        super().__init__(config, fer)
        face: Any = timm.create_model(config.face, num_classes=0)  # timm's attributes are not typed
        self.face = face
        self.face_class = nn.Linear(face.head_hidden_size, 2)
        self.embed = nn.Sequential(
            nn.BatchNorm1d(FEATURES),  # shares of patterns differ by orders of magnitude
            nn.Linear(FEATURES, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, EMBEDDING),
        )
        self.patch_class = nn.Linear(EMBEDDING, 2)
        self.normalise = Normalised(face.default_cfg["mean"], face.default_cfg["std"])

    def detect(self, image_B3SS: Tensor, expression_BChw: Tensor | None) -> tuple[Tensor, None]:
        face_B2, _, patch_BP2 = self.streams(image_B3SS)
        return (face_B2 + patch_BP2.mean(1)) / 2, None

    def loss(self, image_B3HW: Tensor, label_B: Tensor, mask_B1HW: Tensor, known_B: Tensor) -> Tensor:
        """Cross-entropy of the faces + cross-entropy of the patches + triplets, all of weight 1."""
        face_B2, embedding_BPE, patch_BP2 = self.streams(self.view(image_B3HW))
        patch_loss = classification_loss(patch_BP2.float().flatten(0, 1), label_B.repeat_interleave(patch_BP2.shape[1]))
        return classification_loss(face_B2.float(), label_B) + patch_loss + triplet_loss(embedding_BPE.float())

    def streams(self, image_B3SS: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the faces, embeddings of their patches on the unit sphere, and the patches' logits."""
        face_B2 = self.face_class(self.face(self.normalise(image_B3SS)))
        patch_BP3pp = cut(image_B3SS, self.config.patches)
        embedding = F.normalize(self.embed(residual_features(patch_BP3pp.flatten(0, 1))).float())
        embedding_BPE = embedding.unflatten(0, patch_BP3pp.shape[:2])
        return face_B2, embedding_BPE, self.patch_class(embedding_BPE)

    def pretrained(self) -> Iterable[nn.Module]:
        return (self.face,)

    def load_published(self, weights: str) -> None:
        """Start the face stream from timm's download, "imagenet"."""
        if weights != "imagenet":
            raise UserError(
                f"train_emd.weights is '{weights}', but for 'twostream' it must be 'imagenet', which starts the face "
                "stream from timm's weights, or 'random'."
            )
        with downloading(self.config.face):
            reference = timm.create_model(self.config.face, pretrained=True, num_classes=0)
        self.face.load_state_dict(reference.state_dict())


def cut(image_B3SS: Tensor, patches: int) -> Tensor:
    """Squares side by side from the top left corner, BP3pp; what is left over at the other rims belongs to none."""
    side = image_B3SS.shape[3] // patches
    return image_B3SS.unfold(2, side, side).unfold(3, side, side).flatten(2, 3).transpose(1, 2)


def triplet_loss(embedding_BPE: Tensor) -> Tensor:
    """Each patch with the farthest of its own image and the nearest of another one, of two or more images."""
    images, patches, _ = embedding_BPE.shape
    embedding_NE = embedding_BPE.flatten(0, 1)
    image_N = torch.arange(images, device=embedding_NE.device).repeat_interleave(patches)
    same_NN = image_N[:, None] == image_N
    distance_NN = torch.cdist(embedding_NE.detach(), embedding_NE.detach())
    farthest_N = distance_NN.where(same_NN, -1).argmax(1)
    nearest_N = distance_NN.where(~same_NN, torch.inf).argmin(1)
    return F.triplet_margin_loss(embedding_NE, embedding_NE[farthest_N], embedding_NE[nearest_N], margin=MARGIN)
