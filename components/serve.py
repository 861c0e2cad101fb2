"""Judge files over HTTP: `python -m components serve`."""

from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from components.command_line.options import Changes, ParamsFile
from components.command_line.stages import read_cfg
from components.detect import CHAMPION, Detect
from components.judging.model import Found, find_model, identify, software
from components.judging.work import Job, Overlays, make_work
from components.service.jobs import Upload
from components.service.model import Model
from components.service.server import run
from components.service.settings import Serve
from emd_core.expendable import Work
from emd_core.models.parts.precision import pick_device
from emd_core.verdicts.looking import Looking
from emd_core.verdicts.verdict import Software


def serve(
    model: Annotated[str, typer.Option(help="Folder that train_emd wrote, or a registered model.")] = CHAMPION,
    work: Annotated[
        Path | None, typer.Option(help="Folder for what is uploaded and judged; by default a temporary one.")
    ] = None,
    params: ParamsFile = Path("params.yaml"),
    set: Changes = [],  # noqa: B006 - typer reads it
) -> None:
    """Judge videos and pictures over HTTP, with a page at / (not a stage of the pipeline).

    Reads the sections serve and detect. Where EMD_SERVE_TOKEN is set, clients must send it. SIGTERM or Ctrl-C finishes
    what is worked on; a second one ends it at once.
    """
    cfg = read_cfg("serve", Serve, params, "", set)
    judging = read_cfg("detect", Detect, params, "", set)
    if pick_device().type != "cpu":
        cfg = cfg.model_copy(update={"memory_mb": None})  # CUDA reserves addresses by the terabyte
    run(cfg, Current(model, judging), work)


class Current:
    """The model that a reference names now, fetched once."""

    def __init__(self, reference: str, judging: Detect) -> None:
        self._reference, self._overlays, self._software = reference, judging.overlays, software()
        self._looking = Looking(**{name: getattr(judging, name) for name in Looking.model_fields})
        self._model: Model | None = None
        self._fetched: deque[TemporaryDirectory[str]] = deque(maxlen=3)  # those before may still be loaded

    def __call__(self) -> Model:
        identity = identify(self._reference)
        if self._model is None or identity != self._model.identity:
            folder = TemporaryDirectory()
            found = find_model(self._reference, Path(folder.name))
            self._fetched.append(folder)
            about = found.about.model_dump(include={"name", "reference", "digest", "network"})
            given = partial(make, found, self._looking, self._software, self._overlays)
            self._model = Model(identity, given, about)
        return self._model


def make(found: Found, looking: Looking, software: Software, overlays: Overlays) -> Work[Upload, None]:
    judge = make_work(found, looking, software, overlays)

    def work(upload: Upload, progress: Callable[[float], None]) -> None:
        judge(Job(*upload), progress)

    return work
