"""A service: its folder, jobs, workers, model and figures, and how it ends."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from components.service.jobs import Job, Jobs
from components.service.metrics import Metrics
from components.service.model import Model, Watched
from components.service.settings import Serve
from components.service.workers import Workers

READING_S = 5.0  # that clients get to read how their files ended, once the work is over
log = logging.getLogger("emd.serve")


class Service:
    def __init__(self, cfg: Serve, current: Callable[[], Model], folder: Path, token: str) -> None:
        """current: asked now and every cfg.reload_s for the model; what it raises now is raised. token: empty: none."""
        self.cfg, self.token = cfg, token
        keep_s = cfg.keep_minutes * 60
        self.jobs = Jobs(folder, max_waiting=cfg.max_waiting, max_results=cfg.max_results, keep_s=keep_s)
        self.watched = Watched(current, cfg.reload_s)
        self.metrics = Metrics(lambda: self.jobs.counts, lambda: self.watched.model.about)
        self.workers = Workers(self.jobs, self.watched, cfg, ended=self._ended, died=self.metrics.died.inc)
        self.workers.start()
        self._stopped_at: float | None = None
        self._idle_at: float | None = None

    @property
    def stopping(self) -> bool:
        return self._stopped_at is not None

    @property
    def ready(self) -> bool:
        return self.workers.ready and not self.stopping

    def stop(self) -> None:
        """Take nothing more, hand back what waits, and finish what is worked on."""
        self._stopped_at = time.monotonic()
        self.metrics.stopping.set(1)
        self.jobs.hand_back()

    def over(self) -> bool:
        """Whether a service that is stopping may end. To be asked again and again, as it also ends the grace."""
        now = time.monotonic()
        assert self._stopped_at is not None
        if self.jobs.counts["working"]:
            if now - self._stopped_at > self.cfg.grace_s:
                self.workers.close()
            return False
        self._idle_at = self._idle_at or now
        return not self.jobs.unread or now - self._idle_at > READING_S

    def close(self) -> None:
        self.watched.close()
        self.workers.close()

    def _ended(self, job: Job, answer: str, seconds: float) -> None:
        kind = "picture" if job.picture else "video"
        self.metrics.verdicts.labels(kind, answer).inc()
        self.metrics.seconds.labels(kind).observe(seconds)
        log.info("a %s in %.2f s: %s", kind, seconds, answer)
