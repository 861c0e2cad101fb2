"""A client of a service that runs, in a process of its own, on work that is told what to do."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from components.service.settings import Serve
from tests.fakes.service_work import MP4, PNG
from tests.house.contract import ROOT

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


def picture(does: str = "") -> bytes:
    return PNG + f"<{does}>".encode()


def video(does: str = "") -> bytes:
    return MP4 + f"<{does}>".encode()


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
def running(
    folder: Path, ready: bool = True, env: dict[str, str] | None = None, model: Path | None = None, **changes: Any
) -> Iterator[Running]:
    """A service with CFG and what differs from it, below `folder`; with a real model where its folder is given."""
    folder.mkdir(exist_ok=True)
    alias, log, work = folder / "alias", folder / "log", folder / "work"
    if not alias.exists():
        alias.write_text("first")
    cfg = CFG.model_copy(update=changes).model_dump_json()
    command = [sys.executable, "-m", "tests.fakes.service_work", cfg, str(alias), str(work)]
    if model:
        command = [sys.executable, "-m", "components", "serve", f"--model={model}", f"--work={work}"]
        command += [f"--set=serve.{name}={value}" for name, value in ({"port": 0} | changes).items()]
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, stderr=output, env=os.environ | (env or {}), text=True)
    try:

        def url() -> str | None:
            assert process.poll() is None, log.read_text()
            found = re.search(r"listening on (\S+)", log.read_text())
            return found[1] if found else None

        client = Running(process, wait_for(url, 60), work, alias, log)
        if ready:
            wait_for(lambda: client.get("/readyz").status_code == 200, 90)
        yield client
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
