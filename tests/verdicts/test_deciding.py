"""From scores to answers: limits, tracks, stretches, what is said."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit

from emd_core.detection.tracks import fit_limit, fit_rule, limits_for, track_log_odds
from emd_core.models.rule import Limit, Profile, VerdictRule
from emd_core.verdicts.deciding import Figures, decide, overall, sentence
from emd_core.verdicts.verdict import Answer, Stretch, Track

MANIPULATED, NOTHING, UNKNOWN = Answer.MANIPULATED, Answer.NOTHING, Answer.UNKNOWN
PROFILE = Profile(side=50, sharpness=10, scale=1.3, mean=[0.0], axes=[[1.0]], limits={1: 3.0})
LIMITS = [Limit(asked=0.05, rate=0.05, log_odds=1.0), Limit(asked=0.01, rate=0.02, log_odds=2.0)]
RULE = VerdictRule(temperature=1, originals=49, window=4, limits={1: LIMITS, 4: LIMITS}, profile=PROFILE)


def figures(*log_odds: float, side: float = 100, sharpness: float = 50, far: float = 0.5) -> Figures:
    """A face that was looked at once a second."""
    return Figures(np.array(log_odds), np.arange(len(log_odds), dtype=float), side, sharpness, far)


def track(number: int, answer: Answer, score: float | None = 0.5, reasons: tuple[str, ...] = ()) -> Track:
    whole = [Stretch(start_s=0, end_s=1, score=0.9)] if answer is MANIPULATED else []
    return Track(
        number=number,
        answer=answer,
        reasons=list(reasons),
        score=score,
        start_s=0,
        end_s=1,
        side=100,
        stretches=whole,
        where=["mouth"] if answer is MANIPULATED else [],
        mask_share=None,
        expressions={},
        seen=[],
    )


@pytest.mark.parametrize(
    ("originals", "asked", "rate", "limit"),
    [
        (19, 0.05, 0.05, 18),  # the largest of 19: 1 / 20
        (99, 0.05, 0.05, 94),  # the 95th of 99: five more originals than it are expected in 100
        (99, 0.01, 0.01, 98),
        (6, 0.05, 1 / 7, 5),  # too few: the largest, and what that stands for
        (50, 0.01, 1 / 51, 49),
    ],
)
def test_a_limit_is_the_place_among_the_originals(originals: int, asked: float, rate: float, limit: float) -> None:
    values = np.arange(originals, dtype=float)
    found = fit_limit(np.random.default_rng(0).permutation(values), originals, asked)
    assert (found.asked, found.rate, found.log_odds) == (asked, pytest.approx(rate), limit)


def test_limits_hold_on_originals_that_they_have_not_seen() -> None:
    """Of 400 draws of 99 originals, each with a limit at 5 %: new ones exceed them in 5 % of the cases, not in more."""
    rng = np.random.default_rng(1)
    exceeded = [(rng.normal(3, 1, 200) > fit_limit(rng.normal(3, 1, 99), 99, 0.05).log_odds).mean() for _ in range(400)]
    assert np.mean(exceeded) == pytest.approx(0.05, abs=0.005)


def test_originals_without_any_suspicion_do_not_lower_a_limit_below_even_odds() -> None:
    assert fit_limit(np.full(99, -8.0), 99, 0.05).log_odds == 0


def test_a_rule_counts_an_original_once_whatever_its_qualities() -> None:
    rows = [
        {"video": f"{method}/{quality}/{target}", "method": method, "target": target, "frame": frame}
        for method in ("original", "Face2Face")
        for quality in ("c23", "c40")
        for target in ("a", "b", "c")
        for frame in (20, 10)
    ]
    table = pd.DataFrame(rows)
    score = np.where(table["method"] == "original", np.where(table["target"] == "c", 0.9, 0.2), 0.99)
    rule = fit_rule(table, score, 2.0, PROFILE)
    assert (rule.originals, rule.window, sorted(rule.limits)) == (3, 2, [1, 2])
    assert rule.limits[2][0].rate == 0.25 and rule.limits[2][0].log_odds == pytest.approx(logit(0.9) / 2)
    assert rule.found == {1: {"Face2Face": 1.0}, 2: {"Face2Face": 1.0}}
    missed = np.where((table["method"] == "Face2Face") & (table["target"] == "a"), 0.5, score)
    assert fit_rule(table, missed, 2.0, PROFILE).found[2] == {"Face2Face": pytest.approx(2 / 3)}


def test_a_mean_of_few_looks_has_limits_of_its_own() -> None:
    rule = RULE.model_copy(update={"limits": {1: [LIMITS[1]], 4: [LIMITS[0]]}})
    assert [limits_for(rule, n) for n in (1, 3, 4, 50)] == [[LIMITS[1]]] * 2 + [[LIMITS[0]]] * 2


def test_a_short_manipulation_in_a_long_video_is_not_averaged_away() -> None:
    looks = np.array([-3.0] * 40 + [3.0] * 4 + [-3.0] * 40)
    assert track_log_odds(looks, 4) == 3 and looks.mean() < -2
    assert track_log_odds(looks[38:42], 30) == 0  # fewer looks than the window: their mean


@pytest.mark.parametrize(
    ("seen", "answer", "says"),
    [
        (figures(3, 3, 3, 3), MANIPULATED, ""),
        (figures(-3, -3, -3, -3), NOTHING, ""),
        (figures(1.5, 1.5, 1.5, 1.5), UNKNOWN, "above the one that 5.0% of faces nobody manipulated exceed, below"),
        (figures(3, 3), UNKNOWN, "in 2 of the frames looked at, fewer than 3"),
        (figures(3, 3, 3, 3, side=49), UNKNOWN, "too small: 49 px"),
        (figures(3, 3, 3, 3, sharpness=9), UNKNOWN, "too blurred"),
        (figures(3, 3, 3, 3, far=2.04), UNKNOWN, "lie 2.0 times as far off as the limit"),
    ],
)
def test_a_face_is_judged_or_it_is_said_why_not(seen: Figures, answer: Answer, says: str) -> None:
    said = decide(seen, RULE, picture=False)
    assert said.answer is answer and says in " ".join(said.reasons) and bool(said.reasons) == bool(says)
    assert bool(said.stretches) == (answer is MANIPULATED)


def test_a_picture_has_but_one_look() -> None:
    assert decide(figures(3), RULE, picture=True).answer is MANIPULATED
    assert decide(figures(3), RULE, picture=False).answer is UNKNOWN


def test_a_model_without_limits_cannot_say() -> None:
    said = decide(figures(9, 9, 9, 9), None, picture=False)
    assert (said.answer, said.score) == (UNKNOWN, None) and "not calibrated" in said.reasons[0]


def test_stretches_are_found_where_they_are() -> None:
    log_odds = np.full(60, -4.0)
    log_odds[10:20], log_odds[40:52] = 6.0, 6.0
    found = decide(figures(*log_odds), RULE, picture=False).stretches
    assert len(found) == 2
    for stretch, (start, end) in zip(found, [(9.5, 19.5), (39.5, 51.5)], strict=True):
        assert abs(stretch.start_s - start) <= 1 and abs(stretch.end_s - end) <= 1


def test_a_window_at_the_very_end_is_a_stretch_too() -> None:
    found = decide(figures(*[-9.0] * 10, 4, 4, 4, 4), RULE, picture=False).stretches
    assert len(found) == 1 and found[0].start_s > 9 and found[0].end_s == 13


@pytest.mark.parametrize(
    ("tracks", "faces", "answer", "says"),
    [
        ([], [], UNKNOWN, "No face was found."),
        (
            [track(1, NOTHING), track(2, MANIPULATED, 0.9)],
            [5, 5],
            MANIPULATED,
            "Face 2 of 2 looks manipulated (mouth).",
        ),
        ([track(1, UNKNOWN, reasons=("a.",)), track(2, MANIPULATED)], [5, 5], MANIPULATED, "Face 2 of 2"),
        ([track(1, MANIPULATED), track(2, MANIPULATED)], [5, 5], MANIPULATED, "Faces 1, 2 of 2 look manipulated"),
        ([track(1, NOTHING)], [5], NOTHING, "Nothing found in 1 face."),
        ([track(1, NOTHING), track(2, UNKNOWN, reasons=("a.",))], [9, 1], NOTHING, "Nothing found in 1 of 2 faces."),
        ([track(1, NOTHING), track(2, UNKNOWN, reasons=("Small.",))], [9, 8], UNKNOWN, "Cannot say. Face 2: Small."),
        ([track(1, UNKNOWN, reasons=("Small.",))], [9], UNKNOWN, "Cannot say. Small."),
        ([track(1, UNKNOWN, reasons=("Small.", "Dark."))], [9], UNKNOWN, "Cannot say: 2 reasons, listed below."),
        (
            [track(n, UNKNOWN, reasons=("Small.",)) for n in (1, 2)],
            [9, 9],
            UNKNOWN,
            "none of the 2 faces can be judged.",
        ),
    ],
)
def test_faces_make_the_answer_on_a_file(tracks: list[Track], faces: list[float], answer: Answer, says: str) -> None:
    found, reasons, _ = overall(tracks, faces)
    assert found is answer and says in sentence(found, tracks, reasons)


@pytest.mark.parametrize(
    ("where", "named"), [(["mouth", "outside the face"], "mouth"), (["outside the face"], "outside the face")]
)
def test_the_sentence_names_parts_of_the_face_before_what_lies_around_it(where: list[str], named: str) -> None:
    found = track(1, MANIPULATED).model_copy(update={"where": where})
    assert f"({named}" in sentence(MANIPULATED, [found], [])
