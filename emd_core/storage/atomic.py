"""Outputs appear whole or not at all: written beside their place, then renamed."""

import errno
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from emd_core.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # only writing meets these
OS_ERROR = re.compile(r"\(os error (\d+)\)")


@contextmanager
def atomic_dir(out: Path) -> Iterator[Path]:
    """Yield a working folder beside `out` and rename it to `out` when the block ends without error.

    A run that was killed leaves only the working folder, `.<name>.partial`, which the next run starts anew.
    """
    require_replaceable(out)
    work = _anew(out.with_name(f".{out.name}.partial"))
    try:
        with naming(out):
            yield work
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    _replace(out, work)


@contextmanager
def resumable_dir(out: Path, key: str, *, state: Sequence[str]) -> Iterator[Path]:
    """Yield a working folder that outlives a killed run, and copy it to `out` when the block ends without error.

    The next run goes on in it if its `key` is the same, and starts it anew if not. Names (or patterns) in `state` are
    what only a run that goes on needs; they stay until `out` is in its place, and are no part of it.

    The working folder is `.<name>.partial` beside `out`, or `$EMD_CHECKPOINTS/<run>/<name>-<key>.partial` where that
    variable is set (a folder that outlives the machine, such as a mounted volume); <run> is $EMD_PIPELINE_RUN, or
    "run" without it. So the shards of one run do not meet there; equal work at the same time needs another run's name.
    """
    require_replaceable(out)
    work = _working_folder(out, key)
    key_file = work / ".resume-key"
    if not key_file.exists() or key_file.read_bytes() != key.encode():
        _anew(work)
        key_file.write_text(key)
    with naming(out):
        yield work
    whole = out.with_name(f".{out.name}.whole.partial")
    shutil.rmtree(whole, ignore_errors=True)
    ignored = shutil.ignore_patterns(key_file.name, "*.partial", *state)
    shutil.copytree(work, whole, ignore=ignored, copy_function=link_or_copy)
    _replace(out, whole)
    key_file.unlink()  # first: half of a folder must not be gone on with
    shutil.rmtree(work)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` and rename it to `path` when the block ends without error."""
    temporary = path.with_name(f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with naming(path):
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())  # or a power failure may leave the new name with half of the bytes
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def naming(out: Path) -> Iterator[None]:
    """A full disk is an OSError with a path, whichever library writes in the block."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if (fault := _fullness(error)) is None:
            raise
        number, place = fault
        raise OSError(number, os.strerror(number), place or str(out)) from error


def require_replaceable(out: Path) -> None:
    """Refuse, before the work, a place that an output cannot take when it is done."""
    if out.name in ("", ".."):
        raise UserError(f"'{out}' cannot be replaced by an output; name a folder of its own.")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file, where a folder is to be written; name another place, or move it away.")
    if os.path.ismount(out):
        raise UserError(f"{out} is a mount point, which cannot be replaced; name a folder within it.")
    parent = next(folder for folder in out.absolute().parents if os.path.lexists(folder))
    if not parent.is_dir():
        raise UserError(f"{out} cannot be written, as {parent} is no folder; name another place, or move it away.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(
            f"{out} cannot be written, as {parent} is read-only for whoever runs this; mend its permissions, mount its "
            "disk writable, or name another place."
        )


def link_or_copy(source: Path | str, target: Path | str) -> None:
    """A hard link, or a copy where the file systems differ; for files that nobody changes in place."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _fullness(error: BaseException | None) -> tuple[int, str | None] | None:
    """Error number and path, if a full disk is behind an error.

    safetensors tells the system's number in its text only, and torch raises an error of its own in place of it.
    """
    while error is not None:
        said = OS_ERROR.search(str(error))
        number = error.errno if isinstance(error, OSError) else int(said[1]) if said else None
        if number in FULL:
            return number, getattr(error, "filename", None)
        error = error.__context__
    return None


def _working_folder(out: Path, key: str) -> Path:
    checkpoints = os.environ.get("EMD_CHECKPOINTS")
    if not checkpoints:
        return out.with_name(f".{out.name}.partial")
    return Path(checkpoints) / (os.environ.get("EMD_PIPELINE_RUN") or "run") / f"{out.name}-{key}.partial"


def _anew(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _replace(out: Path, whole: Path) -> None:
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.replace(out, old)
    os.replace(whole, out)
    shutil.rmtree(old, ignore_errors=True)
