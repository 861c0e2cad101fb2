"""Residual features as a network that is fine-tuned (Cozzolino, Poggi and Verdoliva, IH&MMSec 2017, "Recasting
residual-based local descriptors as convolutional neural networks").

Finding the pattern of four quantised neighbours is finding the nearest of 81 code words: a convolution whose filters
are the code words, and a maximum. The network starts as just that, with a sharp softmax for the maximum, and all its
weights are then free. At the start it computes `residual_features`, to 0.01 on pictures with noise and to 0.07 at
worst, where every residual lies next to a border between levels.
"""

import itertools
from typing import Literal

import torch
from torch import Tensor, nn

from emd_core.models.baselines.centre import CentreConfig, CentreDetector
from emd_core.models.baselines.residuals import FEATURES, FILTER, NEIGHBOURS, PATTERNS, grey
from emd_core.models.detector import Publication
from emd_core.models.parts.esr import ESR

BORDER = 1.5  # grey levels between -1, 0, 1 and the residuals of the outer levels
SHARPNESS = 8.0  # of the softmax, per grey level: a residual next to the border counts 1.8 % for the other level


class CozzolinoConfig(CentreConfig):
    """Co-occurrences of residuals as a network."""

    kind: Literal["cozzolino"]


class Cozzolino(CentreDetector):
    """Residual filter -> soft co-occurrences along and across it, averaged over the picture -> linear classifier."""

    config_type = CozzolinoConfig
    publication = Publication(
        "Cozzolino et al., Recasting Residual-based Local Descriptors as Convolutional Neural Networks, IH&MMSec 2017"
    )

    def __init__(self, config: CozzolinoConfig, fer: ESR | None = None) -> None:
        super().__init__(config, fer)
        self.residual = nn.Conv2d(1, 1, (1, len(FILTER)), bias=False)
        self.along = nn.Linear(NEIGHBOURS, PATTERNS)  # convolutions, written as products: twice as fast on a CPU
        self.across = nn.Linear(NEIGHBOURS, PATTERNS)
        self.classifier = nn.Linear(FEATURES, 2)
        words_81_4 = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=NEIGHBOURS)))
        with torch.no_grad():
            self.residual.weight.copy_(torch.tensor(FILTER).view(1, 1, 1, -1))
            for bank in (self.along, self.across):
                bank.weight.copy_(SHARPNESS * words_81_4)
                bank.bias.copy_(-SHARPNESS * BORDER * words_81_4.abs().sum(1))

    def detect(self, image_B3SS: Tensor, expression_BChw: Tensor | None) -> tuple[Tensor, None]:
        with torch.autocast(image_B3SS.device.type, enabled=False):
            # Times 81: 1 is what each pattern has where all are equally frequent, a scale that can be learned at.
            return self.classifier(self.features(image_B3SS) * PATTERNS), None

    def features(self, image_B3SS: Tensor) -> Tensor:
        """The shares of the patterns, B 162, in the order of `residual_features`."""
        picture = grey(image_B3SS)
        residuals = [self.residual(x) for x in (picture, picture.mT)]
        shares = [torch.cat([self.shares(self.along, x, 3), self.shares(self.across, x, 2)], dim=1) for x in residuals]
        return torch.stack(shares).mean(0)

    @staticmethod
    def shares(bank: nn.Linear, residual_B1HW: Tensor, dim: int) -> Tensor:
        """How often each code word is the nearest to four neighbours along `dim`, B 81."""
        closeness_B1hwP = bank(residual_B1HW.unfold(dim, NEIGHBOURS, 1))
        return closeness_B1hwP.softmax(-1).mean(dim=(1, 2, 3))
