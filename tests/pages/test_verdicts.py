"""The page of a batch: the most serious first, cut where it would grow too long."""

import re
from pathlib import Path

from emd_core.pages.verdicts import ROWS, write_index
from emd_core.verdicts.table import row, table
from emd_core.verdicts.verdict import Answer, Media, Seen
from tests.fakes import judgements

MEDIA = Media(kind="video", width=64, height=48, frames=10, seconds=1, looked_at=10)


def verdict_row(name: str, answer: Answer, score: float | None) -> dict[str, object]:
    tracks = []
    if score is not None:
        look = Seen(frame=0, time_s=0, x=0, y=0, side=40, score=score, expression=None)
        tracks = [judgements.track([look], answer, where=["nose"] if answer is Answer.MANIPULATED else [])]
    media = MEDIA if name != "broken.mp4" else None
    made = judgements.judgement(tracks, answer, "A sentence.", media, file=name, reasons=["Why."] * (score is None))
    return row(made.verdict, f"files/{name}")


def page(folder: Path, rows: list[dict[str, object]]) -> str:
    write_index(folder, table(rows))
    return (folder / "index.html").read_text(encoding="utf-8")


def test_the_most_serious_come_first(tmp_path: Path) -> None:
    rows = [
        verdict_row("none.mp4", Answer.NOTHING, 0.1),
        verdict_row("broken.mp4", Answer.UNKNOWN, None),
        verdict_row("unsure.mp4", Answer.UNKNOWN, 0.5),
        verdict_row("faceless.mp4", Answer.UNKNOWN, None),
        verdict_row("lower.mp4", Answer.MANIPULATED, 0.7),
        verdict_row('<b>#1 100%?"', Answer.MANIPULATED, 0.9),
    ]
    html = page(tmp_path, rows)
    links = re.findall(r'<td class="path"><a href="([^"]+)">([^<]*)</a>', html)
    assert [name for _, name in links] == [
        "&lt;b&gt;#1 100%?&#34;",
        "lower.mp4",
        "unsure.mp4",
        "faceless.mp4",
        "broken.mp4",
        "none.mp4",
    ]
    assert links[0][0] == "./files/%3Cb%3E%231%20100%25%3F%22/report.html"
    assert re.findall(r"<b>(\d+)</b> ([a-z ]+)", html) == [
        ("2", "manipulated"),
        ("2", "cannot say"),
        ("1", "nothing found"),
        ("1", "cannot be read"),
    ]
    assert "The first" not in html and "nan" not in html and "None" not in html


def test_a_long_table_is_cut_and_says_where_the_rest_is(tmp_path: Path) -> None:
    rows = [verdict_row("none.mp4", Answer.NOTHING, 0.1)] * (ROWS + 5) + [verdict_row("x.mp4", Answer.MANIPULATED, 0.9)]
    html = page(tmp_path, rows)
    assert html.count('<td class="path">') == ROWS and html.index("x.mp4") < html.index("none.mp4")
    assert f'The first {ROWS:,} of {ROWS + 6:,} files; <a href="./verdicts.csv">' in html


def test_a_batch_without_files_has_a_page(tmp_path: Path) -> None:
    assert "these 0 files" in page(tmp_path, [])
