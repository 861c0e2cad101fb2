"""Runs a service until SIGTERM or Ctrl-C, and ends it without losing what is worked on."""

import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn

from components.service.app import application
from components.service.folder import private_folder
from components.service.model import Model
from components.service.service import Service
from components.service.settings import Serve
from emd_core.errors import UserError

log = logging.getLogger("emd.serve")
TOKEN = "EMD_SERVE_TOKEN"  # environment variable
CLOSING_S = 5  # that connections get for their last answers


def run(cfg: Serve, current: Callable[[], Model], work: Path | None = None) -> None:
    """Serve until a signal. A second one ends it at once.

    current: says which model is in use, now and every cfg.reload_s; work: see `private_folder`.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    token = os.environ.get(TOKEN, "").strip()
    if not (token.isascii() and token.isprintable()):
        raise UserError(f"{TOKEN} holds characters that no header can carry; use letters and digits.")
    listening = _listen(cfg)
    with private_folder(work) as folder:
        service = Service(cfg, current, folder, token)
        try:
            server = _Server(service)
            log.info("listening on http://%s:%d", *listening.getsockname()[:2])
            server.run(sockets=[listening])
        finally:
            service.close()
    if service.workers.refusal:
        raise service.workers.refusal


def _listen(cfg: Serve) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in cfg.host else socket.AF_INET
        return socket.create_server((cfg.host, cfg.port), family=family, backlog=2048)
    except OSError as error:
        raise UserError(
            f"{cfg.host}:{cfg.port} cannot be listened on ({error.strerror}); choose another one, such as "
            f"--set serve.port={cfg.port + 1}."
        ) from None


class _Server(uvicorn.Server):
    """uvicorn stops listening at once; this one goes on answering while files are at hand."""

    def __init__(self, service: Service) -> None:
        app = application(service)
        super().__init__(
            uvicorn.Config(
                app,
                access_log=False,  # ids are secrets
                log_level="warning",
                server_header=False,
                timeout_graceful_shutdown=CLOSING_S,
            )
        )
        self._service, self._asked = service, 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._asked += 1  # no more, as this may run in the middle of anything

    async def on_tick(self, counter: int) -> bool:
        service = self._service
        if self._asked and not service.stopping:
            log.info("stopping; once more, and it ends at once")
            service.stop()
        if service.workers.refusal or self._asked > 1 or (service.stopping and service.over()):
            self.should_exit = True
            self.force_exit = self._asked > 1
        return await super().on_tick(counter)
