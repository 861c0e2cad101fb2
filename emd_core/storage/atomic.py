"""Outputs appear whole or not at all: written beside their place, then renamed."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_dir(out: Path) -> Iterator[Path]:
    """Yield a working folder beside `out` and rename it to `out` when the block ends without error.

    A run that was killed leaves only the working folder, `.<name>.partial`, which the next run starts anew.
    """
    work = _anew(out.with_name(f".{out.name}.partial"))
    try:
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
    work = _working_folder(out, key)
    key_file = work / ".resume-key"
    if not key_file.exists() or key_file.read_text() != key:
        _anew(work)
        key_file.write_text(key)
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
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def link_or_copy(source: Path | str, target: Path | str) -> None:
    """A hard link, or a copy where the file systems differ; for files that nobody changes in place."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


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
