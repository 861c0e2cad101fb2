"""What a crop looks like in a few numbers that no network learned, and how far that is from the training crops."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from emd_core.detection.crops import FaceCrops
from emd_core.models.rule import Profile

SIDE = 64  # px at which a crop is described
OCTAVES = 4
SMALLEST = 1.0  # grey levels that are added to each spread, so that a flat picture has a logarithm
SHARE = 0.01  # of the training crops may be smaller or more blurred than the profile says
MARGIN = 1.5  # times the distance of the farthest val video
PROFILED, OF_A_VIDEO = 2000, 4  # crops that are described, of the train split and of each val video
RIDGE = 0.05  # of the mean variance, added so that descriptions of few crops can be whitened


def profile_of(train: FaceCrops, val: FaceCrops) -> Profile:
    """What the crops look like, from PROFILED ones of the train split and a few of each val video."""
    rows = evenly(np.arange(len(train)), PROFILED)
    videos = [evenly(rows.to_numpy(), OF_A_VIDEO) for rows in val.table.groupby("video").groups.values()]
    about = train.table.iloc[rows]
    described = [described_crops(val, video) for video in videos]
    return fit_profile(described_crops(train, rows), about["side"].to_numpy(), about["sharpness"].to_numpy(), described)


def described_crops(crops: FaceCrops, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    images = (image for start in range(0, len(rows), 64) for image in crops.read(rows[start : start + 64]).image)
    return np.stack([describe(image.permute(1, 2, 0).numpy()) for image in images])


def evenly(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of the rows, spread evenly."""
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)]


def describe(crop: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Logarithms of the detail in each octave of the luma, and colours; crop HWC uint8 RGB -> (D,).

    Drawn and photographed faces, other cameras and other light differ in these, whatever a network makes of them.
    """
    small = cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    luma: NDArray[Any] = small @ np.array([0.299, 0.587, 0.114], np.float32)
    figures = [np.log(cv2.Laplacian(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.CV_32F).std() + SMALLEST)]
    for _ in range(OCTAVES):
        coarser = cv2.pyrDown(luma)
        detail = luma - cv2.pyrUp(coarser, dstsize=luma.shape[::-1])
        # The spread says how much detail there is, its ratio to the mean size whether it lies in a few edges.
        spread = detail.std()
        figures += [np.log(spread + SMALLEST), np.log((spread + SMALLEST) / (np.abs(detail).mean() + SMALLEST))]
        luma = coarser
    chroma = small - small.mean(axis=2, keepdims=True)
    figures += [small.mean() / 64, small.std() / 32, *chroma.mean(axis=(0, 1)) / 16, np.log(chroma.std() + SMALLEST)]
    return np.array(figures, np.float64)


def fit_profile(
    train: NDArray[np.float64], side: NDArray[np.float64], sharp: NDArray[np.float64], val: list[NDArray[np.float64]]
) -> Profile:
    """The profile of the training crops' descriptions (N, D), sides (N,) and sharpness (N,).

    val: the descriptions of each val video, (n, D); the farthest of them sets the limit.
    """
    mean, covariance = train.mean(axis=0), np.cov(train.T)
    covariance += RIDGE * np.trace(covariance) / len(mean) * np.eye(len(mean))
    # Of the inverse's Cholesky factor, so that distances are Mahalanobis's.
    whitening = np.linalg.cholesky(np.linalg.inv(covariance))
    distances = [distance(np.median(video, axis=0), mean, whitening) for video in val]
    return Profile(
        side=float(np.quantile(side, SHARE)),
        sharpness=float(np.quantile(sharp, SHARE)),
        mean=mean.tolist(),
        whitening=whitening.tolist(),
        limit=MARGIN * max(distances),
    )


def distance(description: NDArray[np.float64], mean: NDArray[np.float64], whitening: NDArray[np.float64]) -> float:
    """Mahalanobis distance from the mean, divided by the root of the dimension: about 1 for a training crop."""
    return float(np.linalg.norm((description - mean) @ whitening) / np.sqrt(len(mean)))


def distance_from(profile: Profile, descriptions: NDArray[np.float64]) -> float:
    """Of the median of a track's descriptions (n, D)."""
    return distance(np.median(descriptions, axis=0), np.array(profile.mean), np.array(profile.whitening))
