"""From the scores of a face's frames to one of the face over time, and the limits that val's originals set for it."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logit

from emd_core.detection.calibration import SMALLEST
from emd_core.models.rule import Limit, Profile, VerdictRule
from emd_core.storage.manifest import ORIGINAL

RATES = (0.05, 0.01)  # false-positive rates that limits are fitted for
ROUNDING = 1e-9


def log_odds(score: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Of scores as the network gives them, at its temperature."""
    return np.asarray(logit(np.clip(score.astype(np.float64), SMALLEST, 1 - SMALLEST)) / temperature)


def track_log_odds(looks: NDArray[np.float64], window: int) -> float:
    """The highest mean of `window` log-odds in a row, or of all where there are fewer; `looks` in order of time."""
    width = min(window, len(looks))
    return float(np.convolve(looks, np.full(width, 1 / width), "valid").max())


def fit_rule(table: pd.DataFrame, score: NDArray[np.floating], temperature: float, profile: Profile) -> VerdictRule:
    """The rule of a network from the scores of its val split; `table` has the manifest's columns, a row per score."""
    frames = table.assign(log_odds=log_odds(score, temperature)).sort_values(["video", "frame"], kind="stable")
    originals = frames[frames["method"] == ORIGINAL]
    window, number = int(originals.groupby("video").size().max()), originals["target"].nunique()
    videos = frames.groupby(["method", "video"], sort=False)["log_odds"]
    of_tracks = videos.agg(lambda looks: track_log_odds(looks.to_numpy(), window)).groupby("method")
    by_looks = {1: frames.groupby("method")["log_odds"], window: of_tracks}
    limits = {
        n: [fit_limit(by.get_group(ORIGINAL).to_numpy(), number, rate) for rate in RATES] for n, by in by_looks.items()
    }
    found = {
        n: {str(method): float((values > limits[n][-1].log_odds).mean()) for method, values in by if method != ORIGINAL}
        for n, by in by_looks.items()
    }
    return VerdictRule(
        temperature=temperature, originals=number, window=window, limits=limits, found=found, profile=profile
    )


def fit_limit(values: NDArray[np.float64], originals: int, asked: float) -> Limit:
    """The limit that a face nobody manipulated exceeds with at most the rate `asked`, or with the least rate possible.

    Split conformal prediction: one more original than the n at hand is as likely in any place among them, so that even
    the largest value is exceeded in 1 of n + 1 cases. `values` may be several per original, such as those of its
    qualities; they tell no more than one of them. It is never below even odds: who finds nothing suspicious in any
    original of val must not call less than that manipulated.
    """
    rank = math.ceil((1 - asked) * (originals + 1) - ROUNDING)
    share = min(1.0, rank / originals)
    limit = float(np.sort(values)[math.ceil(share * len(values) - ROUNDING) - 1])
    return Limit(asked=asked, rate=max(asked, 1 / (originals + 1)), log_odds=max(limit, 0.0))


def limits_for(rule: VerdictRule, looks: int) -> Sequence[Limit]:
    """The limits for a mean of so many looks: those of the most looks that were fitted, but not more than there are."""
    return rule.limits[max(n for n in rule.limits if n <= looks)]
