"""What the training crops look like to a network that no training here changed, and how far a face is from them.

The face detector's last network was trained on photographs of faces from everywhere. Drawn faces, faces of another
camera's quality and squares that hold no face lie elsewhere in its features, whatever the detector of manipulations
makes of them. The distance is Mahalanobis's along the principal axes (Lee et al., NeurIPS 2018, do so with a
classifier's own features).
"""

import numpy as np
from numpy.typing import NDArray

from emd_core.detection.crops import FaceCrops
from emd_core.faces.mtcnn import MtcnnDetector
from emd_core.models.rule import Profile

Features = NDArray[np.floating]  # (N, C)
PROFILED, OF_A_VIDEO = 2000, 4  # crops that are looked at, of the train split and of each val video
SHARE = 0.01  # of the training crops may be smaller or more blurred than the profile says
AXES, CROPS_PER_AXIS = 48, 10  # as many axes, or fewer where the crops are few
ALLOWED = 0.01  # of the val crops may be unlike the training data, of its videos none
MARGIN = 1.1  # times what the farthest val video has
SCALE = 1.3  # of FaceForensics++'s crop rule
BATCH = 64  # crops; memory only
DIGITS = 5  # of the numbers that are kept


def profile_of(train: FaceCrops, val: FaceCrops) -> Profile:
    """What the crops look like, from PROFILED ones of the train split and a few of each val video."""
    faces = MtcnnDetector(threshold=0.5, device="cpu")  # on a GPU the last bits would differ, and with them the file
    rows = evenly(np.arange(len(train)), PROFILED)
    videos = [evenly(rows.to_numpy(), OF_A_VIDEO) for rows in val.table.groupby("video").groups.values()]
    features = np.split(features_of(faces, val, np.concatenate(videos)), np.cumsum([len(v) for v in videos])[:-1])
    about = train.table.iloc[rows]
    return fit_profile(
        features_of(faces, train, rows), about["side"].to_numpy(), about["sharpness"].to_numpy(), features
    )


def features_of(faces: MtcnnDetector, crops: FaceCrops, rows: NDArray[np.int64]) -> Features:
    batches = (crops.read(rows[start : start + BATCH]).image for start in range(0, len(rows), BATCH))
    return np.concatenate([faces.features([*batch.permute(0, 2, 3, 1).numpy()], SCALE) for batch in batches])


def evenly(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many of the rows, spread evenly."""
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)]


def fit_profile(
    train: Features, side: NDArray[np.floating], sharpness: NDArray[np.floating], val: list[Features]
) -> Profile:
    """The profile of the training crops' features, sides (N,) and sharpness (N,).

    val: the features of each val video's crops; single looks and whole tracks get their limits from them.
    """
    mean = train.mean(axis=0, dtype=np.float64)
    centred = train - mean
    _, spread, directions = np.linalg.svd(centred, full_matrices=False)
    used = min(AXES, max(1, len(train) // CROPS_PER_AXIS), int((spread > spread[0] * 1e-6).sum()))
    axes = directions[:used].T / (spread[:used] / np.sqrt(len(train)))
    profile = Profile(
        side=float(np.quantile(side, SHARE)),
        sharpness=float(np.quantile(sharpness, SHARE)),
        scale=SCALE,
        mean=mean.round(DIGITS).tolist(),
        axes=axes.round(DIGITS).tolist(),
        limits={},
    )
    single = np.concatenate([distances(profile, video) for video in val])
    videos = [distance(profile, video) for video in val]
    limits = {1: float(np.quantile(single, 1 - ALLOWED)), max(2, *map(len, val)): MARGIN * max(videos)}
    return profile.model_copy(update={"limits": limits})


def distances(profile: Profile, features: Features) -> NDArray[np.float64]:
    """Of each row, from the mean; about 1 for a training crop."""
    projected = (features - np.array(profile.mean)) @ np.array(profile.axes)
    return np.asarray(np.linalg.norm(projected, axis=1) / np.sqrt(projected.shape[1]))


def distance(profile: Profile, features: Features) -> float:
    """Of the median of a track's features (N, C)."""
    return float(distances(profile, np.median(features, axis=0, keepdims=True))[0])


def distance_over_limit(profile: Profile, features: Features) -> float:
    """Above 1 the face with these features (N, C) is unlike the training data."""
    limit = profile.limits[max(n for n in profile.limits if n <= len(features))]
    return distance(profile, features) / limit
