"""What every layout needs: rows of VIDEOS, and refusals that say what was expected."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from emd_core.errors import UserError
from emd_core.storage.listing import Files, shown
from emd_core.storage.manifest import MISSING, OK, ORIGINAL, VIDEOS

RELEASED = "released"  # the quality of videos that come in one compression
Row = dict[str, object]


def video_row(
    files: Files,
    paths: Sequence[str],
    *,
    method: str,
    quality: str,
    split: str,
    target: str,
    source: str,
    name: str,
    named_by: str,
    mask_path: str = "",
) -> Row:
    """A row of VIDEOS; the video is the first of `paths` (relative to the root) that is there, or missing.

    `name` tells it from the others of its method and quality; `named_by` says what lists it.
    """
    path = next((found for p in paths if (found := files.find(p))), None)
    return {
        "video": f"{method}/{quality}/{name}",
        "method": method,
        "quality": quality,
        "label": int(method != ORIGINAL),
        "split": split,
        "target": target,
        "source": source,
        "path": path or paths[0],
        "mask_path": (files.find(mask_path) or "") if mask_path else "",
        "status": OK if path else MISSING,
        "reason": "" if path else f"{named_by} names it, but {paths[0]} is not there",
    }


def videos_table(rows: Iterable[Row], root: Path) -> pd.DataFrame:
    """The rows as VIDEOS, each original before the fakes that were made from it at its quality.

    Raises:
        UserError: there is none, or a target or source is in two splits, so that the test set would leak.
    """
    table = pd.DataFrame(list(rows), columns=VIDEOS.names)
    if table.empty:
        raise UserError(f"{root} holds no video of the methods and qualities asked for; check the params of ingest.")
    ids = pd.concat([table[["target", "split"]], table[["source", "split"]].set_axis(["target", "split"], axis=1)])
    splits = ids[ids["target"] != ""].drop_duplicates()
    crossing = sorted(splits.loc[splits.duplicated("target"), "target"])
    if crossing:
        where = splits.loc[splits["target"] == crossing[0], "split"]
        raise UserError(
            f"{root}: '{crossing[0]}' is in the splits {' and '.join(where)} ({len(crossing)} such ids); "
            "a person or video may be in one split only, or the test set leaks into training: mend the lists."
        )
    table = table.drop_duplicates("video", ignore_index=True)
    first = table.groupby(["quality", "target"], sort=False).ngroup()
    return table.assign(group=first).sort_values(["group", "label"], kind="stable", ignore_index=True)[VIDEOS.names]


def require_known(key: str, asked: Sequence[str], known: Sequence[str]) -> None:
    unknown = sorted(set(asked) - set(known))
    if unknown:
        raise UserError(
            f"{key} names the unknown {', '.join(unknown)}; the known ones are {', '.join(known) or 'none'}."
        )


def require_layout(root: Path, layout: str, expected: Sequence[str]) -> None:
    """Refuse a root that lacks one of the `expected` files and folders."""
    if not all((root / name).exists() for name in expected):
        found = ", ".join(shown(root)[:8])
        raise UserError(
            f"{root} has not the {layout} layout: expected {', '.join(expected)}, found {found or 'nothing'}; "
            "pass the dataset's root."
        )


def strays(root: Path, table: pd.DataFrame) -> list[str]:
    """Videos that lie beside the listed ones (or their masks) and that nothing names, relative to root."""
    named = {*table["path"], *table["mask_path"]}
    files, folders = Files(root), sorted({os.path.dirname(path) for path in named if path})
    found = (os.path.join(folder, name) for folder in folders for name in files.videos(folder))
    return [path for path in found if path not in named]
