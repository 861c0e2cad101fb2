"""Which files are meant by paths, folders and lists, and where the verdict on each goes."""

import os
import re
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from emd_core.errors import UserError
from emd_core.storage.listing import VIDEO_SUFFIXES, is_companion, read_lines

SUFFIXES = (*VIDEO_SUFFIXES, ".png", ".jpg", ".jpeg", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ts", ".gif")
MADE_BY = "made-by.json"  # beside verdicts: which model and values they are of
FOLDER = "folder"  # by which detect tells Kubeflow, and so merge_verdicts, where it wrote
LONGEST = 60  # characters of a file's name in the name of its folder


def find_files(paths: Sequence[Path], listed: Path | None) -> list[tuple[Path, str]]:
    """The files, each with the name that its verdict gives it: relative to the folder that was given.

    A file that is named is always meant; of a folder those that look like videos or pictures, however deep, but not
    what detect wrote there. One that is meant twice is judged once.

    Raises:
        UserError: there is no such path, or nothing to judge.
    """
    asked = [*paths, *(listed.parent / line for line in read_lines(listed))] if listed else list(paths)
    found: dict[Path, str] = {}
    for path in asked:
        if path.is_dir():
            for file in sorted(_below(path)):
                found.setdefault(file, file.relative_to(path).as_posix())
        elif path.exists():
            found.setdefault(path, path.name)
        else:
            raise UserError(f"{path} does not exist; name videos, pictures, or folders of them.")
    if not found:
        where = ", ".join(map(str, asked[:3])) or "the command line"
        raise UserError(f"{where} names no video or picture ({', '.join(SUFFIXES)}); name files, or folders of them.")
    return list(found.items())


def _below(folder: Path) -> list[Path]:
    found = []
    for place, folders, names in os.walk(folder):
        if MADE_BY in names:
            folders.clear()
        else:
            found += [Path(place) / n for n in names if n.lower().endswith(SUFFIXES) and not is_companion(n)]
    return found


def folder_of(path: Path, name: str) -> str:
    """The folder of a file's verdict: readable, the same for the same path, and another one for each."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(name).name).strip("._")[:LONGEST]
    return f"{readable or 'file'}-{sha256(str(path).encode(errors='surrogateescape')).hexdigest()[:16]}"


def own_share(files: list[tuple[Path, str]], shard: str) -> list[tuple[Path, str]]:
    """Every n-th file, from the k-th on, for the shard "k/n"; UserError where that is no shard."""
    number, slash, shards = shard.partition("/")
    if not (slash and number.isdecimal() and shards.isdecimal() and 1 <= int(number) <= int(shards)):
        raise UserError(f"--shard {shard} is no part; write k/n with 1 <= k <= n, such as 2/8.")
    return files[int(number) - 1 :: int(shards)]
