"""Two models on the same frames: how their figures differ, and how far that may be chance.

Both models see one set of frames, so frames are paired and what makes all of them hard or easy cancels. An original and
the fakes made of it show one person in one scene: the bootstrap draws them together, by target.
"""

import math

import numpy as np
import pandas as pd

from emd_core.detection.metrics import COUNTS, THRESHOLD, mean_iou
from emd_core.errors import UserError
from emd_core.evaluation import bootstrap
from emd_core.evaluation.gating import Difference
from emd_core.evaluation.slices import has_masks, judged_by_pixel, slice_rows, slices

KEY = ["video", "quality", "frame"]
TRUTH = ["label", "method", "target"]  # what two tables about the same frames agree on, beside the masks


def compare(candidate: pd.DataFrame, champion: pd.DataFrame) -> dict[str, dict[str, Difference]]:
    """Slice -> figure (frame_accuracy, miou) -> the difference; a figure that a slice cannot tell is left out.

    The tables are as `evaluation.score_frames` returns them, in any order. Raises UserError if they are not about the
    same frames with the same masks.
    """
    candidate, champion = (table.sort_values(KEY).reset_index(drop=True) for table in (candidate, champion))
    require_same_frames(candidate, champion)
    return {
        f"{method}/{quality}": _differences(
            slice_rows(candidate, method, quality), slice_rows(champion, method, quality)
        )
        for method, quality in slices(candidate)
    }


def require_same_frames(candidate: pd.DataFrame, champion: pd.DataFrame) -> None:
    """Refuse sorted tables whose rows are not about the same frames, or whose truth differs."""
    keys = [pd.MultiIndex.from_frame(table[KEY]) for table in (candidate, champion)]
    alone = [len(keys[0].difference(keys[1])), len(keys[1].difference(keys[0]))]
    remedy = "score both models on the same crops and masks."
    if any(alone) or len(keys[0]) != len(keys[1]):
        raise UserError(
            f"the candidate's and the champion's predictions are not about the same frames ({alone[0]} are only the "
            f"candidate's, {alone[1]} only the champion's, of {len(keys[0])} and {len(keys[1])}); {remedy}"
        )
    if keys[0].has_duplicates:
        raise UserError(f"the predictions hold {_frame(candidate, keys[0].duplicated())} twice; {remedy}")
    # Whether a mask is known, and how many of its pixels are manipulated, as far as both networks localise.
    counted = judged_by_pixel(candidate) & judged_by_pixel(champion)
    truths = [
        table[TRUTH].assign(known=table["mask_share"].notna(), pixels=(table["fn"] + table["tp"]).where(counted, 0))
        for table in (candidate, champion)
    ]
    differ = (truths[0] != truths[1]).any(axis=1)
    if differ.any():
        raise UserError(
            f"the candidate's and the champion's predictions disagree on the truth (label or mask) of {differ.sum()} "
            f"frames, first of {_frame(candidate, differ)}; {remedy}"
        )


def _frame(table: pd.DataFrame, wanted: np.ndarray | pd.Series) -> str:
    """The first of the wanted rows, for a sentence."""
    row = table[wanted].iloc[0]
    return f"frame {row['frame']} of {row['video']}"


def _differences(candidate: pd.DataFrame, champion: pd.DataFrame) -> dict[str, Difference]:
    """The figures of one slice, of tables with the same frames in the same order."""
    target = candidate["target"].to_numpy()
    sums = [_by_target(table, target) for table in (candidate, champion)]
    weights = bootstrap.resample(np.zeros(len(sums[0])))  # one stratum: a target brings its original and its fakes
    found = {}
    masked = has_masks(candidate) and has_masks(champion)
    for figure in ("frame_accuracy", "miou") if masked else ("frame_accuracy",):
        ours, theirs = (float(_figure(figure, table.sum(axis=0))) for table in sums)
        drawn = [_figure(figure, (weights @ table).T) for table in sums]
        difference = Difference(ours, theirs, *bootstrap.interval(drawn[0] - drawn[1]))
        if all(map(math.isfinite, difference)):
            found[figure] = difference
    return found


def _by_target(frames: pd.DataFrame, target: np.ndarray) -> np.ndarray:
    """Whole numbers per target: frames, those judged right, and the pixel counts in the order of COUNTS."""
    right = (frames["score"] > THRESHOLD) == (frames["label"] == 1)
    counted = frames[COUNTS].assign(frames=1, right=right.astype(int))
    return counted.groupby(target).sum()[["frames", "right", *COUNTS]].to_numpy(np.float64)


def _figure(name: str, sums: np.ndarray) -> np.ndarray:
    """One figure of sums as `_by_target` gives them, or of a column of sums per resample."""
    frames, right, *counts = sums
    return np.asarray(right / frames if name == "frame_accuracy" else mean_iou(*counts))
