"""What every layout needs: rows of VIDEOS, and refusals that say what was expected."""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import pandas as pd

from emd_core.errors import UserError
from emd_core.reading import TEXT, is_companion, read_text, shown
from emd_core.storage.manifest import MISSING, OK, ORIGINAL, VIDEOS

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")
RELEASED = "released"  # the quality of videos that come in one compression
Row = dict[str, object]


class Files:
    """The files below a folder, asked for by their path relative to it.

    Each folder is listed once, however many of its files are asked for: 100,000 videos on a network disk are not asked
    for one by one.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names: dict[str, frozenset[str]] = {}
        self._folders: dict[str, frozenset[str]] = {}

    def find(self, path: str) -> str | None:
        """`path` as it is written on the disk; None where there is no such file.

        An accented letter has two forms in Unicode, and systems differ in which one they write: macOS' file systems and
        archives take letters apart. A name in another form than the list's is the same name.
        """
        folder, name = os.path.split(path)
        written = self._find_folder(folder)
        found = None if written is None else _same(name, self.names(written))
        return None if written is None or found is None else os.path.join(written, found)

    def names(self, folder: str) -> frozenset[str]:
        """Names of the files that lie directly in `folder`; none where there is no such folder."""
        self._list(folder)
        return self._names[folder]

    def folders(self, folder: str) -> list[str]:
        """Names of the folders that lie directly in `folder`, sorted."""
        self._list(folder)
        return sorted(name for name in self._folders[folder] if not is_companion(name))

    def videos(self, folder: str) -> list[str]:
        """Names of the videos that lie directly in `folder`, sorted."""
        return sorted(n for n in self.names(folder) if n.lower().endswith(VIDEO_SUFFIXES) and not is_companion(n))

    def _find_folder(self, folder: str) -> str | None:
        if folder.isascii() or self.names(folder):
            return folder
        above, name = os.path.split(folder)
        written = self._find_folder(above)
        if written is None:
            return None
        self._list(written)
        found = _same(name, self._folders[written])
        return None if found is None else os.path.join(written, found)

    def _list(self, folder: str) -> None:
        if folder in self._names:
            return
        files, folders = set(), set()
        try:
            with os.scandir(self.root / folder) as entries:
                for entry in entries:
                    if _is(entry, "is_file"):
                        files.add(entry.name)
                    elif _is(entry, "is_dir"):
                        folders.add(entry.name)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            reason = f"{self.root / folder} cannot be listed ({error.strerror})"
            raise UserError(f"{reason}; whoever runs this must be able to read the data set.") from None
        self._names[folder], self._folders[folder] = frozenset(files), frozenset(folders)


def _is(entry: os.DirEntry[str], kind: Literal["is_file", "is_dir"]) -> bool:
    try:
        return bool(getattr(entry, kind)())
    except OSError:  # a link that leads back to itself, or to where nobody may look
        return False


def _same(name: str, names: frozenset[str]) -> str | None:
    """The one of `names` that is `name`, in whichever Unicode form."""
    if name in names or name.isascii():
        return name if name in names else None
    meant = unicodedata.normalize("NFC", name)
    return min((n for n in names if unicodedata.normalize("NFC", n) == meant), default=None)


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


def read_lines(path: Path) -> list[str]:
    """The lines of a list without the spaces around them; empty ones are left out."""
    text = read_text(path, TEXT, "put the dataset's own file there")
    return [line.strip() for line in text.splitlines() if line.strip()]


def strays(root: Path, table: pd.DataFrame) -> list[str]:
    """Videos that lie beside the listed ones (or their masks) and that nothing names, relative to root."""
    named = {*table["path"], *table["mask_path"]}
    files, folders = Files(root), sorted({os.path.dirname(path) for path in named if path})
    found = (os.path.join(folder, name) for folder in folders for name in files.videos(folder))
    return [path for path in found if path not in named]
