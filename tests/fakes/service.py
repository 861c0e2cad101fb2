"""A service as a process of its own, whose work does what the uploaded bytes say: `python -m tests.fakes.service`."""

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import requests

from components.service.jobs import OVERLAY, REPORT, VERDICT, Upload
from components.service.model import Model
from components.service.server import run
from components.service.settings import Serve
from emd_core.verdicts.verdict import Answer, Software, Verdict
from emd_core.verdicts.verdict import Model as About
from tests.house.contract import ROOT

PNG, MP4 = b"\x89PNG\r\n\x1a\n", b"\x00\x00\x00\x18ftypmp42"
CFG = Serve(
    host="127.0.0.1",
    port=0,
    workers=2,
    max_waiting=8,
    max_mb=0.2,
    upload_s=2.5,
    stall_s=0.8,
    seconds_per_file=20,
    memory_mb=512,
    keep_minutes=5,
    max_results=50,
    grace_s=10,
    reload_s=0.3,
)
Tell = Callable[[float], None]


def picture(does: str = "") -> bytes:
    return PNG + f"<{does}>".encode()


def video(does: str = "") -> bytes:
    return MP4 + f"<{does}>".encode()


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
        model=About(
            name=version, reference="", digest="", network="", decision="", trained_on="", originals=None, limits=[]
        ),
        software=Software(emd="", commit="", torch=""),
        judged_at="",
    )
    (upload.out / VERDICT).write_text(verdict.model_dump_json())


class Alias:
    """The model that a file names; while there is no file, the registry is away."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self) -> Model:
        version = self._path.read_text()
        return Model(version, partial(make, version), {"name": version})


class Running:
    """A client of a service that runs, and its process."""

    def __init__(self, process: subprocess.Popen[str], url: str, work: Path, alias: Path, log: Path) -> None:
        self.process, self.url, self.work, self.alias, self.log = process, url, work, alias, log
        self.session = requests.Session()

    def post(self, content: Any, **query: str) -> requests.Response:
        return self.session.post(f"{self.url}/v1/verdicts", params=query, data=content, timeout=60)

    def get(self, path: str, **given: Any) -> requests.Response:
        return self.session.get(self.url + path, timeout=60, **given)

    def state(self, identity: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/v1/verdicts/{identity}").json()
        return found

    def until(self, identity: str, *statuses: str, seconds: float = 20) -> dict[str, Any]:
        """The state once it is one of these."""
        return wait_for(lambda: (s := self.state(identity))["status"] in statuses and s, seconds)

    def started(self, does: str = "hang") -> str:
        """The id of a video that is being worked on."""
        identity: str = self.post(video(does)).json()["id"]
        self.until(identity, "working")
        return identity

    def metric(self, line: str) -> float:
        found = re.search(rf"^{re.escape(line)} (.*)$", self.get("/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def files(self) -> list[str]:
        """What lies in the service's folder."""
        (folder,) = self.work.glob("service-*")
        return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != "in-use")


def wait_for(condition: Callable[[], Any], seconds: float = 20) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)
    return found


@contextmanager
def running(folder: Path, ready: bool = True, env: dict[str, str] | None = None, **changes: Any) -> Iterator[Running]:
    """A service with CFG and what differs from it, below `folder`."""
    folder.mkdir(exist_ok=True)
    alias, log, work = folder / "alias", folder / "log", folder / "work"
    if not alias.exists():
        alias.write_text("first")
    cfg = CFG.model_copy(update=changes).model_dump_json()
    command = [sys.executable, "-m", "tests.fakes.service", cfg, str(alias), str(work)]
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, stderr=output, env=os.environ | (env or {}), text=True)
    try:

        def url() -> str | None:
            assert process.poll() is None, log.read_text()
            found = re.search(r"listening on (\S+)", log.read_text())
            return found[1] if found else None

        client = Running(process, wait_for(url), work, alias, log)
        if ready:
            wait_for(lambda: client.get("/readyz").status_code == 200)
        yield client
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    given, alias, work_folder = sys.argv[1:]
    run(Serve(**json.loads(given)), Alias(Path(alias)), Path(work_folder))
