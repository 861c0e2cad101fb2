"""Outputs appear whole or not at all: written beside their place, then renamed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_dir(out: Path, *, resume_key: str | None = None) -> Iterator[Path]:
    """Yield a working folder beside `out` and rename it to `out` when the block ends without error.

    A run that was killed leaves only the working folder, `.<name>.partial`. The next run starts it anew,
    unless `resume_key` is given and equals the key that the killed run had: then it goes on in it.
    """
    work = out.with_name(f".{out.name}.partial")
    key_file = work / ".resume-key"
    resumes = resume_key is not None and key_file.exists() and key_file.read_text() == resume_key
    if not resumes:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        if resume_key is not None:
            key_file.write_text(resume_key)
    try:
        yield work
    except BaseException:
        if resume_key is None:
            shutil.rmtree(work, ignore_errors=True)
        raise
    key_file.unlink(missing_ok=True)
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.replace(out, old)
    os.replace(work, out)
    shutil.rmtree(old, ignore_errors=True)


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
