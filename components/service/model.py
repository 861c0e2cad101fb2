"""The model in use, which changes when its alias moves."""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple

from components.service.jobs import Upload
from emd_core.expendable import Work

log = logging.getLogger("emd.serve")


class Model(NamedTuple):
    identity: str  # another identity, another model
    make: Callable[[], Work[Upload, None]]  # called in each worker's process, so it is sent there
    about: Mapping[str, str]  # what /metrics says of it


class Watched:
    """Where the alias points is asked again and again; while nobody answers, the model stays."""

    def __init__(self, current: Callable[[], Model], seconds: float) -> None:
        self._current, self._seconds = current, seconds
        self.model = current()
        self._closed = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def close(self) -> None:
        self._closed.set()

    def _watch(self) -> None:
        away = False
        while not self._closed.wait(self._seconds):
            try:
                found = self._current()
            except Exception as error:
                if not away:
                    log.warning("the registry does not answer, so %s stays: %s", self.model.identity, error)
                away = True
                continue
            away = False
            if found.identity != self.model.identity:
                log.info("the model changes from %s to %s", self.model.identity, found.identity)
                self.model = found
