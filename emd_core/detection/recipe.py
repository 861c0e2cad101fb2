"""How a detector is trained beyond the paper's recipe, so that it holds on what a data set does not show."""

import math

from pydantic import Field

from emd_core.config import Config


class Recipe(Config):
    """Section train_emd.recipe; 0 switches a part off."""

    damage: float = Field(ge=0, le=1, description="Share of the crops that are damaged as videos are on their way.")
    self_blends: float = Field(ge=0, le=1, description="Share of the fakes that are originals blended with themselves.")
    warm_up: float = Field(ge=0, lt=1, description="Share of the steps in which the learning rate rises from 0.")
    cosine: bool = Field(description="Whether it then falls to 0 along a half cosine.")
    average: float = Field(ge=0, lt=1, description="Decay per step of the averaged weights (EMA) that are kept.")

    def rate(self, step: int, steps: int) -> float:
        """What the learning rate is multiplied by in a step, counted from 0, of all of a training."""
        rising = round(self.warm_up * steps)
        if step < rising:
            return (step + 1) / rising
        return 0.5 + 0.5 * math.cos(math.pi * (step - rising) / (steps - rising)) if self.cosine else 1.0

    @property
    def changes_crops(self) -> bool:
        return bool(self.damage or self.self_blends)


PAPER = Recipe(damage=0, self_blends=0, warm_up=0, cosine=False, average=0)
