"""What a verdict needs of a model beside its weights: fitted to its val split, and part of its checkpoint.

A track is one face over time. Log-odds are those of a frame's score at the model's temperature.
"""

from pydantic import Field

from emd_core.config import Config


class Limit(Config):
    """Log-odds above which a track is called manipulated, and how often that is wrong."""

    asked: float = Field(gt=0, lt=1, description="False-positive rate that was asked for.")
    rate: float = Field(
        gt=0, lt=1, description="Rate that the val split can support: with n originals none below 1 / (n + 1)."
    )
    log_odds: float


class Profile(Config):
    """What the training crops look like, so that crops unlike any of them are told."""

    side: float = Field(description="Side of the square cut, px, that 99 % of the training crops exceed.")
    sharpness: float = Field(description="Variance of the Laplacian that 99 % of the training crops exceed.")
    scale: float = Field(ge=1, description="Side of the square cut, in longer sides of the face box.")
    mean: list[float] = Field(description="Of the training crops' features by the face detector's last network, C.")
    axes: list[list[float]] = Field(description="Their principal axes, C x D, scaled to a variance of 1 along each.")
    limits: dict[int, float] = Field(
        description="Distance from the mean beyond which a face is unlike the training data, by the number of looks."
    )


class VerdictRule(Config):
    """From frames to a track: the highest mean log-odds of `window` looks in a row, against the limits.

    From tracks to a video: the track with the highest one decides.
    """

    temperature: float = Field(gt=0)
    originals: int = Field(ge=1, description="Distinct originals of the val split that the limits rest on.")
    window: int = Field(ge=1, description="Looks per track in the val split.")
    limits: dict[int, list[Limit]] = Field(
        description="By the number of looks that the mean is of (1 and `window`), from the loosest to the strictest."
    )
    found: dict[int, dict[str, float]] = Field(
        default={},  # of a file of an earlier version
        description="Share of the val split's fakes above the strictest limit, by the number of looks and by method.",
    )
    profile: Profile
