"""The figures of a slice, from a row per frame: a slice is a method's fakes and the originals of the same quality."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from emd_core.detection.calibration import at_temperature, expected_calibration_error
from emd_core.detection.metrics import (
    COUNTS,
    THRESHOLD,
    equal_error_rate,
    iou,
    mean_iou,
    pixel_accuracy,
)
from emd_core.evaluation import bootstrap
from emd_core.evaluation.pixel_scores import PixelScores, pixel_roc
from emd_core.models.checkpoint import Calibration
from emd_core.storage.manifest import ORIGINAL

NOT_LOCALISED = "the network says whether a face is manipulated, but not where"
UNCALIBRATED = "the network carries no temperature and threshold, as it had no val split with both classes"
PIXEL_FIGURES = ("pixel", "miou", "iou")  # how their names begin


def slice_rows(frames: pd.DataFrame, method: str, quality: str) -> pd.DataFrame:
    """The rows on which a method is judged at a quality: its fakes and the originals of that quality."""
    return frames[(frames["quality"] == quality) & frames["method"].isin([method, ORIGINAL])]


def slices(frames: pd.DataFrame) -> list[tuple[str, str]]:
    """Every (method, quality) of the fakes, in order."""
    fakes = frames.loc[frames["method"] != ORIGINAL, ["method", "quality"]]
    return sorted(set(fakes.itertuples(index=False, name=None)))


def as_they_are(frames: pd.DataFrame) -> pd.DataFrame:
    """The rows of crops that no perturbation changed; the quality of others is "quality/perturbation"."""
    return frames[~frames["quality"].str.contains("/")]


def by_condition(figures: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The slices "method/quality" of crops as they are, and perturbation -> the same slices under it."""
    plain: dict[str, Any] = {}
    hurt: dict[str, dict[str, Any]] = {}
    for name, found in figures.items():
        method, quality, *perturbation = name.split("/")
        (hurt.setdefault(perturbation[0], {}) if perturbation else plain)[f"{method}/{quality}"] = found
    return plain, hurt


def has_masks(frames: pd.DataFrame) -> bool:
    """Is it known of any fake which of its pixels are manipulated, and does the network say which?"""
    return bool(((frames["label"] == 1) & judged_by_pixel(frames)).any())


def judged_by_pixel(frames: pd.DataFrame) -> pd.Series:
    """Of which frames pixels were counted: their mask is known, and the network localises."""
    return frames[COUNTS].sum(axis=1) > 0


def summarise(frames: pd.DataFrame, pixels: Sequence[PixelScores], calibration: Calibration | None) -> dict[str, Any]:
    """All figures of one slice; None is what the slice cannot tell.

    `frames` has a row per frame: video (its key in VIDEOS), frame, label, score, mask_share (NaN: the mask is unknown)
    and the pixel counts of COUNTS, 0 where the mask is unknown or the network gives none; `pixels` hold the scores of
    the frames of known mask.
    A video's score is the mean of its frames'. The floors are what predicting "nothing is manipulated" would reach.
    `_low` and `_high` bound a figure's 95 % interval.
    """
    frames = frames.sort_values(["video", "frame"])  # so that sums of floats do not depend on the order of rows
    frames = frames.assign(frames=1, right=_right(frames, THRESHOLD), video_id=frames.groupby("video").ngroup())
    videos = frames.groupby("video_id").agg(
        {"label": "first", "score": "mean", "frames": "sum", "right": "sum"} | dict.fromkeys(COUNTS, "sum")
    )
    videos["video_right"] = _right(videos, THRESHOLD)
    figures = _class_figures(frames, videos, calibration) | _pixel_figures(frames, pixels)
    for name, values in _resampled(frames, videos).items():
        figures[f"{name}_low"], figures[f"{name}_high"] = bootstrap.interval(values)
    if not has_masks(frames):
        figures |= {name: None for name in figures if name.startswith(PIXEL_FIGURES)}
    return {name: value if value is None or math.isfinite(value) else None for name, value in figures.items()}


def _class_figures(frames: pd.DataFrame, videos: pd.DataFrame, calibration: Calibration | None) -> dict[str, Any]:
    label, score = frames["label"].to_numpy(), frames["score"].to_numpy(np.float64)
    both = len(set(label.tolist())) == 2  # else there is no ROC
    return {
        "frames": len(frames),
        "videos": len(videos),
        "frame_accuracy": float(frames["right"].mean()),
        "frame_accuracy_val_threshold": calibration and float(_right(frames, calibration.threshold).mean()),
        "frame_auc": float(roc_auc_score(label, score)) if both else None,
        "frame_eer": equal_error_rate(label, score) if both else None,
        "video_accuracy": float(videos["video_right"].mean()),
        "video_auc": float(roc_auc_score(videos["label"], videos["score"])) if both else None,
        "ece": expected_calibration_error(label, score),
        "ece_calibrated": calibration
        and expected_calibration_error(label, at_temperature(score, calibration.temperature)),
    }


def _pixel_figures(frames: pd.DataFrame, pixels: Sequence[PixelScores]) -> dict[str, Any]:
    known = frames[judged_by_pixel(frames)]
    fakes = known[known["label"] == 1]
    tn, fp, fn, tp = (int(n) for n in known[COUNTS].sum())
    false_positive_rate, true_positive_rate = pixel_roc(pixels)
    return {
        "masks": len(known),
        "pixel_accuracy": pixel_accuracy(tn, fp, fn, tp),
        "pixel_accuracy_floor": pixel_accuracy(tn + fp, 0, fn + tp, 0),
        "pixel_accuracy_per_image": float(pixel_accuracy(*known[COUNTS].to_numpy().T).mean()) if len(known) else None,
        "miou": mean_iou(tn, fp, fn, tp),
        "miou_floor": mean_iou(tn + fp, 0, fn + tp, 0),
        "iou_per_fake": float(
            pd.Series(iou(*fakes[COUNTS].to_numpy().T)).mean()
        ),  # skips NaN: nothing to find or found
        "pixel_auc": float(np.trapezoid(true_positive_rate, false_positive_rate)),
    }


def _resampled(frames: pd.DataFrame, videos: pd.DataFrame) -> dict[str, np.ndarray]:
    """The figures that get an interval, in each resample of the videos."""
    weights = bootstrap.resample(videos["label"].to_numpy())
    right, n, video_right, *counts = (weights @ videos[["right", "frames", "video_right", *COUNTS]].to_numpy(float)).T
    columns = (frames[name].to_numpy() for name in ("label", "score", "video_id"))
    return {
        "frame_accuracy": right / n,
        "frame_auc": bootstrap.frame_auc(weights, *columns),
        "video_accuracy": video_right / len(videos),
        "pixel_accuracy": pixel_accuracy(*counts),
        "miou": mean_iou(*counts),
    }


def _right(rows: pd.DataFrame, threshold: float) -> pd.Series:
    return (rows["score"] > threshold) == (rows["label"] == 1)


def summarise_slices(
    frames: pd.DataFrame, pixels: Mapping[tuple[str, str], PixelScores], calibration: Calibration | None
) -> dict[str, Any]:
    """`summarise` for every slice, keyed "method/quality"; pixels are keyed (method, quality), originals too."""
    return {
        f"{method}/{quality}": summarise(
            slice_rows(frames, method, quality),
            [pixels[method, quality], pixels[ORIGINAL, quality]],
            calibration,
        )
        for method, quality in slices(frames)
    }


def why_unknown(
    frames: pd.DataFrame, figures: Mapping[str, Mapping[str, Any]], *, localises: bool
) -> dict[str, dict[str, str]]:
    """Slice -> figure that is None -> why; `figures` as summarise_slices gives them for these frames."""
    reasons = {}
    for method, quality in slices(frames):
        masked = has_masks(slice_rows(frames, method, quality))
        pixels = "its masks are all of one class" if masked else "no fake of it has a known mask"
        pixels = pixels if localises else NOT_LOCALISED
        told = {"frame_accuracy_val_threshold": UNCALIBRATED, "ece_calibrated": UNCALIBRATED}
        unknown = [name for name, value in figures[f"{method}/{quality}"].items() if value is None]
        reasons[f"{method}/{quality}"] = {
            name: pixels if name.startswith(PIXEL_FIGURES) else told.get(name, "it has no originals")
            for name in unknown
        }
    return reasons
