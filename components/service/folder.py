"""The one place on the disk where a service keeps what it was sent and what it made of it."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = "in-use"  # locked by the service that lives; the system unlocks it, however that ends


@contextmanager
def private_folder(work: Path | None) -> Iterator[Path]:
    """A folder below `work` that nobody else may read, removed at the end; those of services that were killed go first.

    work: by default a folder of this user among the system's temporary ones.
    """
    work = work or Path(tempfile.gettempdir()) / f"emd-serve-{os.getuid()}"
    work.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in work.glob("service-*"):
        if old.is_symlink() or old.stat().st_uid != os.getuid():
            continue  # laid there by somebody else
        with _held(old) as free:
            if free:
                shutil.rmtree(old, ignore_errors=True)
    own = Path(tempfile.mkdtemp(prefix="service-", dir=work))  # 0700
    try:
        with _held(own):
            yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Whether the folder's lock could be had; it is held for the block."""
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
