"""From log-odds to answers. Pure: no pictures, no files."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from emd_core.detection.tracks import limits_for, track_log_odds
from emd_core.models.rule import VerdictRule
from emd_core.verdicts.regions import OUTSIDE
from emd_core.verdicts.verdict import Answer, Stretch, Track

FEW = 3  # looks at a face of a video below which nothing is said
COMPANY = 0.25  # of the face that is seen most: a face that is seen so much must be judged for "nothing found"
NO_FACE = "No face was found."
UNCALIBRATED = (
    "The model has no limits: it was not calibrated on validation data, so its scores cannot be called high or low."
)


class Figures(NamedTuple):
    """What a track's answer depends on."""

    log_odds: NDArray[np.float64]  # of each look, in order of time
    times: NDArray[np.float64]  # of each look, seconds
    side: float  # median, px
    sharpness: float  # median
    far: float  # from the training crops, as a multiple of the limit


class Decision(NamedTuple):
    answer: Answer
    reasons: list[str]
    score: float | None
    stretches: list[Stretch]


def decide(track: Figures, rule: VerdictRule | None, *, picture: bool) -> Decision:
    """The answer on a face."""
    if rule is None:
        return Decision(Answer.UNKNOWN, [UNCALIBRATED], None, [])
    value = track_log_odds(track.log_odds, rule.window)
    score = float(expit(value))
    if reasons := list(obstacles(track, rule, picture=picture)):
        return Decision(Answer.UNKNOWN, reasons, score, [])
    limits = limits_for(rule, len(track.log_odds))
    loose, strict = limits[0], limits[-1]
    if value > strict.log_odds:
        return Decision(Answer.MANIPULATED, [], score, stretches(track, rule.window, strict.log_odds))
    if value > loose.log_odds:
        reason = (
            f"Its score lies between the limits: above the one that {loose.rate:.1%} of faces nobody manipulated "
            f"exceed, below the one that {strict.rate:.1%} exceed."
        )
        return Decision(Answer.UNKNOWN, [reason], score, [])
    return Decision(Answer.NOTHING, [], score, [])


def obstacles(track: Figures, rule: VerdictRule, *, picture: bool) -> Sequence[str]:
    """Why nothing can be said of a face."""
    said, profile = [], rule.profile
    if len(track.log_odds) < FEW and not picture:
        said.append(f"It was seen in {len(track.log_odds)} of the frames looked at, fewer than {FEW}.")
    if track.side < profile.side:
        said.append(f"It is too small: {track.side:.0f} px, where the model learned from {profile.side:.0f} px on.")
    if track.sharpness < profile.sharpness:
        said.append(
            f"It is too blurred: sharpness {track.sharpness:.0f}, where the model learned from "
            f"{profile.sharpness:.0f} on."
        )
    if track.far > 1:
        said.append(
            "It looks unlike the faces that the model was trained on: its features lie "
            f"{track.far:.1f} times as far off as the limit allows."
        )
    return said


def stretches(track: Figures, window: int, limit: float) -> list[Stretch]:
    """Runs of looks whose log-odds, averaged over a window around each, exceed the limit.

    A run lasts from halfway after the look before it to halfway before the look after it.
    """
    smooth = centred_mean(track.log_odds, min(window, len(track.log_odds)))
    above = smooth > limit
    if not above.any():  # a window at an end of the track, which no look has as its own
        above[int(smooth.argmax())] = True
    edges = np.concatenate([track.times[:1], (track.times[:-1] + track.times[1:]) / 2, track.times[-1:]])
    change = np.flatnonzero(np.diff(np.concatenate([[False], above, [False]]).astype(int)))
    return [
        Stretch(start_s=float(edges[a]), end_s=float(edges[b]), score=float(expit(smooth[a:b].max())))
        for a, b in zip(change[::2], change[1::2], strict=True)
    ]


def centred_mean(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """The mean of about `width` values around each (an odd number of them), of fewer at the ends."""
    ones = np.ones(2 * min(width // 2, (len(values) - 1) // 2) + 1)
    return np.asarray(np.convolve(values, ones, "same") / np.convolve(np.ones_like(values), ones, "same"))


def overall(tracks: Sequence[Track], most_face: Sequence[float]) -> tuple[Answer, list[str], float | None]:
    """The answer on a file, its reasons and its score: the face with the highest score decides.

    A face that could not be judged leaves "nothing found" to the others only if it is seen much less than they are.

    most_face: how much of each face is seen over time, in the order of the tracks.
    """
    if not tracks:
        return Answer.UNKNOWN, [NO_FACE], None
    score = max((track.score for track in tracks if track.score is not None), default=None)
    if found := [track for track in tracks if track.answer is Answer.MANIPULATED]:
        return Answer.MANIPULATED, [], max(track.score or 0 for track in found)
    unknown = [track for track in tracks if track.answer is Answer.UNKNOWN]
    large = [t for t, face in zip(tracks, most_face, strict=True) if face >= COMPANY * max(most_face)]
    if any(track.answer is Answer.UNKNOWN for track in large) or len(unknown) == len(tracks):
        several = len(tracks) > 1
        reasons = [f"Face {t.number}: {r}" if several else r for t in unknown for r in t.reasons]
        return Answer.UNKNOWN, reasons, score
    judged = [track.score for track in tracks if track.answer is Answer.NOTHING and track.score is not None]
    left = [f"Face {track.number}, seen little, could not be judged: {track.reasons[0]}" for track in unknown]
    return Answer.NOTHING, left, max(judged)


def sentence(answer: Answer, tracks: Sequence[Track], reasons: Sequence[str]) -> str:
    """The answer, for people."""
    faces = f"{len(tracks)} face{'s' if len(tracks) != 1 else ''}"
    if answer is Answer.UNKNOWN:
        if len(reasons) == 1:
            return f"Cannot say. {reasons[0]}"
        if len(tracks) > 1 and all(track.answer is Answer.UNKNOWN for track in tracks):
            return f"Cannot say: none of the {faces} can be judged."
        return f"Cannot say: {len(reasons)} reasons, listed below."
    if answer is Answer.NOTHING:
        judged = sum(track.answer is Answer.NOTHING for track in tracks)
        return f"Nothing found in {faces if judged == len(tracks) else f'{judged} of {faces}'}."
    found = [track for track in tracks if track.answer is Answer.MANIPULATED]
    if len(tracks) == 1:
        who = "The face looks"
    elif len(found) == 1:
        who = f"Face {found[0].number} of {len(tracks)} looks"
    else:
        who = f"Faces {', '.join(str(track.number) for track in found)} of {len(tracks)} look"
    parts = list(dict.fromkeys(word for track in found for word in track.where))
    where = ", ".join([part for part in parts if part != OUTSIDE] or parts)
    first = found[0]
    part = first.stretches and (first.start_s, first.end_s) != (first.stretches[0].start_s, first.stretches[-1].end_s)
    when = ", ".join(f"{s.start_s:.1f}–{s.end_s:.1f} s" for s in first.stretches) if part and len(found) == 1 else ""
    about = "; ".join(filter(None, [where, when]))
    return f"{who} manipulated{f' ({about})' if about else ''}."
