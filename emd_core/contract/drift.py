"""How face sizes and sharpness are distributed, and how far that is from a reference profile of other data."""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from pydantic import AfterValidator, Field, FiniteFloat

from emd_core.config import Config
from emd_core.reading import read_text, reading

LEVELS = np.linspace(0, 1, 21)  # of the quantiles; both ends included
FIGURES = ("side", "sharpness")


def _rising(values: list[float]) -> list[float]:
    if np.any(np.diff(values) < 0):
        raise ValueError("quantiles must not fall")
    return values


Quantiles = Annotated[list[FiniteFloat], Field(min_length=len(LEVELS), max_length=len(LEVELS)), AfterValidator(_rising)]


class Distribution(Config):
    """The quantiles at LEVELS of one quality's crops."""

    crops: int = Field(ge=1, description="Number of crops.")
    side: Quantiles = Field(description="Of the boxes, in pixels of the source frames.")
    sharpness: Quantiles = Field(description="Of the crops, variance of the Laplacian, squared grey levels.")


class Profile(Config):
    """What the crops of a data set are like."""

    masks: str = Field(description="Id of the table of masks that it was made from.")
    qualities: dict[str, Distribution]


def make_profile(crops: pd.DataFrame, masks: str) -> Profile:
    """The profile of crops (columns quality, side, sharpness); `masks` is the id of their table."""
    measured = crops.dropna(subset=list(FIGURES))
    return Profile(
        masks=masks,
        qualities={
            str(quality): Distribution(
                crops=len(group), side=quantiles(group["side"]), sharpness=quantiles(group["sharpness"])
            )
            for quality, group in measured.groupby("quality")
        },
    )


def quantiles(values: ArrayLike) -> list[float]:
    """The quantiles at LEVELS; each is one of the values, so that ties stay ties."""
    return [float(value) for value in np.quantile(np.asarray(values), LEVELS, method="inverted_cdf")]


def read_profile(path: Path) -> Profile:
    """Read a profile that `validate_data` wrote."""
    told = ("a profile of data", "name a profile.json of validate_data in validate_data.profile, or set it to null")
    text = read_text(path, *told)
    with reading(path, *told):
        return Profile.model_validate_json(text)


def write_profile(path: Path, profile: Profile) -> None:
    """Write a profile as JSON; equal profiles give equal bytes."""
    path.write_text(json.dumps(profile.model_dump(), indent=1, sort_keys=True) + "\n")


def kolmogorov_smirnov(reference: list[float], values: ArrayLike) -> float:
    """The largest difference, in [0, 1], between the cumulative shares of values and of a reference.

    The reference is known at the quantiles of LEVELS alone, so the distance is up to 0.05 smaller than between all
    values. A value that occurs often covers a range of levels, none of which is a difference.
    """
    ordered = np.sort(np.asarray(values))
    below, up_to = (np.searchsorted(ordered, reference, side=side) / len(ordered) for side in ("left", "right"))
    return float(np.maximum(below - LEVELS, LEVELS - up_to).max(initial=0))


def drifts(reference: Profile, crops: pd.DataFrame) -> pd.DataFrame:
    """One row per quality and figure of the crops: name ("side/c23") and drift, NaN where the reference lacks it."""
    rows = []
    for quality, group in crops.dropna(subset=list(FIGURES)).groupby("quality"):
        known = reference.qualities.get(str(quality))
        for figure in FIGURES:
            drift = kolmogorov_smirnov(getattr(known, figure), group[figure]) if known else np.nan
            rows.append({"name": f"{figure}/{quality}", "drift": drift})
    return pd.DataFrame(rows, columns=["name", "drift"]).astype({"drift": float})
