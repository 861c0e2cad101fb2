"""The page of one file stands alone, says what was found and how often that is wrong, and never that a file is real."""

import base64
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from emd_core.pages.verdict import DOTS, FRAMES, chart, frames, write_report
from emd_core.storage.pictures import decode
from emd_core.verdicts.judge import Judgement
from emd_core.verdicts.verdict import Answer, Limits, Media, Seen, Track
from tests.fakes import judgements
from tests.fakes.tiny import face_frames

NASTY = "<script>alert('a')</script>\" onerror=x & ünï ‮ .mp4"
N, SECONDS = 120, 12.0
VIDEO = Media(kind="video", width=640, height=480, frames=N, seconds=SECONDS, looked_at=60)
PICTURE = Media(kind="picture", width=256, height=192, frames=1, seconds=0, looked_at=1)


def seen(numbers: list[int], high: range = range(0), x: int = 50) -> list[Seen]:
    """Looks whose score is high in some frames."""
    times = {i: i * SECONDS / N for i in numbers}
    return [
        Seen(frame=i, time_s=t, x=x, y=50, side=100, score=0.95 if i in high else 0.1, expression="happy")
        for i, t in times.items()
    ]


def found(number: int = 1) -> Track:
    part = range(40, 80)
    spans = [(4.0, 8.0)]
    looks = seen([i for i in range(0, N, 2) if not 90 < i < 106], part)
    return judgements.track(looks, Answer.MANIPULATED, number=number, stretches=spans, where=["mouth"])


def clip(**changes: object) -> Judgement:
    tracks = [judgements.track(seen(list(range(0, N, 2)))), found(2)]
    made = judgements.judgement(tracks, Answer.MANIPULATED, "Face 2 of 2 looks manipulated (mouth, 4.0–8.0 s).", VIDEO)
    return made._replace(verdict=made.verdict.model_copy(update=changes))


def page(tmp_path: Path, judgement: Judgement, overlay: str | None = None) -> str:
    write_report(tmp_path / "report.html", judgement, overlay)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def words(html: str) -> str:
    """What a reader sees, with single spaces."""
    text = re.sub(r"<[^>]*>", " ", re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL))
    return re.sub(r"\s+", " ", text.replace("\N{NO-BREAK SPACE}", " "))


def test_it_stands_alone_but_for_its_video(tmp_path: Path) -> None:
    html = page(tmp_path, clip(), "over lay#1.mp4")
    addresses = re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?([^\"'\s)>]+)", html)
    assert {a for a in addresses if not a.startswith("data:image/jpeg;base64,")} == {"./over%20lay%231.mp4"}
    assert "http" not in html and "<script" not in html
    assert html.count("<video controls") == 1
    assert "<video" not in page(tmp_path, clip())


def test_a_strangers_file_name_is_text(tmp_path: Path) -> None:
    html = page(tmp_path, clip(file=NASTY, path=f"folder/{NASTY}"))
    assert "<script" not in html and '" onerror' not in html
    assert "&lt;script&gt;alert(&#39;a&#39;)&lt;/script&gt;" in html


def test_it_says_which_rate_the_data_support(tmp_path: Path) -> None:
    text = words(page(tmp_path, clip()))
    assert (
        "A rate of 5 % or 1 % was wanted, but with 6 originals to measure it no rate below 1 in 7 can be claimed."
        in text
    )
    assert "So are those of about 1 in 7 faces that nobody manipulated" in text
    limits = [Limits(asked=0.05, rate=0.05, score=0.55), Limits(asked=0.01, rate=1 / 51, score=0.8)]
    model = judgements.MODEL.model_copy(update={"limits": limits, "originals": 50})
    text = words(page(tmp_path, clip(model=model)))
    assert "nobody manipulated about 1 in 20 (5 %) score above 0.550; from there on it is “cannot say”" in text
    assert "A rate of 1 % was wanted, but with 50 originals" in text and "rate of 5 %" not in text
    uncalibrated = judgements.MODEL.model_copy(update={"limits": [], "originals": None})
    assert "This model has no limits" in words(page(tmp_path, clip(model=uncalibrated, answer=Answer.UNKNOWN)))


@pytest.mark.parametrize("answer", list(Answer))
def test_no_answer_says_more_than_it_may(tmp_path: Path, answer: Answer) -> None:
    text = words(page(tmp_path, clip(answer=answer, sentence="The sentence.")))
    assert not re.search(r"\b(authentic|is real|is genuine(?<!does not say that the video is genuine))\b", text)
    assert "“Nothing found” does not mean genuine" in text
    assert ("not proof" in text) == (answer is Answer.MANIPULATED)
    assert ("does not say that the video is genuine" in text) == (answer is Answer.NOTHING)


def test_the_frames_of_a_face_are_spread_and_the_highest_is_among_them() -> None:
    judgement = clip()
    track, looks = judgement.verdict.tracks[1], list(judgement.looks[1])
    peak = 33  # a look that is not one of the evenly chosen ones
    top = looks[peak].seen.model_copy(update={"score": 0.99})
    looks[peak] = looks[peak]._replace(seen=top)
    shown = frames(track, looks)
    assert len(shown) == FRAMES + 1
    times = [f.time_s for f in shown]
    assert times == sorted(times) and times[0] < 1.5 and times[-1] > SECONDS - 1.5
    assert [f.time_s for f in shown if f.highest] == [top.time_s]
    assert [f.now for f in shown] == [4 <= f.time_s <= 8 for f in shown]
    for one in shown:
        image = decode(base64.b64decode(one.source.partition(",")[2]))
        assert image is not None
        mouth = image[len(image) * 44 // 64, len(image) // 4 + 6].astype(int)  # in the mask, beside the mouth
        assert (mouth[0] - mouth[2] > 90) == one.now  # orange


def test_the_chart_leaves_out_what_was_not_seen_and_shades_what_counts() -> None:
    drawn = chart(found(), VIDEO)
    assert drawn.shaded == [pytest.approx((100 / 3, 100 / 3))]
    ends = [(line.split()[0].split(",")[0], line.split()[-1].split(",")[0]) for line in drawn.lines]
    assert ends == [("0.00", "75.00"), ("88.33", "98.33")]
    assert [words for _, words in drawn.marks] == ["0", "2", "4", "6", "8", "10", "12"]
    long = VIDEO.model_copy(update={"frames": 3 * DOTS, "looked_at": 3 * DOTS})
    many = chart(judgements.track(seen([*range(2 * DOTS), 2 * DOTS + 50])), long)
    assert len(many.lines) == len(many.dots) == 1  # of so many the line alone is drawn, and what stands alone


def test_a_picture_is_shown_whole_with_its_faces_marked(tmp_path: Path) -> None:
    image = face_frames(1)[0]
    one = seen([0], range(1), x=100)
    track = judgements.track(one, Answer.MANIPULATED, stretches=[(0, 0)], where=["mouth"])
    picture = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
    judgement = judgements.judgement([track], Answer.MANIPULATED, "The face looks so.", PICTURE, picture=picture)
    html = page(tmp_path, judgement)
    (whole,) = re.findall(r'class="whole" src="data:image/jpeg;base64,([^"]+)"', html)
    drawn = decode(base64.b64decode(whole))
    assert drawn is not None and drawn.shape == image.shape
    scale = image.shape[1] / PICTURE.width
    left = drawn[round((50 + 50) * scale), round(100 * scale)].astype(int)
    assert np.abs(left - image[round(100 * scale), round(100 * scale)]).max() > 60  # the box's left edge
    assert "<svg" not in html and "Manipulated when" not in html and "over time" not in html


def test_a_file_that_cannot_be_read_has_a_page(tmp_path: Path) -> None:
    reason = "The file cannot be read: the file is empty."
    judgement = judgements.judgement([], Answer.UNKNOWN, f"Cannot say. {reason}", None, reasons=[reason])
    text = words(page(tmp_path, judgement))
    assert text.count(reason) == 1 and "Nothing was judged" in text and "ab" * 32 in text
    assert "Faces" not in text and "limit" not in text


def test_many_faces_are_all_in_the_table(tmp_path: Path) -> None:
    tracks = [judgements.track(seen(list(range(0, 20, 2))), number=n) for n in range(1, 31)]
    judgement = judgements.judgement([*tracks, found(31)], Answer.MANIPULATED, "Face 31 looks manipulated.", VIDEO)
    html = page(tmp_path, judgement)
    assert re.findall(r"<h3>Face (\d+)", html)[0] == "31" and html.count("<h3>") == 20
    assert len(re.findall(r'<tr><td class="number">\d+<td', html)) == 31
    assert "The other 11 faces stand in the table above only." in html
