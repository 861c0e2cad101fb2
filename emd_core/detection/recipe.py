"""How a detector is trained beyond the paper's recipe, so that it holds on what a data set does not show."""

from pydantic import Field

from emd_core.config import Config


class Recipe(Config):
    """Section train_emd.recipe; 0 switches a part off."""

    damage: float = Field(ge=0, le=1, description="Share of the crops that are damaged as videos are on their way.")
    self_blends: float = Field(ge=0, le=1, description="Share of the fakes that are originals blended with themselves.")
    average: float = Field(ge=0, lt=1, description="Decay per step of the averaged weights (EMA) that are kept.")

    @property
    def changes_crops(self) -> bool:
        return bool(self.damage or self.self_blends)


PAPER = Recipe(damage=0, self_blends=0, average=0)
