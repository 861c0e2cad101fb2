"""The workers: threads, each with a process that judges and may die."""

import json
import logging
import threading
import time
from collections.abc import Callable

from components.service.jobs import STOPPING, VERDICT, Job, Jobs, Upload
from components.service.model import Model, Watched
from components.service.settings import Serve
from emd_core.errors import UserError
from emd_core.expendable import Died, Expendable

LOOK_S = 0.2  # between two looks at whether the model changed or the service ends
AGAIN_S = 5.0  # after which a process that could not start is tried again
log = logging.getLogger("emd.serve")
Process = Expendable[Upload, None]


class Workers:
    def __init__(
        self,
        jobs: Jobs,
        watched: Watched,
        cfg: Serve,
        *,
        ended: Callable[[Job, str, float], None],
        died: Callable[[], None],
    ) -> None:
        """ended: told of each file, of its answer and its seconds; died: of each process that died over one."""
        self._jobs, self._watched, self._cfg, self._ended, self._died = jobs, watched, cfg, ended, died
        self._loaded: dict[int, tuple[Model, Process]] = {}  # by number of the worker
        self._renewing = threading.Lock()
        self._unusable: Model | None = None
        self._closed = threading.Event()
        self.refusal: Exception | None = None  # why the very first process could not start
        numbers = range(cfg.workers)
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in numbers]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def ready(self) -> bool:
        return len(self._loaded) == len(self._threads)

    def close(self) -> None:
        """End at once: what is at hand is handed back."""
        self._closed.set()
        for _, process in list(self._loaded.values()):
            process.kill()
        for thread in self._threads:
            thread.join(timeout=10)

    def _run(self, number: int) -> None:
        while not (self._closed.is_set() or self.refusal):
            try:
                process = self._process(number)
            except Exception as error:
                self._fails(number, error)
            else:
                if job := self._jobs.take(process, LOOK_S):
                    self._judge(job, process)
        if number in self._loaded:
            self._loaded[number][1].close()

    def _process(self, number: int) -> Process:
        """The worker's process, started: of the newest model, unless another worker loads that just now."""
        newest = self._watched.model
        if number not in self._loaded:
            return self._load(number, newest)
        model, process = self._loaded[number]
        wanted = newest is not model and newest is not self._unusable
        if wanted and self._renewing.acquire(blocking=False):  # one at a time: both models are in memory
            try:
                fresh = self._load(number, newest)
                process.close()
                return fresh
            except Exception as error:
                self._unusable = newest
                log.error("the model %s cannot be loaded, so %s stays: %s", newest.identity, model.identity, error)
            finally:
                self._renewing.release()
        process.start()  # where it died, another one
        return process

    def _load(self, number: int, model: Model) -> Process:
        process: Process = Expendable(model.make, seconds=self._cfg.seconds_per_file, mebibytes=self._cfg.memory_mb)
        process.start()
        self._loaded[number] = model, process
        return process

    def _fails(self, number: int, error: Exception) -> None:
        if not self._loaded:
            self.refusal = self.refusal or error
            return
        log.error("worker %d has no process, and tries again: %s", number, error)
        self._closed.wait(AGAIN_S)

    def _judge(self, job: Job, process: Process) -> None:
        start, reason, answer = time.monotonic(), "", "failed"
        assert job.upload is not None
        try:
            process(job.upload)
            verdict = json.loads((job.upload.out / VERDICT).read_bytes())
            answer = verdict["answer"] if verdict["status"] == "judged" else verdict["status"]
        except Died as error:
            self._died()
            reason = STOPPING if self._closed.is_set() else f"It could not be judged: {error}."
        except UserError as error:
            reason = str(error)
        except Exception:
            log.exception("a file could not be judged")
            reason = "It could not be judged, by a fault of the service that its log shows."
        self._jobs.end(job, reason)
        self._ended(job, answer, time.monotonic() - start)
