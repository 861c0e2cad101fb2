"""Videos of one's own, listed in a file, as a table of videos.

    <root>/videos.csv    a line per video, with the columns below; a mask video is aligned with its video

path and label (0 = original, 1 = manipulated) are required. The others may be left out or empty: method
("manipulated"), quality ("released"), target (the original video; the fakes made of it share it), source (whose face or
expression was put in), split, mask_path.
"""

import csv
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from emd_core.datasets.rows import RELEASED, Files, Row, require_known, require_layout, video_row, videos_table
from emd_core.errors import UserError
from emd_core.storage.manifest import ORIGINAL

LIST = "videos.csv"
REQUIRED = ("path", "label")
OPTIONAL = ("method", "quality", "split", "target", "source", "mask_path")
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
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or [])
            wrong = [c for c in REQUIRED if c not in columns] or sorted(set(columns) - {*REQUIRED, *OPTIONAL})
            if wrong:
                known = ", ".join((*REQUIRED, *OPTIONAL))
                raise UserError(
                    f"{path}: column {wrong[0]} is missing or unknown; the first line must name them: {known}."
                )
            for cells in reader:
                where = f"{path}, line {reader.line_num}"
                if cells.pop(None, None):
                    raise UserError(f"{where} has more cells than the first line; quote values that hold a comma.")
                yield _complete({k: (v or "").strip() for k, v in cells.items()}, where)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no CSV file in UTF-8 ({error}); save it as one.") from None


def _complete(line: dict[str, str], where: str) -> dict[str, str]:
    """The line with its optional values filled in; refuses values that mean nothing."""
    if line["label"] not in ("0", "1"):
        raise UserError(f"{where}: label is '{line['label']}'; it must be 0 (original) or 1 (manipulated).")
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
        if inside.is_absolute() or ".." in inside.parts:
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
