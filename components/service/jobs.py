"""The files that are uploaded, waiting, worked on and judged. Used by the web server's threads and the workers'."""

import secrets
import shutil
import threading
import time
from collections import OrderedDict, deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol

STOPPING = "The service is stopping; send the file again."
VERDICT, REPORT, OVERLAY = "verdict.json", "report.html", "overlay.mp4"


class Upload(NamedTuple):
    """What a worker's process gets."""

    path: Path
    name: str  # as the client calls it; never a path
    out: Path  # folder to write VERDICT to, and REPORT and OVERLAY if there are such


class Status(StrEnum):
    WAITING = "waiting"
    WORKING = "working"
    DONE = "done"
    FAILED = "failed"


class AtWork(Protocol):
    @property
    def progress(self) -> float: ...


@dataclass(eq=False)
class Job:
    id: str
    folder: Path
    picture: bool = False
    upload: Upload | None = None  # None once it is judged
    status: Status = Status.WAITING
    reason: str = ""
    handed_back: bool = False  # failed as the service is stopping, before anyone looked at it
    process: AtWork | None = None
    ended: Future[None] = field(default_factory=Future)
    ended_at: float = 0.0
    read: bool = False  # its client knows how it ended

    @property
    def progress(self) -> float:
        if self.status is Status.DONE:
            return 1.0
        return self.process.progress if self.process else 0.0


class Jobs:
    """Bounded everywhere: so many wait, so many results are kept, for so long."""

    def __init__(self, folder: Path, *, max_waiting: int, max_results: int, keep_s: float) -> None:
        self._folder, self._max_waiting, self._max_results, self._keep_s = folder, max_waiting, max_results, keep_s
        self._known: dict[str, Job] = {}
        self._receiving: set[Job] = set()
        self._waiting: deque[Job] = deque()
        self._working: set[Job] = set()
        self._ended: OrderedDict[str, Job] = OrderedDict()  # the oldest first
        self._changed = threading.Condition()
        self._closed = False

    def reserve(self) -> Job | None:
        """A place for an upload; None where all are taken. It must be submitted or given up."""
        with self._changed:
            if self._closed or len(self._receiving) + len(self._waiting) >= self._max_waiting:
                return None
            identity = secrets.token_urlsafe(24)
            job = Job(identity, self._folder / identity)
            self._receiving.add(job)
        job.folder.mkdir()
        return job

    def give_up(self, job: Job) -> None:
        with self._changed:
            self._receiving.discard(job)
        shutil.rmtree(job.folder, ignore_errors=True)

    def submit(self, job: Job) -> bool:
        """False where nothing more is taken."""
        with self._changed:
            if self._closed:
                return False
            self._receiving.discard(job)
            self._known[job.id] = job
            self._waiting.append(job)
            self._changed.notify()
        return True

    def take(self, process: AtWork, seconds: float) -> Job | None:
        """The one that waits longest, now worked on by `process`; None if there is none within `seconds`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting, seconds):
                return None
            job = self._waiting.popleft()
            job.status, job.process = Status.WORKING, process
            self._working.add(job)
            return job

    def end(self, job: Job, reason: str = "") -> None:
        """It was judged, or failed for a reason. What was uploaded is deleted."""
        if job.upload:
            job.upload.path.unlink(missing_ok=True)
        with self._changed:
            self._working.discard(job)
            self._end(job, reason)

    def _end(self, job: Job, reason: str) -> None:
        job.status, job.reason = (Status.FAILED if reason else Status.DONE), reason
        job.ended_at, job.process, job.upload = time.monotonic(), None, None
        removed = self._known.get(job.id) is not job
        if not removed:
            self._ended[job.id] = job
        job.ended.set_result(None)
        if removed:
            shutil.rmtree(job.folder, ignore_errors=True)

    def get(self, identity: str) -> Job | None:
        with self._changed:
            return self._known.get(identity)

    def remove(self, job: Job) -> None:
        """Nobody can ask for it any more. Its files go at once, or when its worker has done with them."""
        with self._changed:
            self._known.pop(job.id, None)
            self._ended.pop(job.id, None)
            if job in self._waiting:
                self._waiting.remove(job)
                self._end(job, "It was deleted.")
            working = job in self._working
        if not working:
            shutil.rmtree(job.folder, ignore_errors=True)

    def sweep(self) -> None:
        """Remove the results that are too old or too many."""
        with self._changed:
            limit = time.monotonic() - self._keep_s
            surplus = len(self._ended) - self._max_results
            old = [job for n, job in enumerate(self._ended.values()) if n < surplus or job.ended_at < limit]
        for job in old:
            self.remove(job)

    def hand_back(self) -> None:
        """Take nothing more, and fail what waits."""
        with self._changed:
            self._closed = True
            waiting, self._waiting = self._waiting, deque()
            for job in waiting:
                job.handed_back = True
                self._end(job, STOPPING)

    @property
    def counts(self) -> dict[str, int]:
        with self._changed:
            groups = {"receiving": self._receiving, "waiting": self._waiting, "working": self._working}
            return {name: len(group) for name, group in groups.items()} | {"kept": len(self._ended)}

    @property
    def unread(self) -> bool:
        """Whether a client does not know yet how its file ended."""
        with self._changed:
            return any(not job.read for job in self._ended.values())
