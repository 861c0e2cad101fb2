"""Verdicts as tables: the same columns whatever was judged, and no cell that a spreadsheet would run."""

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from emd_core.verdicts.table import COLUMNS, row, write_tables
from emd_core.verdicts.verdict import Answer, Media, Seen, Verdict
from tests.fakes import judgements

MEDIA = Media(kind="video", width=64, height=48, frames=100, seconds=10, looked_at=10)


def verdict(file: str = "clip.mp4", faces: int = 1) -> Verdict:
    """A file whose last face is manipulated."""
    looks = [Seen(frame=i, time_s=i / 10, x=0, y=0, side=40, score=0.9, expression=None) for i in range(0, 100, 10)]
    clean = [judgements.track(looks, number=n) for n in range(1, faces)]
    spans = [(1.0, 2.5), (4.04, 5.0)]
    fake = judgements.track(looks, Answer.MANIPULATED, number=faces, stretches=spans, where=["nose", "mouth"])
    return judgements.judgement([*clean, fake], Answer.MANIPULATED, "A face is manipulated.", MEDIA, file=file).verdict


def unreadable() -> Verdict:
    return judgements.judgement([], Answer.UNKNOWN, "Cannot say. Why.", None, reasons=["Why.", "And why."]).verdict


def test_a_row_says_where_and_when() -> None:
    one = row(verdict(), "clip.mp4")
    assert (one["where"], one["when"], one["faces"]) == ("nose, mouth", "1.0–2.5 s, 4.0–5.0 s", 1)
    two = row(verdict(faces=2), "clip.mp4")
    assert (two["when"], two["faces"], two["manipulated_faces"]) == ("face 2: 1.0–2.5 s, 4.0–5.0 s", 2, 1)
    none = row(unreadable(), "x")
    assert (none["status"], none["score"], none["seconds"], none["when"]) == ("unreadable", None, None, "")
    assert none["reasons"] == "Why. And why."


@pytest.mark.parametrize("rows", [[], [row(unreadable(), "x")], [row(unreadable(), "x"), row(verdict(), "y")]])
def test_the_columns_are_the_same_whatever_was_judged(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    write_tables(tmp_path, rows)
    stored = pq.read_table(tmp_path / "verdicts.parquet")
    assert stored.schema.equals(COLUMNS) and stored.to_pylist() == rows
    with (tmp_path / "verdicts.csv").open(newline="", encoding="utf-8") as file:
        assert next(csv.reader(file)) == COLUMNS.names


@pytest.mark.parametrize("name", ["=1+2.mp4", "+1.mp4", "-1.mp4", "@a.mp4", "\t=1.mp4", '=a,"b"\n.mp4'])
def test_no_file_name_is_a_formula(tmp_path: Path, name: str) -> None:
    write_tables(tmp_path, [row(verdict(name), f"{name}.d"), row(verdict(), "plain")])
    with (tmp_path / "verdicts.csv").open(newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert (first["path"], first["folder"]) == (f"'{name}", f"'{name}.d")
    assert (second["path"], second["score"]) == ("clip.mp4", "0.9")
    assert pq.read_table(tmp_path / "verdicts.parquet")["path"][0].as_py() == name
