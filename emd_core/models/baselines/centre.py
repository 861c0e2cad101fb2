"""Detectors that look at the centre of the face crop alone, at the crop's own resolution.

FaceForensics++ gave its forensic baselines the 128 x 128 centre: resizing would wipe out the traces of single pixels
that they look for.
"""

from pydantic import Field, model_validator
from torch import Tensor

from emd_core.models.detector import Detector, Network, resize


class CentreConfig(Network):
    """What the config of every such detector has."""

    crop: int = Field(ge=32, description="Side of the face crops, pixels; 299 in FaceForensics++.")
    size: int = Field(
        ge=32, description="Side of the square in their middle that is the input, pixels; 128 in FaceForensics++."
    )

    @model_validator(mode="after")
    def _fits(self) -> "CentreConfig":
        if self.size > self.crop:
            raise ValueError(f"size {self.size} does not fit into crop {self.crop}")
        return self


class CentreDetector(Detector):
    """Crops are brought to `crop` pixels, where they are not; their middle is cut out as it is."""

    localises = False

    @property
    def side(self) -> int:
        return int(self.config.crop)

    def view(self, image_B3HW: Tensor) -> Tensor:
        size = self.config.size
        start = (self.side - size) // 2
        return resize(image_B3HW, self.side)[:, :, start : start + size, start : start + size]
