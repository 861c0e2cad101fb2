"""Which files of a folder are the data: without what systems lay beside them, by name in whatever form of Unicode."""

import os
import unicodedata
from pathlib import Path
from typing import Literal

from emd_core.errors import UserError
from emd_core.reading import TEXT, read_text

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")
COMPANIONS = ("thumbs.db", "desktop.ini", "ehthumbs.db")  # what Windows lays beside pictures


def is_companion(name: str) -> bool:
    """Whether a file is none of the data's but lies beside them: hidden ones, as macOS' ._name and .DS_Store are."""
    return name.startswith(".") or name.lower() in COMPANIONS


def shown(folder: Path) -> list[str]:
    """Names of what lies in a folder, sorted, without hidden files."""
    return sorted(p.name for p in folder.iterdir() if not is_companion(p.name)) if folder.is_dir() else []


def read_lines(path: Path) -> list[str]:
    """The lines of a list without the spaces around them; empty ones are left out."""
    text = read_text(path, TEXT, "put the dataset's own file there")
    return [line.strip() for line in text.splitlines() if line.strip()]


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
