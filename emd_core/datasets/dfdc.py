"""The folder layout of DFDC's training set as a table of videos.

    <root>/dfdc_train_part_<N>/metadata.json    {"<name>.mp4": {"label": "REAL"}, …} for the videos of part N = 0 … 49
    <root>/dfdc_train_part_<N>/<name>.mp4       a fake's entry: {"label": "FAKE", "original": "<name>.mp4"}

The splits are the parts, as is common: 0-34 train, 35-39 val, 40-49 test (the metadata says "train" everywhere). What a
fake's source was, how it was made and where its mask lies is not published; there is one compression, as released.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from emd_core.datasets.rows import RELEASED, Row, require_known, video_row, videos_table
from emd_core.errors import UserError
from emd_core.reading import read_json
from emd_core.storage.listing import Files, shown
from emd_core.storage.manifest import ORIGINAL

METHODS = ("DFDC",)
QUALITIES = (RELEASED,)
SPLITS = {"train": range(35), "val": range(35, 40), "test": range(40, 50)}  # split -> its parts
WHERE = "of DFDC, the parts 0 to 34 are train, 35 to 39 val and 40 to 49 test, so add a part of each"


def list_videos(root: Path, methods: Sequence[str], qualities: Sequence[str]) -> pd.DataFrame:
    """The VIDEOS table of a DFDC root; it may hold some of the parts.

    Args:
        root: the dataset folder.
        methods, qualities: DFDC names neither; METHODS and QUALITIES are all there is.

    Returns:
        One row per video that the metadata name, status "ok" or "missing". An original stands directly before all
        fakes that were made from it, in whichever part they are; a fake may be listed without its original.

    Raises:
        UserError: other methods or qualities, no such layout under `root`, bad metadata, a video in two parts, or a
            fake in another split than its original's other fakes.
    """
    require_known("ingest.methods", methods, METHODS)
    require_known("ingest.qualities", qualities, QUALITIES)
    files, part_of = Files(root), dict[object, str]()
    rows: list[Row] = []
    for number, part in _parts(root):
        for row in _part_rows(files, part, number):
            other = part_of.setdefault(row["video"], part)
            if other != part:
                raise UserError(
                    f"{root} has {Path(str(row['path'])).name} in both {other} and {part}; a video may be in one part "
                    "only, or the test set leaks into training: remove it from one of them."
                )
            rows.append(row)
    if not rows:
        raise UserError(f"the metadata.json files in {root} name no video; put the dataset's own ones there.")
    return videos_table(rows, root)


def _parts(root: Path) -> list[tuple[int, str]]:
    """Number and name of each part's folder, by number."""
    names = shown(root)
    found = [(int(m[1]), m[0]) for m in (re.fullmatch(r"dfdc_train_part_(\d+)", name) for name in names) if m]
    if not found:
        raise UserError(
            f"{root} has not the DFDC layout: expected folders dfdc_train_part_0 to dfdc_train_part_49, found "
            f"{', '.join(names[:8]) or 'nothing'}; pass the dataset's root."
        )
    return sorted(found)


def _part_rows(files: Files, part: str, number: int) -> Iterator[Row]:
    split = next((split for split, parts in SPLITS.items() if number in parts), None)
    if split is None:
        raise UserError(
            f"{files.root / part} belongs to no split; DFDC's training set has the parts 0 to 49, so remove it."
        )
    path = files.root / part / "metadata.json"
    for name, entry in _read_metadata(path).items():
        match entry:
            case {"label": "REAL"}:
                yield _row(files, part, split, name, ORIGINAL, name)
            case {"label": "FAKE", "original": str(original)}:
                yield _row(files, part, split, name, *METHODS, original)
            case _:
                raise UserError(
                    f'{path}: the entry of {name} is {entry}; it must have the label "REAL", or "FAKE" and the name of '
                    "its original: put the dataset's own file there."
                )


def _read_metadata(path: Path) -> dict[str, object]:
    what, remedy = "a JSON object of entries per video", "put the dataset's own file there"
    entries = read_json(path, what, remedy)
    if not isinstance(entries, dict):
        raise UserError(f"{path} is not {what} (it holds a {type(entries).__name__}); {remedy}.")
    return entries


def _row(files: Files, part: str, split: str, name: str, method: str, original: str) -> Row:
    return video_row(
        files,
        [f"{part}/{name}"],
        method=method,
        quality=RELEASED,
        split=split,
        target=Path(original).stem,
        source="",
        name=Path(name).stem,
        named_by=f"{part}/metadata.json",
    )
