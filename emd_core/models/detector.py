"""What every detector here shares: a frozen expression network beside a network that learns (Algorithm 1)."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from emd_core.config import Config
from emd_core.errors import UserError
from emd_core.models.parts.esr import ESR, pool_branches, vote
from emd_core.models.parts.losses import classification_loss


class Network(Config):
    """What the config of every kind of detector has; `kind` is a Literal of its name."""

    kind: str
    size: int = Field(ge=32, description="Side of the square input, pixels.")

    @property
    def with_expression(self) -> bool:
        """Whether the expression features join the encoder; only some kinds have the choice, as `expression`."""
        return bool(getattr(self, "expression", False))


class Publication(NamedTuple):
    """Where a detector comes from, for the table of all."""

    reference: str  # authors, title, where and when
    weights: str = ""  # which files of published weights it loads; "" for none
    licence: str = ""  # of those


class Detector(nn.Module, ABC):
    """Face crops B3HW, RGB in [0, 1] -> class logits B2 (1 = manipulated) and mask logits B1HW.

    phi (`fer`) is trained before and frozen here, or None in the variants without it; theta is everything else.
    Crops of another size than `side` are resized, and the mask logits have the size of the crops. A new kind is
    a subclass with the class variables below and `detect`, in a file of its own, and its name in `build.DETECTORS`.
    """

    config_type: ClassVar[type[Network]]
    publication: ClassVar[Publication]
    localises: ClassVar[bool] = True  # False: `detect` gives None for the mask, and all figures of masks are unknown
    learns_from_blends: ClassVar[bool] = False  # True: fakes are blends made of originals, never the data set's own

    config: Any  # of config_type

    def __init__(self, config: Network, fer: ESR | None = None) -> None:
        super().__init__()
        self.config = config
        self.fer = fer
        if fer is not None:
            fer.requires_grad_(False)

    def train(self, mode: bool = True) -> "Detector":
        super().train(mode)
        if self.fer is not None:
            self.fer.eval()  # phi keeps its batch statistics too
        return self

    @torch.no_grad()
    def recognise(self, image_B3HW: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The pooled map FF, B 512 hw, of Eq. 2 to 5, and the voted class, B; None without an expression network."""
        if self.fer is None:
            return None, None
        features_BKChw, logits_BKN = self.fer(resize(image_B3HW, self.fer.config.size))
        return pool_branches(features_BKChw, logits_BKN), vote(logits_BKN)

    def expression_features(self, image_B3HW: Tensor) -> Tensor | None:
        """The first of `recognise`."""
        return self.recognise(image_B3HW)[0]

    def forward(self, image_B3HW: Tensor, expression_BChw: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """`expression_BChw` may be given where it was computed before: phi is frozen, so it never changes."""
        if expression_BChw is None:
            expression_BChw = self.expression_features(image_B3HW)
        logits_B2, mask_B1hw = self.detect(self.view(image_B3HW), expression_BChw)
        if mask_B1hw is None:
            return logits_B2, None
        return logits_B2, F.interpolate(mask_B1hw, image_B3HW.shape[2:], mode="bilinear", align_corners=False)

    @property
    def side(self) -> int:
        """The side of the face crops that are made for it, pixels; others are resized to it."""
        return int(self.config.size)

    def view(self, image_B3HW: Tensor) -> Tensor:
        """What of a crop the network looks at, B3SS: all of it, unless a kind says otherwise."""
        return resize(image_B3HW, self.side)

    @abstractmethod
    def detect(self, image_B3SS: Tensor, expression_BChw: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Class and mask logits of crops of the network's own size; the mask may be smaller, or None."""

    def loss(self, image_B3HW: Tensor, label_B: Tensor, mask_B1HW: Tensor, known_B: Tensor) -> Tensor:
        """What theta is trained on: the class alone, unless a kind says otherwise.

        `mask_B1HW` float, `known_B` says whose mask counts.
        """
        return classification_loss(self(image_B3HW)[0].float(), label_B)

    def after_step(self) -> None:
        """Called without gradients after each step of the optimizer, such as to project weights onto a constraint."""

    def pretrained(self) -> Iterable[nn.Module]:
        """The modules that the warm-up fixes: those that may start from published weights."""
        return ()

    def load_published(self, weights: str) -> None:
        """Start from published weights: exactly those or a UserError. `weights` is train_emd.weights."""
        raise UserError(
            f"train_emd.weights is '{weights}', but no weights were published for '{self.config.kind}'; set it to "
            "'random'."
        )


class Fitted(Detector):
    """A detector that no gradient teaches: `fit`, once per epoch, takes the place of the optimizer's steps."""

    @abstractmethod
    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        """Learn from all crops B3HW and their labels B at once and return the loss."""


def resize(image_B3HW: Tensor, size: int) -> Tensor:
    """Bilinear, antialiased, to a square of `size` pixels."""
    if image_B3HW.shape[2:] == (size, size):
        return image_B3HW
    return F.interpolate(image_B3HW, (size, size), mode="bilinear", antialias=True, align_corners=False)
