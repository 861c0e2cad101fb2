"""Metrics against scikit-learn and against values computed by hand."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import jaccard_score, roc_auc_score

from emd_core.metrics import (
    COUNTS,
    confusion,
    histogram_roc,
    mean_iou,
    pixel_accuracy,
    score_histogram,
    summarise,
    summarise_slices,
)


@pytest.fixture
def pixels() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.random((6, 20, 20)) < 0.3
    return np.clip(0.35 * truth + 0.6 * rng.random(truth.shape), 0, 1), truth


def test_against_scikit_learn(pixels: tuple[np.ndarray, np.ndarray]) -> None:
    score, truth = pixels
    counts = confusion(score > 0.5, truth).sum(axis=0).tolist()
    flat = truth.ravel(), (score > 0.5).ravel()
    assert mean_iou(*counts) == pytest.approx(jaccard_score(*flat, average="macro"))
    assert pixel_accuracy(*counts) == pytest.approx((flat[0] == flat[1]).mean())
    fpr, tpr = histogram_roc(score_histogram(score, truth))
    assert np.trapezoid(tpr, fpr) == pytest.approx(roc_auc_score(truth.ravel(), score.ravel()), abs=1e-3)


def test_counts_do_not_depend_on_batches(pixels: tuple[np.ndarray, np.ndarray]) -> None:
    score, truth = pixels
    whole = confusion(score > 0.5, truth).sum(axis=0)
    parts = sum(confusion(score[i : i + 4] > 0.5, truth[i : i + 4]).sum(axis=0) for i in (0, 4))
    assert (whole == parts).all()
    histograms = [score_histogram(score[i : i + 4], truth[i : i + 4]) for i in (0, 4)]
    assert (score_histogram(score, truth) == sum(histograms)).all()


def test_iou_of_an_absent_class_is_undefined_not_perfect() -> None:
    assert np.isnan(mean_iou(tn=10, fp=0, fn=0, tp=0))


def frame(video: str, method: str, label: int, score: float, counts: list[int]) -> dict[str, object]:
    row = {"video": video, "method": method, "quality": "c23", "label": label, "score": score}
    return row | dict(zip(COUNTS, counts, strict=True))


def test_slices_by_hand() -> None:
    frames = pd.DataFrame(
        [
            frame("original/c23/000", "original", 0, 0.2, [100, 0, 0, 0]),
            frame("original/c23/000", "original", 0, 0.6, [90, 10, 0, 0]),
            frame("Face2Face/c23/000_001", "Face2Face", 1, 0.9, [60, 0, 10, 30]),
            frame("Face2Face/c23/000_001", "Face2Face", 1, 0.3, [60, 0, 30, 10]),
            # same file name, other method: another video
            frame("Deepfakes/c23/000_001", "Deepfakes", 1, 0.1, [60, 0, 40, 0]),
        ]
    )
    empty = np.zeros((2, 8))
    empty[:, 0] = 1
    histograms = {(m, "c23"): empty for m in ("original", "Face2Face", "Deepfakes")}
    slices = summarise_slices(frames, histograms)
    assert set(slices) == {"Face2Face/c23", "Deepfakes/c23"}
    f2f = slices["Face2Face/c23"]
    assert (f2f["frames"], f2f["videos"]) == (4, 2)
    assert f2f["frame_accuracy"] == 0.5
    assert f2f["video_accuracy"] == 1.0  # means 0.4 and 0.6
    assert f2f["frame_auc"] == 0.75
    assert f2f["pixel_accuracy"] == (310 + 40) / 400
    assert f2f["pixel_accuracy_floor"] == 320 / 400
    assert f2f["miou"] == pytest.approx(0.5 * (40 / 90 + 310 / 360))
    assert f2f["miou_floor"] == pytest.approx(0.5 * (0 + 320 / 400))
    assert slices["Deepfakes/c23"]["video_accuracy"] == 0.5


def test_figures_do_not_depend_on_the_order_of_rows() -> None:
    rng = np.random.default_rng(1)
    rows = [frame(f"v{i % 7}", "Face2Face", i % 7 % 2, rng.random(), [5, 1, 2, 3]) for i in range(40)]
    frames, histogram = pd.DataFrame(rows), np.ones((2, 8))
    assert summarise(frames, histogram) == summarise(frames.sample(frac=1, random_state=0), histogram)
