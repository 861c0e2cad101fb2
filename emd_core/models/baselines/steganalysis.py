"""Steganalysis features and a linear support vector machine, as FaceForensics++ used them (Roessler et al. 2019)."""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from emd_core.models.baselines.centre import CentreConfig, CentreDetector
from emd_core.models.baselines.residuals import FEATURES, residual_features
from emd_core.models.detector import Fitted, Publication
from emd_core.models.parts.esr import ESR


class SteganalysisConfig(CentreConfig):
    """Co-occurrences of residuals and a linear support vector machine."""

    kind: Literal["steganalysis"]


class Steganalysis(CentreDetector, Fitted):
    """The logits are 0 and the machine's decision d, so that a score above 1/2 means d > 0; it is no probability."""

    config_type = SteganalysisConfig
    publication = Publication(
        "Fridrich and Kodovsky, Rich Models for Steganalysis of Digital Images, TIFS 2012; "
        "features and classifier of FaceForensics++, ICCV 2019"
    )

    def __init__(self, config: SteganalysisConfig, fer: ESR | None = None) -> None:
        super().__init__(config, fer)
        self.decision = nn.Linear(FEATURES, 1)

    def detect(self, image_B3SS: Tensor, expression_BChw: Tensor | None) -> tuple[Tensor, None]:
        with torch.autocast(image_B3SS.device.type, enabled=False):  # shares of 1e-3 are told apart
            decision_B1 = self.decision(residual_features(image_B3SS))
        return torch.cat([torch.zeros_like(decision_B1), decision_B1], dim=1), None

    @torch.no_grad()
    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        """Standardise the features, fit the machine, fold both into `decision`; returns the mean hinge loss."""
        from sklearn.pipeline import make_pipeline  # a served model does without scikit-learn
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import LinearSVC

        learned = [(residual_features(self.view(image)).cpu(), label.cpu()) for image, label in batches]
        features_NF, label_N = (torch.cat(parts) for parts in zip(*learned, strict=True))
        # The primal problem is solved without random numbers; the dual one shuffles.
        machine = make_pipeline(StandardScaler(), LinearSVC(dual=False)).fit(
            features_NF.double().numpy(), label_N.numpy()
        )
        scaler, svm = machine[0], machine[1]
        weight_F = torch.from_numpy(svm.coef_[0] / scaler.scale_)
        bias = float(svm.intercept_[0]) - weight_F @ torch.from_numpy(scaler.mean_)
        self.decision.weight.copy_(weight_F[None])
        self.decision.bias.copy_(bias[None])
        decision_N = features_NF.double() @ weight_F + bias
        return (1 - (2 * label_N - 1) * decision_N).clamp(min=0).mean().float()
