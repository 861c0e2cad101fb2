"""Verdicts on many files as a table: verdicts.parquet and verdicts.csv, a row per file."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from emd_core.reading import reading
from emd_core.storage.atomic import atomic_file
from emd_core.verdicts.verdict import Answer, Track, Verdict

COLUMNS = pa.schema(
    [
        ("path", pa.string()),  # as it was given
        ("status", pa.string()),  # judged, unreadable
        ("answer", pa.string()),  # manipulated, nothing found, cannot say
        ("score", pa.float64()),  # calibrated probability of the face that decides; null where there is none
        ("sentence", pa.string()),
        ("reasons", pa.string()),  # sentences, one after another
        ("faces", pa.int32()),
        ("manipulated_faces", pa.int32()),
        ("where", pa.string()),  # in the manipulated faces: mouth, eyes and brows, …
        ("when", pa.string()),  # stretches of time: 4.0–8.0 s, or face 2: 4.0–8.0 s where there are several faces
        ("kind", pa.string()),  # video, picture; "" where it cannot be read
        ("seconds", pa.float64()),  # null where it cannot be read
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("model", pa.string()),
        ("model_digest", pa.string()),
        ("judged_at", pa.string()),  # UTC, ISO 8601
        ("folder", pa.string()),  # with verdict.json, report.html and overlay.mp4, relative to the table
    ]
)
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # spreadsheets run a cell that begins with one of these


def row(verdict: Verdict, folder: str) -> dict[str, Any]:
    """The columns of a file whose own files lie in `folder`."""
    found = [track for track in verdict.tracks if track.answer is Answer.MANIPULATED]
    return {
        "path": verdict.path,
        "status": verdict.status,
        "answer": str(verdict.answer),
        "score": verdict.score,
        "sentence": verdict.sentence,
        "reasons": " ".join(verdict.reasons),
        "faces": len(verdict.tracks),
        "manipulated_faces": len(found),
        "where": ", ".join(dict.fromkeys(part for track in found for part in track.where)),
        "when": "; ".join(_when(track, len(verdict.tracks) > 1) for track in found) if _is_video(verdict) else "",
        "kind": verdict.media.kind if verdict.media else "",
        "seconds": verdict.media.seconds if verdict.media else None,
        "bytes": verdict.bytes,
        "sha256": verdict.sha256,
        "model": verdict.model.name,
        "model_digest": verdict.model.digest,
        "judged_at": verdict.judged_at,
        "folder": folder,
    }


def table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as `row` makes them, in the types of COLUMNS, also where there is none."""
    return pa.Table.from_pylist([dict(one) for one in rows], schema=COLUMNS).to_pandas()


def write_tables(folder: Path, rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Write what `write_table` does; returns the table."""
    verdicts = table(rows)
    write_table(folder, verdicts)
    return verdicts


def write_table(folder: Path, verdicts: pd.DataFrame) -> None:
    """Write verdicts.parquet, and verdicts.csv for spreadsheets: there a text that could be a formula begins with '."""
    with atomic_file(folder / "verdicts.parquet") as temporary:
        pq.write_table(pa.Table.from_pandas(verdicts, schema=COLUMNS, preserve_index=False), temporary)
    texts = [field.name for field in COLUMNS if pa.types.is_string(field.type)]
    safe = {name: verdicts[name].map(lambda text: f"'{text}" if text.startswith(FORMULA) else text) for name in texts}
    with atomic_file(folder / "verdicts.csv") as temporary:
        verdicts.assign(**safe).to_csv(temporary, index=False, encoding="utf-8")


def read_table(folder: Path, remedy: str) -> pd.DataFrame:
    """What `write_table` wrote; UserError with the remedy where that is not there."""
    path = folder / "verdicts.parquet"
    with reading(path, "a table of verdicts of this version", remedy):
        return pq.read_table(path, schema=COLUMNS).to_pandas()


def _is_video(verdict: Verdict) -> bool:
    return verdict.media is not None and verdict.media.kind == "video"


def _when(track: Track, several: bool) -> str:
    spans = ", ".join(f"{s.start_s:.1f}–{s.end_s:.1f} s" for s in track.stretches)
    return f"face {track.number}: {spans}" if several else spans
