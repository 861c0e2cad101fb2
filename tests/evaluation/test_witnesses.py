"""Every figure of an evaluation against scikit-learn, on data that are shaped unlike FaceForensics++."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, jaccard_score, roc_auc_score, roc_curve

from emd_core.detection.calibration import at_temperature
from emd_core.detection.metrics import COUNTS, confusion
from emd_core.evaluation.pixel_scores import PixelScores
from emd_core.evaluation.slices import summarise
from emd_core.models.checkpoint import Calibration

SIDE = 24
CALIBRATION = Calibration(temperature=1.7, threshold=0.35)
Videos = list[tuple[str, str, int]]  # key, target, frames


def dfdc() -> Videos:
    """Several fakes of one original, and no sources."""
    fakes: Videos = [(f"DFDC/released/f{i}{k}", f"r{i}", 3 + k) for i in range(6) for k in range(4)]
    return fakes + [(f"original/released/r{i}", f"r{i}", 5) for i in range(6)]


def own() -> Videos:
    """Own videos of one person each, some without an original; as many frames as they have."""
    fakes: Videos = [(f"reenactment/released/fakes/{i}", f"p{i}", 1 + i % 4) for i in range(9)]
    return fakes + [(f"original/released/real/{i}", f"p{i}", 2) for i in range(5)]


def pictures() -> Videos:
    return [("original/released/a", "a", 1), ("edited/released/b", "a", 1), ("edited/released/c", "a", 1)]


def scored(videos: Videos, seed: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """A row per frame; pixel scores and the truth of all frames, of a network that is very sure of most pixels."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    truths, scores = [], []
    for key, target, frames in videos:
        fake = not key.startswith("original")
        for frame in range(frames):
            truth = np.zeros((SIDE, SIDE), bool)
            truth[4 : 4 + int(rng.integers(4, 16)), 6:18] = fake
            logits = rng.normal(-14, 4, truth.shape) + 9 * truth
            score = (1 / (1 + np.exp(-logits))).astype(np.float32)
            counts = confusion(score[None] > 0.5, truth[None])[0]
            row = {"video": key, "method": key.split("/")[0], "quality": "released", "target": target, "source": ""}
            row |= {
                "frame": frame,
                "label": int(fake),
                "score": float(np.clip(rng.normal(0.4 + 0.2 * fake, 0.3), 0, 1)),
            }
            rows.append(row | {"mask_share": truth.mean()} | dict(zip(COUNTS, counts.tolist(), strict=True)))
            truths.append(truth)
            scores.append(score)
    return pd.DataFrame(rows), np.array(scores), np.array(truths)


def calibration_error(label: np.ndarray, score: np.ndarray) -> float:
    right, sure = (score > 0.5) == (label == 1), np.maximum(score, 1 - score)
    bins = np.searchsorted(np.linspace(0, 1, 16)[1:-1], sure)
    accuracy, confidence = calibration_curve(right, sure, n_bins=15)
    return float(np.abs(accuracy - confidence) @ np.bincount(bins)[np.bincount(bins) > 0] / len(label))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("videos", [dfdc, own, pictures])
def test_figures_are_scikit_learns(videos: Callable[[], Videos], seed: int) -> None:
    frames, pixel_scores, truths = scored(videos(), seed)
    pixels = PixelScores()
    pixels.add(pixel_scores, truths)
    figures = summarise(frames, [pixels], CALIBRATION)
    label, score = frames["label"].to_numpy(), frames["score"].to_numpy()
    whole = [frames[frames["video"] == key] for key, _, _ in videos()]
    video_label = [int(rows["label"].iat[0]) for rows in whole]
    video_score = np.array([rows["score"].mean() for rows in whole])
    fpr, tpr, _ = roc_curve(label, score, drop_intermediate=False)
    flat, found = truths.ravel(), pixel_scores.ravel() > 0.5
    nothing = np.zeros_like(found)
    fakes = [i for i in np.flatnonzero(label) if truths[i].any() or (pixel_scores[i] > 0.5).any()]
    wanted = {
        "frames": len(frames),
        "videos": len(videos()),
        "masks": len(frames),
        "frame_accuracy": accuracy_score(label, score > 0.5),
        "frame_accuracy_val_threshold": accuracy_score(label, score > CALIBRATION.threshold),
        "frame_auc": roc_auc_score(label, score),
        "frame_eer": np.interp(0, fpr + tpr - 1, fpr),
        "video_accuracy": accuracy_score(video_label, video_score > 0.5),
        "video_auc": roc_auc_score(video_label, video_score),
        "ece": calibration_error(label, score),
        "ece_calibrated": calibration_error(label, at_temperature(score, CALIBRATION.temperature)),
        "pixel_accuracy": accuracy_score(flat, found),
        "pixel_accuracy_floor": accuracy_score(flat, nothing),
        "pixel_accuracy_per_image": np.mean(
            [accuracy_score(t.ravel(), s.ravel() > 0.5) for t, s in zip(truths, pixel_scores, strict=True)]
        ),
        "miou": jaccard_score(flat, found, average="macro"),
        "miou_floor": jaccard_score(flat, nothing, average="macro"),
        "iou_per_fake": np.mean([jaccard_score(truths[i].ravel(), pixel_scores[i].ravel() > 0.5) for i in fakes]),
        "pixel_auc": roc_auc_score(flat, pixel_scores.ravel()),
    }
    measured = {name: value for name, value in figures.items() if not name.endswith(("_low", "_high"))}
    assert measured == pytest.approx(wanted, abs=1e-9)
    for name in ("frame_accuracy", "video_accuracy", "miou"):
        assert figures[f"{name}_low"] <= figures[name] <= figures[f"{name}_high"]
