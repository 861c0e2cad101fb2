"""ESR: an ensemble of expression recognisers on a shared base (Siqueira et al., AAAI 2020; ESR-9 has 9 branches).

Layer names, shapes and class order are those of the published weights, one state dict for the base and one for
each branch.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from emd_core.config import Config

EXPRESSIONS = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger", "contempt")  # AffectNet's order
FEATURE_CHANNELS = 512


class ESRConfig(Config):
    """What it takes to build the network again from its checkpoint."""

    size: int = Field(ge=54, description="Side of the square input, pixels; the published weights want 96.")
    branches: int = Field(ge=1, description="Members of the ensemble; 9 in ESR-9.")


class Base(nn.Module):
    """The shared layers: B3HW RGB in [0, 1] -> B 128 hw (20x20 for 96x96)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 5), nn.BatchNorm2d(64)
        self.conv2, self.bn2 = nn.Conv2d(64, 128, 3), nn.BatchNorm2d(128)
        self.conv3, self.bn3 = nn.Conv2d(128, 128, 3), nn.BatchNorm2d(128)
        self.conv4, self.bn4 = nn.Conv2d(128, 128, 3), nn.BatchNorm2d(128)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(image_B3HW)))
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        x = F.relu(self.bn3(self.conv3(x)))
        return F.max_pool2d(F.relu(self.bn4(self.conv4(x))), 2)


class Branch(nn.Module):
    """One member of the ensemble: B 128 hw -> its last feature map (512 channels), class logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(128, 128, 3), nn.BatchNorm2d(128)
        self.conv2, self.bn2 = nn.Conv2d(128, 256, 3), nn.BatchNorm2d(256)
        self.conv3, self.bn3 = nn.Conv2d(256, 256, 3), nn.BatchNorm2d(256)
        self.conv4, self.bn4 = nn.Conv2d(256, FEATURE_CHANNELS, 3, padding=1), nn.BatchNorm2d(FEATURE_CHANNELS)
        self.fc = nn.Linear(FEATURE_CHANNELS, len(EXPRESSIONS))
        self.fc_dimensional = nn.Linear(len(EXPRESSIONS), 2)  # valence, arousal; part of the published weights

    def forward(self, shared: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.bn1(self.conv1(shared)))
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        x = F.relu(self.bn3(self.conv3(x)))
        features_BChw = F.relu(self.bn4(self.conv4(x)))
        return features_BChw, self.fc(features_BChw.mean(dim=(2, 3)))


class ESR(nn.Module):
    """Base and branches: B3HW RGB in [0, 1] -> feature maps B K 512 hw (6x6 for 96x96), logits B K 8.

    The branches are real submodules, so eval() reaches their batch norms (in the published code it does not).
    """

    def __init__(self, config: ESRConfig) -> None:
        super().__init__()
        self.config = config
        self.base = Base()
        self.branches = nn.ModuleList(Branch() for _ in range(config.branches))

    def forward(self, image_B3HW: Tensor, branches: int | None = None) -> tuple[Tensor, Tensor]:
        """With `branches`, only the first so many answer; K is their number."""
        shared = self.base(image_B3HW)
        features, logits = zip(*(branch(shared) for branch in self.branches[:branches]), strict=True)
        return torch.stack(features, dim=1), torch.stack(logits, dim=1)


def vote(logits_BKN: Tensor) -> Tensor:
    """The most frequent detected class of the branches, B; a tie goes to the lowest class id (Eq. 3 and 4)."""
    detected_BK = logits_BKN.argmax(dim=2)  # Eq. 3
    votes_BN = F.one_hot(detected_BK, logits_BKN.shape[2]).sum(dim=1)
    return votes_BN.argmax(dim=1)  # Eq. 4


def surest_branch(logits_BKN: Tensor, class_B: Tensor) -> Tensor:
    """The number of the branch that gives the class the highest probability, B (Eq. 5)."""
    sample = torch.arange(len(class_B), device=class_B.device)
    return logits_BKN.softmax(dim=2)[sample, :, class_B].argmax(dim=1)


def pool_branches(features_BKChw: Tensor, logits_BKN: Tensor) -> Tensor:
    """The feature map, B C hw, of the branch that is surest of the voted class (Eq. 5)."""
    branch_B = surest_branch(logits_BKN, vote(logits_BKN))
    return features_BKChw[torch.arange(len(branch_B), device=branch_B.device), branch_B]
