"""One file judged in a process that may die: its verdict, report and overlay in a folder of its own."""

import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from components.judging.model import Found
from emd_core.errors import UserError
from emd_core.expendable import Expendable
from emd_core.pages.overlay_video import write_overlay
from emd_core.pages.verdict import write_report
from emd_core.storage.atomic import atomic_dir
from emd_core.verdicts.judge import Judge, Judgement, unreadable
from emd_core.verdicts.looking import Looking
from emd_core.verdicts.verdict import Answer, Model, Software, Verdict
from emd_core.video.decode import BrokenVideo

VERDICT, REPORT, OVERLAY = "verdict.json", "report.html", "overlay.mp4"
Overlays = Literal["all", "manipulated", "none"]


class Job(NamedTuple):
    """A file to judge; paths are absolute."""

    path: Path
    name: str  # by which the verdict names it
    out: Path  # folder to write


def in_process(
    found: Found, looking: Looking, software: Software, overlays: Overlays, *, seconds: float, mebibytes: int | None
) -> Expendable[Job, Verdict]:
    """A process that judges files with a model, not yet started."""
    make = partial(make_work, found, looking, software, overlays)
    return Expendable(make, seconds=seconds, mebibytes=mebibytes)


def make_work(
    found: Found, looking: Looking, software: Software, overlays: Overlays
) -> Callable[[Job, Callable[[float], None]], Verdict]:
    judge = Judge(found.checkpoint, looking, found.about, software, precision=found.precision, faces=found.faces)
    return partial(judge_file, judge, overlays)


def judge_file(judge: Judge, overlays: Overlays, job: Job, progress: Callable[[float], None]) -> Verdict:
    """Judge a file and write its folder, whole or not at all."""
    try:
        judgement = judge(job.path, job.name, progress)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # a file that nobody thought of must not end the work on the others
        traceback.print_exc()
        reason = f"a fault of this program, {type(error).__name__}: {error}"
        judgement = Judgement(unreadable(job.path, job.name, judge.model, judge.software, reason), [])
    verdict = judgement.verdict
    wanted = overlays == "all" or (overlays == "manipulated" and verdict.answer is Answer.MANIPULATED)
    with atomic_dir(job.out) as work:
        overlay = None
        if wanted and verdict.media and verdict.media.kind == "video":
            try:
                write_overlay(work / OVERLAY, job.path, judgement)
                overlay = OVERLAY
            except BrokenVideo:  # behind the last frame that was looked at; the verdict stands without it
                (work / OVERLAY).unlink(missing_ok=True)
        write_report(work / REPORT, judgement, overlay)
        (work / VERDICT).write_text(verdict.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return verdict


def keep_dead(job: Job, model: Model, about: Software, reason: str) -> None:
    """The folder of a file over which its process died."""
    judgement = Judgement(unreadable(job.path, job.name, model, about, reason), [])
    with atomic_dir(job.out) as work:
        write_report(work / REPORT, judgement, None)
        (work / VERDICT).write_text(judgement.verdict.model_dump_json(indent=1) + "\n", encoding="utf-8")
