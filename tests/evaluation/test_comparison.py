"""Differences of two models on the same frames: what is planted is found, what is chance is not."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from emd_core.detection.calibration import Calibration
from emd_core.detection.metrics import COUNTS
from emd_core.errors import UserError
from emd_core.evaluation.comparison import compare
from emd_core.evaluation.pixel_scores import PixelScores
from emd_core.evaluation.slices import summarise

TARGETS, FRAMES = 40, 10
PIXELS = 1000  # of a crop, of which a fake has 200 manipulated


def scored(wrong: Callable[[pd.DataFrame], np.ndarray] | None = None, found: int = 180) -> pd.DataFrame:
    """A table as score_frames returns it: originals and two methods at one quality.

    `wrong` marks the frames that the model misjudges; `found` is how many of a fake's 200 pixels it finds.
    """
    methods = ("original", "Face2Face", "Deepfakes")
    table = pd.DataFrame(
        [
            {"method": method, "target": f"{target:03}", "frame": frame}
            for method in methods
            for target in range(TARGETS)
            for frame in range(FRAMES)
        ]
    )
    label = (table["method"] != "original").astype(int)
    right = np.ones(len(table), bool) if wrong is None else ~wrong(table)
    pixels = 200 * label
    tp = found * label
    return table.assign(
        video=table["method"] + "/c23/" + table["target"],
        quality="c23",
        source="",
        label=label,
        mask_share=pixels / PIXELS,
        score=np.where(right, label, 1 - label) * 0.8 + 0.1,
        tn=PIXELS - pixels,
        fp=0,
        fn=pixels - tp,
        tp=tp,
    )


def chance(share: float, seed: int) -> Callable[[pd.DataFrame], np.ndarray]:
    """Frames that are wrong by chance, each on its own."""
    return lambda table: np.random.default_rng(seed).random(len(table)) < share


def test_equal_tables_do_not_differ_in_whatever_order() -> None:
    table = scored(chance(0.2, 0))
    found = compare(table, table.sample(frac=1, random_state=0))
    assert set(found) == {"Face2Face/c23", "Deepfakes/c23"}
    for figures in found.values():
        assert set(figures) == {"frame_accuracy", "miou"}
        assert all((d.candidate - d.champion, d.low, d.high) == (0, 0, 0) for d in figures.values())


def test_figures_are_those_of_the_evaluation() -> None:
    table = scored(chance(0.2, 0), found=150)
    rows = table[table["method"].isin(["Face2Face", "original"])]
    told = summarise(rows, [PixelScores()], Calibration(temperature=1, threshold=0.5))
    difference = compare(table, scored())["Face2Face/c23"]
    assert difference["frame_accuracy"].candidate == told["frame_accuracy"] < difference["frame_accuracy"].champion == 1
    assert difference["miou"].candidate == told["miou"] < difference["miou"].champion


def test_a_planted_loss_is_found_where_it_is() -> None:
    def on_deepfakes(table: pd.DataFrame) -> np.ndarray:
        return chance(0.1, 1)(table) | ((table["method"] == "Deepfakes") & chance(0.15, 2)(table)).to_numpy()

    found = compare(scored(on_deepfakes, found=150), scored(chance(0.1, 1)))
    assert found["Deepfakes/c23"]["frame_accuracy"].high < -0.03
    assert (found["Face2Face/c23"]["frame_accuracy"].low, found["Face2Face/c23"]["frame_accuracy"].high) == (0, 0)
    assert found["Face2Face/c23"]["miou"].high < 0, "both find fewer pixels"


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_not_taken_for_a_loss(seed: int) -> None:
    found = compare(scored(chance(0.1, seed)), scored(chance(0.1, seed + 100)))["Face2Face/c23"]["frame_accuracy"]
    assert found.low < 0 < found.high


def test_targets_that_are_wrong_as_a_whole_widen_the_interval() -> None:
    tables = scored(lambda table: (table["target"] < "004").to_numpy()), scored()
    own = tables[0]["video"] + tables[0]["frame"].astype(str)  # each frame a target of its own
    found = compare(*tables)["Face2Face/c23"]["frame_accuracy"]
    independent = compare(*(table.assign(target=own) for table in tables))["Face2Face/c23"]["frame_accuracy"]
    assert found[:2] == independent[:2] == (0.9, 1.0)
    assert found.high - found.low > 3 * (independent.high - independent.low)


def test_masks_that_are_not_known_are_not_compared() -> None:
    unknown = {"mask_share": np.nan, "tn": 0, "fp": 0, "fn": 0, "tp": 0}
    tables = []
    for table in (scored(chance(0.2, 0)), scored()):
        table.loc[table["label"] == 1, list(unknown)] = list(unknown.values())
        tables.append(table)
    assert set(compare(*tables)["Face2Face/c23"]) == {"frame_accuracy"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.iloc[3:], r"not about the same frames \(3 are only the candidate's, 0 only the champion's"),
        (lambda t: t.assign(frame=t["frame"] + 1), r"120 are only the candidate's, 120 only the champion's"),
        (lambda t: t.assign(quality="c40"), "1200 are only the candidate's"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "of 1200 and 1201"),
        (lambda t: t.assign(label=1), r"disagree .* of 400 frames, first of frame 0 of original/c23/000"),
        (lambda t: t.assign(tp=t["tp"] + 1), "disagree .* of 1200 frames"),
        (lambda t: t.assign(mask_share=np.nan), "disagree .* of 1200 frames"),
    ],
)
def test_tables_that_are_not_about_the_same_are_refused(
    change: Callable[[pd.DataFrame], pd.DataFrame], told: str
) -> None:
    with pytest.raises(UserError, match=f"{told}.*score both models on the same crops"):
        compare(scored(), change(scored()))


def test_a_frame_that_is_named_twice_is_refused() -> None:
    table = pd.concat([scored(), scored().iloc[:1]])
    with pytest.raises(UserError, match="hold frame 0 of original/c23/000 twice"):
        compare(table, table)


def test_networks_that_do_not_localise_are_compared_by_accuracy_alone() -> None:
    blind = scored(chance(0.1, 0)).assign(**dict.fromkeys(COUNTS, 0))
    for pair in ((blind, scored()), (scored(), blind), (blind, blind)):
        assert {tuple(figures) for figures in compare(*pair).values()} == {("frame_accuracy",)}
