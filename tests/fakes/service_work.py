"""A service as a process of its own, whose work does what the uploaded bytes say: `python -m tests.fakes.service_work`.

Each worker's process imports this file, so it imports little.
"""

import ctypes
import json
import os
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from components.service.jobs import OVERLAY, REPORT, VERDICT, Upload
from emd_core.verdicts.verdict import Answer, Software, Verdict
from emd_core.verdicts.verdict import Model as About

PNG, MP4 = b"\x89PNG\r\n\x1a\n", b"\x00\x00\x00\x18ftypmp42"
Tell = Callable[[float], None]


def make(version: str) -> Callable[[Upload, Tell], None]:
    if version == "broken":
        raise ValueError("no such model")
    return partial(work, version)


def work(version: str, upload: Upload, tell: Tell) -> None:
    """Do what the file says, such as sleep 2; its verdict names the version of the model."""
    content = upload.path.read_bytes()
    found = re.search(rb"<(.*)>", content)
    does, _, more = (found[1].decode() if found else "").partition(" ")
    if does == "crash":
        ctypes.string_at(0)
    if does == "raise":
        raise ValueError("a fault of ours")
    if does == "say-pid":
        Path(more).write_text(str(os.getpid()))
        time.sleep(60)
    if does in ("sleep", "hang"):
        end = time.monotonic() + float(more or 60)
        while time.monotonic() < end:
            tell(0.5)
            time.sleep(0.02)
    upload.out.mkdir()
    (upload.out / REPORT).write_text("<!doctype html><title>Report</title><p>as told")
    if not content.startswith(PNG):
        (upload.out / OVERLAY).write_bytes(bytes(range(256)))
    verdict = Verdict(
        file=upload.name,
        path=upload.name,
        sha256="",
        bytes=len(content),
        status="unreadable" if does == "spoilt" else "judged",
        answer=Answer.UNKNOWN if does == "spoilt" else Answer.NOTHING,
        sentence="Nothing found in 1 face.",
        reasons=[],
        score=0.1,
        media=None,
        tracks=[],
        model=About(name=version, reference="", digest="", network="", decision="", data="", originals=None, limits=[]),
        software=Software(emd="", commit="", torch=""),
        judged_at="",
    )
    (upload.out / VERDICT).write_text(verdict.model_dump_json())


class Alias:
    """The model that a file names; while there is no file, the registry is away."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self) -> Any:
        from components.service.model import Model

        version = self._path.read_text()
        return Model(version, partial(make, version), {"name": version})


if __name__ == "__main__":
    from components.service.server import run
    from components.service.settings import Serve

    given, alias, work_folder = sys.argv[1:]
    run(Serve(**json.loads(given)), Alias(Path(alias)), Path(work_folder))
