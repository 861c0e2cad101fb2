"""Videos of one's own, listed in a file, as a table of videos.

    <root>/videos.csv    a line per video, with the columns below; a mask video is aligned with its video

path and label (0 = original, 1 = manipulated) are required. The others may be left out or empty: method
("manipulated"), quality ("released"), target (the original video; the fakes made of it share it), source (whose face or
expression was put in), split, mask_path.
"""

import csv
import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from io import StringIO
from itertools import zip_longest
from pathlib import Path, PurePosixPath, PureWindowsPath

import pandas as pd

from emd_core.datasets.rows import RELEASED, Row, require_known, require_layout, video_row, videos_table
from emd_core.errors import UserError
from emd_core.reading import read_text, reading
from emd_core.storage.listing import Files
from emd_core.storage.manifest import ORIGINAL

LIST = "videos.csv"
REQUIRED = ("path", "label")
OPTIONAL = ("method", "quality", "split", "target", "source", "mask_path")
# Labels that others write, and what they are here.
MEANT = {"0.0": "0", "real": "0", "original": "0", "pristine": "0", "genuine": "0"}
MEANT |= {"1.0": "1", "fake": "1", "manipulated": "1", "altered": "1", "deepfake": "1"}
SPLITS = ("train", "val", "test")
SHARES = (0.72, 0.86)  # of the groups: up to here train, up to here val, as FaceForensics++'s


def list_videos(root: Path, methods: Sequence[str], qualities: Sequence[str]) -> pd.DataFrame:
    """The VIDEOS table of <root>/videos.csv, with the given methods and all originals, at the given qualities.

    A video without a split gets it from its people: whoever is linked by a video, as its target or source, is one
    group, and a group's split follows from its names alone, so that adding videos of others does not change it.

    Raises:
        UserError: no such list, or a line that is not as above, with its number.
    """
    require_layout(root, "list of one's own videos", [LIST])
    lines = list(_lines(root / LIST))
    _refuse_twice(lines)
    require_known("ingest.methods", methods, sorted({line["method"] for line in lines} - {ORIGINAL}))
    require_known("ingest.qualities", qualities, sorted({line["quality"] for line in lines}))
    files, groups = Files(root), _groups(lines)
    chosen = (x for x in lines if x["method"] in (*methods, ORIGINAL) and x["quality"] in qualities)
    return videos_table((_row(files, line, groups) for line in chosen), root)


def _lines(path: Path) -> Iterator[dict[str, str]]:
    # One Unicode form for all names, as two forms of one look the same; the files are found in either.
    text = unicodedata.normalize("NFC", read_text(path, "a CSV file in UTF-8", "save it as one"))
    with reading(path, "a CSV file in UTF-8", "save it as one"):
        reader = csv.reader(StringIO(text), strict=True)
        rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    columns = _require_columns(path, rows[0][1] if rows else [])
    for number, cells in rows[1:]:
        where = f"{path}, line {number}"
        if any(cells[len(columns) :]):
            raise UserError(f"{where} has more cells than the first line; quote values that hold a comma.")
        if any(cells):  # spreadsheets leave lines of commas behind the last one
            yield _complete(dict(zip_longest(columns, cells[: len(columns)], fillvalue="")), where)


def _require_columns(path: Path, columns: list[str]) -> list[str]:
    wrong = [c for c in REQUIRED if c not in columns] or sorted(set(columns) - {*REQUIRED, *OPTIONAL})
    if wrong or len(set(columns)) < len(columns):
        fault = f"column {wrong[0] or 'without a name'} is missing or unknown" if wrong else "a column is there twice"
        known = ", ".join((*REQUIRED, *OPTIONAL))
        raise UserError(
            f'{path}: {fault}; the first line is "{",".join(columns)}", but must name some of these, in small letters '
            f"and with commas between them: {known}."
        )
    return columns


def _complete(line: dict[str, str], where: str) -> dict[str, str]:
    """The line with its optional values filled in; refuses values that mean nothing."""
    if line["label"] not in ("0", "1"):
        meant = MEANT.get(line["label"].lower())
        instead = f", so write {meant}" if meant else ""
        raise UserError(f"{where}: label is '{line['label']}'; it must be 0 (original) or 1 (manipulated){instead}.")
    if line.get("split", "") not in ("", *SPLITS):
        raise UserError(f"{where}: split is '{line['split']}'; it must be train, val, test or empty.")
    real = line["label"] == "0"
    method = line.get("method") or (ORIGINAL if real else "manipulated")
    if real != (method == ORIGINAL):
        raise UserError(
            f"{where}: label {line['label']} and method '{method}' disagree; '{ORIGINAL}' has label 0 only."
        )
    for column, value in (("method", method), ("quality", line.get("quality") or RELEASED)):
        if not re.fullmatch(r"[\w.]+", value):  # it becomes part of file names
            raise UserError(f"{where}: {column} is '{value}'; it may have letters, digits, '_' and '.' only.")
    if not line["path"]:
        raise UserError(f"{where}: path is empty; name the video, relative to the list.")
    for column in ("path", "mask_path"):
        inside = PurePosixPath(line.get(column, ""))
        if "\\" in str(inside):
            instead = PureWindowsPath(inside).as_posix()
            raise UserError(f"{where}: {column} is '{inside}'; write '/' between folders: {instead}.")
        if inside.is_absolute() or ".." in inside.parts or PureWindowsPath(inside).drive:
            raise UserError(f"{where}: {column} is '{inside}'; it must lie below the list's folder, without '..'.")
        line[column] = str(inside) if line.get(column) else ""
    name = str(PurePosixPath(line["path"]).with_suffix(""))
    defaults = {"method": method, "quality": RELEASED, "target": name, "source": "", "split": "", "mask_path": ""}
    given = {column: line.get(column) or value for column, value in defaults.items()}
    return given | {"path": line["path"], "name": name, "where": where}


def _refuse_twice(lines: Sequence[dict[str, str]]) -> None:
    """Refuse what would drop a line or cut one original by another's faces."""
    seen: dict[tuple[str, ...], str] = {}
    for line in lines:
        keys = {("name", line["quality"], line["name"]): f"a video '{line['name']}' of this quality"}
        if line["method"] == ORIGINAL:
            keys["target", line["quality"], line["target"]] = f"an original with target '{line['target']}'"
        for key, what in keys.items():
            if other := seen.get(key):
                raise UserError(f"{line['where']}: {what} stands in {other} too; give each its own name and target.")
            seen[key] = line["where"]


def _row(files: Files, line: dict[str, str], groups: dict[str, str]) -> Row:
    kept = {k: line[k] for k in ("method", "quality", "target", "source", "name", "mask_path")}
    split = line["split"] or draw_split(groups[line["target"]])
    return video_row(files, [line["path"]], split=split, named_by=LIST, **kept)


def _groups(lines: Sequence[dict[str, str]]) -> dict[str, str]:
    """Id -> the least id among all that are linked to it by some video."""
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = name = parent[parent[name]]
        return name

    for line in lines:
        a, b = sorted((find(line["target"]), find(line["source"] or line["target"])))
        parent[b] = a
    return {name: find(name) for name in list(parent)}


def draw_split(group: str) -> str:
    """A split that depends on the group's name alone: train for 72 % of names, val for 14 %, test for 14 %."""
    share = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big") / 2**64
    return SPLITS[sum(share >= limit for limit in SHARES)]
