"""The one way to read what a user hands over: whatever is wrong with a file is one sentence with its path."""

import json
import re
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from emd_core.errors import UserError, fault_of_place

TEXT = "a text file in UTF-8"
# What lies where a file should be, by its first bytes.
IMPOSTORS = {
    b"version https://git-lfs": "is a pointer of Git LFS, not the file itself; run `git lfs pull` where it came from",
    b"<!doctype": "is a web page, such as a site's refusal to a download; download the file itself",
    b"<html": "is a web page, such as a site's refusal to a download; download the file itself",
}
CONFLICT = "holds git's conflict markers; resolve the merge"
LOOKED_AT = 1 << 20  # bytes


@contextmanager
def reading(path: Path, what: str, remedy: str = "restore it") -> Iterator[None]:
    """Within the block `path` is read as `what`, and nothing else is done; whatever goes wrong is said of the file.

    Parsers raise whatever they like on bytes that they do not expect, so everything is caught.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; {remedy}.") from None
    except Exception as error:
        if isinstance(error, OSError) and (fault := fault_of_place(error)):
            raise UserError(fault) from None
        if found := impostor(path):
            raise UserError(f"{path} {found}.") from None
        raise UserError(f"{path} is not {what} ({_reason(error)}); {remedy}.") from error


def read_text(path: Path, what: str = TEXT, remedy: str = "restore it") -> str:
    """The text of a file, with or without the byte-order mark that Windows writes."""
    with reading(path, what, remedy):
        text = path.read_text(encoding="utf-8-sig")
    if re.search(r"^<{7} ", text, re.MULTILINE):
        raise UserError(f"{path} {CONFLICT}.")
    return text


def read_json(path: Path, what: str = "a JSON file", remedy: str = "restore it") -> Any:
    text = read_text(path, what, remedy)
    with reading(path, what, remedy):
        return json.loads(text)


def impostor(path: Path) -> str:
    """What a file is instead of what was meant, and the remedy; "" if nothing is known of it."""
    try:
        with path.open("rb") as file:
            start = file.read(LOOKED_AT)
    except OSError:
        return ""
    if not start.strip(b"\0"):
        return "is empty; copy it again" if not start else "holds zeros, as a copy that broke does; copy it again"
    if start.startswith(b"PK\3\4") and not zipfile.is_zipfile(path):
        return "is cut off; copy it again"
    if re.search(rb"^<{7} ", start, re.MULTILINE):
        return CONFLICT
    known = start[:256].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((said for sign, said in IMPOSTORS.items() if known.startswith(sign)), "")


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8"
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    if isinstance(error, EOFError | struct.error):
        return "it is cut off"
    said = " ".join(str(error).split())[:200].rstrip(".")
    return f"it lacks {said}" if isinstance(error, KeyError) else said or type(error).__name__
