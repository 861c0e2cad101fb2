"""Metrics against scikit-learn, against other ways to compute them, and against values computed by hand."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.special import expit
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    jaccard_score,
    log_loss,
    roc_auc_score,
    roc_curve,
)

from emd_core.detection.calibration import (
    Calibration,
    at_temperature,
    calibrate,
    choose_threshold,
    expected_calibration_error,
    fit_temperature,
)
from emd_core.detection.metrics import (
    COUNTS,
    confusion,
    equal_error_rate,
    mean_iou,
    pixel_accuracy,
)
from emd_core.evaluation import bootstrap
from emd_core.evaluation.pixel_scores import CAPACITY, PixelScores, pixel_roc
from emd_core.evaluation.scoring import roc_table
from emd_core.evaluation.slices import NOT_LOCALISED, UNCALIBRATED, summarise, summarise_slices, why_unknown

AS_TRAINED = Calibration(temperature=1.0, threshold=0.5)


@pytest.fixture
def pixels() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.random((6, 20, 20)) < 0.3
    return np.clip(0.35 * truth + 0.6 * rng.random(truth.shape), 0, 1), truth


def scores(n: int, seed: int, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from probabilities, and those probabilities with logits times `sharpness`, some of them tied."""
    rng = np.random.default_rng(seed)
    logits = np.round(rng.normal(0, 2, n), 2)
    return (rng.random(n) < expit(logits)).astype(int), expit(sharpness * logits)


def scored(score: np.ndarray, truth: np.ndarray, batch: int = 10**9) -> PixelScores:
    """Pixels that were scored, in batches."""
    pixels = PixelScores()
    for start in range(0, score.size, batch):
        part = slice(start, start + batch)
        pixels.add(score.astype(np.float32).ravel()[part], truth.astype(bool).ravel()[part])
    return pixels


def some() -> PixelScores:
    return scored(np.array([0.2, 0.7]), np.array([0, 1]))


def pixel_auc(score: np.ndarray, truth: np.ndarray, batch: int = 10**9) -> float:
    fpr, tpr = pixel_roc([scored(score, truth, batch)])
    return float(np.trapezoid(tpr, fpr))


def test_against_scikit_learn(pixels: tuple[np.ndarray, np.ndarray]) -> None:
    score, truth = pixels
    counts = confusion(score > 0.5, truth).sum(axis=0).tolist()
    flat = truth.ravel(), (score > 0.5).ravel()
    assert mean_iou(*counts) == pytest.approx(jaccard_score(*flat, average="macro"))
    assert type(mean_iou(*counts)) is float  # a training keeps it in its checkpoint, which takes no numpy numbers
    assert pixel_accuracy(*counts) == pytest.approx((flat[0] == flat[1]).mean())
    assert pixel_auc(score, truth) == pytest.approx(roc_auc_score(truth.ravel(), score.ravel()), abs=1e-9)


def test_counts_do_not_depend_on_batches(pixels: tuple[np.ndarray, np.ndarray]) -> None:
    score, truth = pixels
    whole = confusion(score > 0.5, truth).sum(axis=0)
    parts = sum(confusion(score[i : i + 4] > 0.5, truth[i : i + 4]).sum(axis=0) for i in (0, 4))
    assert (whole == parts).all()


@pytest.mark.parametrize("n", [4, 50, 1_000, 1_000_000])
@pytest.mark.parametrize(
    "scores_of",
    [
        pytest.param(lambda x: expit(x - 20), id="sure of originals"),
        pytest.param(lambda x: expit(x + 15), id="sure of fakes, nearly all rounded to 1"),
        pytest.param(lambda x: 0.5 + 1e-6 * x, id="nearly the same everywhere"),
        pytest.param(lambda x: np.round(expit(x), 1), id="ties"),
        pytest.param(lambda x: x > 1, id="two values"),
        pytest.param(lambda x: np.where(x > 0, expit(x), 1e-7 * expit(x)), id="two scales"),
    ],
)
def test_pixel_auc_of_any_scores_is_scikit_learns(n: int, scores_of: Callable[[np.ndarray], np.ndarray]) -> None:
    rng = np.random.default_rng(n)
    truth = np.arange(n) % 3 == 1
    score = scores_of(rng.normal(0, 1, n) + truth).astype(np.float32)
    assert pixel_auc(score, truth) == pytest.approx(roc_auc_score(truth, score), abs=1e-4 if n > CAPACITY else 1e-9)
    assert pixel_auc(score, truth) == pixel_auc(score, truth, batch=77_777)


def test_pixel_auc_below_one_bin_of_two_thousand() -> None:
    assert pixel_auc(np.array([1e-6, 1e-6, 1e-4, 1e-4]), np.array([0, 0, 1, 1])) == 1.0


def test_scores_that_rise_with_time_are_no_harder_and_memory_is_bounded() -> None:
    """The worst order for whatever would set its bins by the first batches."""
    n = 40 * CAPACITY
    score, truth = np.sort(np.random.default_rng(0).random(n, np.float32)), np.arange(n) % 7 < 3
    score[truth] **= np.float32(0.9)
    pixels = scored(score, truth, batch=1_000_000)
    fpr, tpr = pixel_roc([pixels])
    assert np.trapezoid(tpr, fpr) == pytest.approx(roc_auc_score(truth, score), abs=1e-5)
    label, kept, weight = pixels.weighted()
    assert len(kept) < 2 * 6 * CAPACITY and weight[label == 1].sum() == truth.sum() and weight.sum() == n


def test_iou_of_an_absent_class_is_undefined_not_perfect() -> None:
    assert np.isnan(mean_iou(tn=10, fp=0, fn=0, tp=0))


@pytest.mark.parametrize("seed", range(5))
def test_equal_error_rate_against_a_root_of_the_roc(seed: int) -> None:
    label, score = scores(101, seed)
    fpr, tpr, _ = roc_curve(label, score)
    root = brentq(lambda x: 1 - x - np.interp(x, fpr, tpr), 0, 1)
    assert equal_error_rate(label, score) == pytest.approx(root, abs=1e-9)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_too_sharp_logits(sharpness: float) -> None:
    label, score = scores(20_000, 0, sharpness)
    temperature = fit_temperature(label, score)
    assert temperature == pytest.approx(sharpness, rel=0.05)
    calibrated = at_temperature(score, temperature)
    nearby = [log_loss(label, at_temperature(score, temperature * f)) for f in (0.95, 1.05)]
    assert log_loss(label, calibrated) < min(nearby)
    assert brier_score_loss(label, calibrated) < brier_score_loss(label, score) + 1e-4
    assert expected_calibration_error(label, calibrated) < 0.02
    assert (expected_calibration_error(label, score) > 0.05) == (sharpness != 1)


def test_sure_and_faultless_scores_have_a_temperature_too() -> None:
    score = np.array([0.0, 0, 1, 1])
    temperature = fit_temperature(np.array([0, 0, 1, 1]), score)
    assert 0.05 <= temperature <= 20
    assert np.isfinite(at_temperature(score, temperature)).all()


@pytest.mark.parametrize("seed", range(3))
def test_calibration_error_against_a_loop_over_bins(seed: int) -> None:
    label, score = scores(500, seed, 2.0)
    confidence, error = np.maximum(score, 1 - score), 0.0
    right = (score > 0.5) == label
    for low, high in zip(np.arange(15) / 15, np.arange(1, 16) / 15, strict=True):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(label, score) == pytest.approx(error)


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_is_better_on_val(seed: int) -> None:
    label, score = scores(60, seed)
    chosen = balanced_accuracy_score(label, score > choose_threshold(label, score))
    assert chosen == pytest.approx(max(balanced_accuracy_score(label, score > t) for t in [-1, *score]))


@pytest.mark.parametrize(
    ("real", "fake", "threshold"),
    [
        ([0.1, 0.2], [0.8, 0.9], 0.5),  # any threshold between 0.2 and 0.8 is perfect
        ([0.6, 0.7], [0.8, 0.9], 0.75),
        ([0.1, 0.7], [0.4, 0.9], 0.25),  # 0.25 and 0.8 are both right in three of four; 0.25 is nearer to 0.5
        ([0.1, 0.6], [0.2, 0.8], 0.7),  # the same of 0.15 and 0.7
        ([0.5], [0.5], 0.5),
    ],
)
def test_threshold_by_hand(real: list[float], fake: list[float], threshold: float) -> None:
    label = np.array([0] * len(real) + [1] * len(fake))
    assert choose_threshold(label, np.array(real + fake)) == pytest.approx(threshold)


def test_a_val_split_of_one_class_calibrates_nothing() -> None:
    assert calibrate(np.array([1, 1]), np.array([0.2, 0.3])) is None


def frame(
    method: str, target: str, source: str, score: float, counts: list[int], mask_share: float = 0.1
) -> dict[str, object]:
    row = {"method": method, "target": target, "source": source, "quality": "c23", "label": int(method != "original")}
    row |= {"video": f"{method}/c23/{target}_{source}", "frame": 0, "score": score, "mask_share": mask_share}
    return row | dict(zip(COUNTS, counts, strict=True))


BY_HAND = [
    frame("original", "000", "", 0.2, [100, 0, 0, 0]),
    frame("original", "000", "", 0.6, [90, 10, 0, 0]),
    frame("Face2Face", "000", "001", 0.9, [60, 0, 10, 30]),
    frame("Face2Face", "000", "001", 0.3, [60, 0, 30, 10]),
    # the same pair, other method: another video
    frame("Deepfakes", "000", "001", 0.1, [60, 0, 40, 0]),
]


def test_slices_by_hand() -> None:
    slices = summarise_slices(pd.DataFrame(BY_HAND), defaultdict(some), Calibration(temperature=1.0, threshold=0.65))
    assert set(slices) == {"Face2Face/c23", "Deepfakes/c23"}
    f2f = slices["Face2Face/c23"]
    assert (f2f["frames"], f2f["videos"], f2f["masks"]) == (4, 2, 4)
    assert f2f["frame_accuracy"] == 0.5
    assert f2f["frame_accuracy_val_threshold"] == 0.75  # 0.6 is no fake any more
    assert f2f["video_accuracy"] == 1.0  # means 0.4 and 0.6
    assert f2f["frame_auc"] == 0.75
    assert f2f["pixel_accuracy"] == (310 + 40) / 400
    assert f2f["pixel_accuracy_floor"] == 320 / 400
    assert f2f["pixel_accuracy_per_image"] == pytest.approx((1 + 0.9 + 0.9 + 0.7) / 4)
    assert f2f["miou"] == pytest.approx(0.5 * (40 / 90 + 310 / 360))
    assert f2f["miou_floor"] == pytest.approx(0.5 * (0 + 320 / 400))
    assert f2f["iou_per_fake"] == pytest.approx((30 / 40 + 10 / 40) / 2)
    assert slices["Deepfakes/c23"]["video_accuracy"] == 0.5


def test_fakes_of_one_original_are_videos_of_their_own_though_nobody_knows_their_sources() -> None:
    """DFDC tells no sources: `ccc` is real, `ddd` and `ggg` were made from it."""
    counts = [100, 0, 0, 0]
    videos = {"original/released/ccc": 0.1, "DFDC/released/ddd": 0.9, "DFDC/released/ggg": 0.3}
    rows = [
        frame(key.split("/")[0], "ccc", "", score, counts, float("nan")) | {"video": key, "frame": number}
        for key, score in videos.items()
        for number in range(2)
    ]
    figures = summarise(pd.DataFrame(rows), [some()], AS_TRAINED)
    assert (figures["videos"], figures["frames"], figures["video_accuracy"]) == (3, 6, 2 / 3)
    assert figures["video_auc"] == 1 and figures["video_accuracy_low"] == 1 / 3  # once the two fakes are both `ggg`


def test_pixel_figures_are_counted_where_the_mask_is_known() -> None:
    unknown = frame("Face2Face", "002", "003", 0.9, [0, 0, 0, 0], mask_share=float("nan"))
    rows = [row for row in BY_HAND if row["method"] != "Deepfakes"]
    known, partly = (summarise(pd.DataFrame(r), [some()], AS_TRAINED) for r in (rows, [*rows, unknown]))
    assert (partly["masks"], partly["frames"]) == (4, 5)
    for name in ("pixel_accuracy", "pixel_accuracy_per_image", "miou", "miou_floor", "iou_per_fake", "pixel_auc"):
        assert partly[name] == known[name] is not None


def test_every_figure_that_is_unknown_has_its_reason() -> None:
    without = [row | {"mask_share": float("nan")} | dict.fromkeys(COUNTS, 0) for row in BY_HAND]
    blind = [row | dict.fromkeys(COUNTS, 0) for row in BY_HAND]
    for rows, localises, reasons in (
        (BY_HAND, True, {UNCALIBRATED}),
        ([row for row in BY_HAND if row["label"]], True, {UNCALIBRATED, "it has no originals"}),
        (without, True, {UNCALIBRATED, "no fake of it has a known mask"}),
        (blind, False, {UNCALIBRATED, NOT_LOCALISED}),
    ):
        frames = pd.DataFrame(rows)
        figures = summarise_slices(frames, defaultdict(some), None)
        told = why_unknown(frames, figures, localises=localises)["Face2Face/c23"]
        assert set(told) == {name for name, value in figures["Face2Face/c23"].items() if value is None}
        assert set(told.values()) == reasons


def test_what_cannot_be_measured_is_none() -> None:
    without = [row | {"mask_share": float("nan")} | dict.fromkeys(COUNTS, 0) for row in BY_HAND if row["label"]]
    originals = [row for row in BY_HAND if not row["label"]]
    nothing = defaultdict(PixelScores)
    no_masks = summarise_slices(pd.DataFrame(originals + without), nothing, AS_TRAINED)["Face2Face/c23"]
    pixel_figures = {name for name in no_masks if name.startswith(("pixel", "miou", "iou"))}
    assert {name for name, value in no_masks.items() if value is None} == pixel_figures
    assert {"miou_floor", "pixel_accuracy_low", "iou_per_fake", "pixel_auc"} < pixel_figures
    fakes = pd.DataFrame([row for row in BY_HAND if row["label"]])
    alone = summarise(fakes[fakes["method"] == "Face2Face"], [some()], AS_TRAINED)
    undefined = {"frame_auc", "frame_eer", "video_auc", "frame_auc_low", "frame_auc_high"}
    assert {name for name, value in alone.items() if value is None} == undefined
    assert set(roc_table(pd.DataFrame(originals + without), nothing, "original")["task"]) == {"frame"}
    assert set(roc_table(fakes, defaultdict(some), "original")["task"]) == {"pixel"}
    assert roc_table(pd.DataFrame(without), nothing, "original").empty


def slice_of(videos: int, frames: int, seed: int, alike: bool) -> pd.DataFrame:
    """As many originals as fakes, about 80 % of the frames right; `alike`: all frames of a video are right or wrong."""
    rng = np.random.default_rng(seed)
    rows = []
    for video in range(videos):
        method = ("original", "Face2Face")[video % 2]
        for _ in range(frames):
            if _ == 0 or not alike:
                right = rng.random() < 0.8
            score = np.round(rng.uniform(0.5, 1) if right == (method != "original") else rng.uniform(0, 0.5), 2)
            tp = int(rng.integers(10, 40)) if method != "original" else 0
            rows.append(frame(method, str(video), "", float(score), [50, 5, 40 - tp, tp]))
    return pd.DataFrame(rows).assign(frame=range(len(rows)))


def width(figures: dict[str, Any], name: str) -> float:
    return float(figures[f"{name}_high"] - figures[f"{name}_low"])


def test_intervals_know_that_frames_of_a_video_are_alike() -> None:
    naive = 2 * 1.96 * np.sqrt(0.8 * 0.2 / 1200)  # of the share of right answers among 1200 independent frames
    alike = summarise(slice_of(120, 10, 0, alike=True), [some()], AS_TRAINED)
    apart = summarise(slice_of(120, 10, 0, alike=False), [some()], AS_TRAINED)
    assert width(apart, "frame_accuracy") == pytest.approx(naive, rel=0.25)
    assert width(alike, "frame_accuracy") == pytest.approx(naive * np.sqrt(10), rel=0.25)
    for figures in (alike, apart):
        for name in ("frame_accuracy", "frame_auc", "video_accuracy", "pixel_accuracy", "miou"):
            assert figures[f"{name}_low"] <= figures[name] <= figures[f"{name}_high"], name
    assert width(alike, "frame_auc") > 2 * width(apart, "frame_auc") > 0


def test_auc_of_a_resample_is_that_of_its_frames() -> None:
    frames = slice_of(12, 4, 1, alike=False)
    label, score = frames["label"].to_numpy(), frames["score"].to_numpy()
    video = frames["target"].astype(int).to_numpy()
    weights = bootstrap.resample(np.arange(12) % 2)[:20]
    assert (weights[:, ::2].sum(axis=1) == 6).all() and (weights[:, 1::2].sum(axis=1) == 6).all()
    wanted = [roc_auc_score(label, score, sample_weight=w[video]) for w in weights]
    np.testing.assert_allclose(bootstrap.frame_auc(weights, label, score, video), wanted)


def test_figures_do_not_depend_on_the_order_of_rows() -> None:
    frames, pixels_ = slice_of(14, 3, 2, alike=False), [some()]
    figures = summarise(frames, pixels_, AS_TRAINED)
    assert figures == summarise(frames.sample(frac=1, random_state=0), pixels_, AS_TRAINED)
    assert figures["frame_accuracy"] == accuracy_score(frames["label"], frames["score"] > 0.5)
