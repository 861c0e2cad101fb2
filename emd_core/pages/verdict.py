"""report.html: what was found in one file, why, and what that can and cannot mean."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import cv2
import numpy as np

from emd_core.pages.looks import runs
from emd_core.pages.marks import COLOURS, Picture, draw_mark, draw_mask, mark
from emd_core.pages.render import render
from emd_core.storage.atomic import atomic_file
from emd_core.storage.pictures import decode
from emd_core.verdicts.judge import Judgement, Look, within
from emd_core.verdicts.verdict import Answer, Limits, Media, Model, Track
from emd_core.video.decode import pick_frames

FRAMES = 8  # of each face that are shown, evenly chosen, beside the one with the highest score
FACES = 20  # that are shown with frames and scores; the table has all
DOTS = 150  # looks at a face from which on only the line between them is drawn
STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)  # between marks of time
MARKS = 8  # of time, at most
SERIOUSNESS = (Answer.MANIPULATED, Answer.UNKNOWN, Answer.NOTHING)  # what is shown first


class Shown(NamedTuple):
    """A look on the page."""

    source: str  # the picture, a data URI
    time_s: float
    score: float
    highest: bool
    now: bool  # whether the face counts as manipulated at this time


class Chart(NamedTuple):
    """Scores over time, in percent of the width from the left and of the height from above."""

    lines: list[str]  # "x,y x,y …" of each run of looks without a gap
    dots: list[tuple[float, float]]
    shaded: list[tuple[float, float]]  # left edge and width of each stretch
    marks: list[tuple[float, str]]  # of time


class Section(NamedTuple):
    """A face on the page."""

    track: Track
    frames: list[Shown]
    chart: Chart


def write_report(path: Path, judgement: Judgement, overlay: str | None) -> None:
    """Write the page, which stands alone but for the video of the name `overlay` beside it."""
    verdict, media = judgement.verdict, judgement.verdict.media
    pairs = list(zip(verdict.tracks, judgement.looks, strict=True))
    pairs.sort(key=lambda pair: (SERIOUSNESS.index(pair[0].answer), -(pair[0].score or 0)))
    sections = [Section(track, frames(track, looks), chart(track, media)) for track, looks in pairs[:FACES] if media]
    page = render(
        "verdict",
        v=verdict,
        sections=sections,
        picture=data_uri(whole(judgement)) if judgement.picture else None,
        overlay=overlay and f"./{quote(overlay)}",
        limits=distinct(verdict.model.limits),
        rates=rates_in_words(verdict.model),
        percent=percent,
        one_in=one_in,
    )
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def frames(track: Track, looks: Sequence[Look]) -> list[Shown]:
    """Some looks of a face with their masks."""
    highest = int(np.argmax([look.seen.score for look in looks]))
    shown = []
    for i in sorted({*pick_frames(len(looks), FRAMES), highest}):
        seen, image = looks[i].seen, _pixels(looks[i].picture)
        now = within(seen.time_s, track.stretches)
        draw_mask(image, looks[i].mask, (0, 0, len(image)), COLOURS[track.answer], tinted=now)
        shown.append(Shown(data_uri(image), seen.time_s, seen.score, i == highest and len(looks) > 1, now))
    return shown


def chart(track: Track, media: Media) -> Chart:
    seconds = max(media.seconds, 1e-3)
    points = [(100 * min(seen.time_s / seconds, 1), 100 * (1 - seen.score)) for seen in track.seen]
    unbroken = runs(track.seen, media)
    shaded = [(100 * s.start_s / seconds, 100 * (s.end_s - s.start_s) / seconds) for s in track.stretches]
    step = next((step for step in STEPS_S if seconds / step < MARKS), STEPS_S[-1])
    times = np.arange(0, seconds + step / 1000, step)
    return Chart(
        lines=[" ".join(f"{points[i][0]:.2f},{points[i][1]:.1f}" for i in run) for run in unbroken if len(run) > 1],
        dots=[points[i] for run in unbroken for i in run if len(run) == 1 or len(points) <= DOTS],
        shaded=shaded,
        marks=[(100 * time / seconds, f"{time:g}") for time in times.round(3)],
    )


def whole(judgement: Judgement) -> Picture:
    """The picture that was judged, its faces marked."""
    assert judgement.picture is not None and judgement.verdict.media is not None
    image = _pixels(judgement.picture)
    scale = image.shape[1] / judgement.verdict.media.width
    for track, (look, *_) in zip(judgement.verdict.tracks, judgement.looks, strict=True):
        box = (look.seen.x * scale, look.seen.y * scale, look.seen.side * scale)
        draw_mark(image, mark(track, look, box, look.seen.time_s))
    return image


def distinct(limits: Sequence[Limits]) -> list[Limits]:
    """The limits without those that lie where a stricter one does."""
    return [one for i, one in enumerate(limits) if all(later.score != one.score for later in limits[i + 1 :])]


def rates_in_words(model: Model) -> list[str]:
    """How often each limit is wrong, and where fewer errors were asked for than the data can support."""
    said, limits = [], distinct(model.limits)
    for limit in limits:
        asked = [percent(one.asked) for one in model.limits if one.score == limit.score and one.rate > one.asked]
        meant = "the answer is “manipulated”" if limit is limits[-1] else "it is “cannot say”, to the next limit"
        words = f"Of faces that nobody manipulated {one_in(limit.rate)} ({percent(limit.rate)}) score above "
        words += f"{limit.score:.3f}; from there on {meant}."
        if asked:
            words += (
                f" A rate of {' or '.join(asked)} was wanted, but with {model.originals} originals to measure it no "
                f"rate below 1 in {(model.originals or 0) + 1} can be claimed."
            )
        said.append(words)
    return said


def one_in(share: float) -> str:
    """A rate as people say it: "about 1 in 21"."""
    return f"about 1 in {round(1 / share):,}" if share <= 0.5 else f"about {round(10 * share)} in 10"


def percent(share: float) -> str:
    return f"{100 * share:.3g}\N{NO-BREAK SPACE}%"


def data_uri(image: Picture) -> str:
    """HWC uint8 RGB -> a JPEG within the page."""
    _, jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.tobytes()).decode()}"


def _pixels(jpeg: bytes) -> Picture:
    image = decode(jpeg)
    assert image is not None, "a judgement's pictures are whole JPEGs"
    return image
