"""`/v1/verdicts`: a file comes, its verdict, report and overlay go."""

import asyncio
import hmac
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from pydantic import Field

from components.service.jobs import OVERLAY, REPORT, STOPPING, VERDICT, Job, Status, Upload
from components.service.kinds import KNOWN
from components.service.receiving import name_of, receive
from components.service.refusals import Refused
from components.service.service import Service
from emd_core.config import Config
from emd_core.verdicts.verdict import Verdict

REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src 'self' data:"


class Links(Config):
    self: str
    report: str | None = Field(description="A page that shows why; null until it is there.")
    overlay: str | None = Field(description="The video with what was found drawn into it; null where there is none.")


class State(Config):
    """What became of a file. The HTTP status speaks of the request alone."""

    id: str
    status: Status
    progress: float = Field(ge=0, le=1, description="Share of the work that is done.")
    reason: str = Field(description="Why it failed: it crashed, took too long or too much memory; else empty.")
    verdict: Verdict | None = Field(description="Null until it is done. Status unreadable: it could not be decoded.")
    links: Links


class Problem(Config):
    detail: str = Field(description="One sentence.")


def _said(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Problem, "description": PROBLEMS[status]} for status in statuses}


PROBLEMS = {
    400: "The body is empty, or ended before its end.",
    401: "The token is missing or wrong.",
    404: "There is no such verdict (any more), or it has no such part.",
    408: "The upload stood still, or took too long.",
    413: "The file is too large.",
    415: f"The file is none that can be judged; it must be {KNOWN}.",
    503: "Too many files wait, or the service is stopping; Retry-After says when to try again.",
}
BODY = {"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"format": "binary"}}}}}


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def require_token(request: Request) -> None:
    """Where a token is set, a client must know it."""
    token = _service(request).token
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if token and not (scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())):
        said = "The token is wrong" if given else "A token is asked for"
        raise Refused(401, f"{said}; send the header Authorization: Bearer TOKEN.", WWW_Authenticate="Bearer")


def _job(request: Request, id: str) -> Job:
    job = _service(request).jobs.get(id)
    if job is None:
        raise Refused(404, "There is no such verdict, or it was deleted after its time; send the file again.")
    return job


Given = Annotated[Job, Depends(_job)]
router = APIRouter(prefix="/v1/verdicts", tags=["verdicts"], dependencies=[Depends(require_token)])


@router.post(
    "",
    responses=_said(400, 401, 408, 413, 415, 503)
    | {202: {"model": State, "description": "A video: it waits, or is worked on. Ask at Location."}},
    openapi_extra=BODY,
)
async def judge(
    request: Request,
    response: Response,
    service: Annotated[Service, Depends(_service)],
    name: Annotated[str, Query(description="What to call the file in its verdict and report.")] = "",
) -> State:
    """Judge a file, whose bytes are the body. A picture is answered when it is judged, a video at once, with 202.

    What cannot be decoded is no error of the request: its verdict has the status unreadable.
    """
    job = await _received(request, service, name)
    if job.picture:
        await asyncio.wrap_future(job.ended)
        if job.handed_back:
            raise Refused(503, STOPPING, Retry_After="5")
    else:
        response.status_code = 202
    state = await run_in_threadpool(_state, job)
    response.headers["Location"] = state.links.self
    return state


async def _received(request: Request, service: Service, name: str) -> Job:
    if service.stopping:
        raise Refused(503, STOPPING, Retry_After="5")
    job = service.jobs.reserve()
    if job is None:
        raise Refused(503, f"{service.cfg.max_waiting} files wait already; try again later.", Retry_After="10")
    try:
        file, kind, size = await receive(request, job.folder, service.cfg, lambda: service.stopping)
        job.picture, job.upload = kind.picture, Upload(file, name_of(name), job.folder / "result")
        service.metrics.uploaded.inc(size)
        if not service.jobs.submit(job):
            raise Refused(503, STOPPING, Retry_After="5")
    except BaseException:
        service.jobs.give_up(job)
        raise
    return job


@router.get("/{id}", responses=_said(401, 404))
def state(job: Given) -> State:
    """How far it is, and the verdict when it is done."""
    return _state(job)


@router.delete("/{id}", status_code=204, responses=_said(401, 404))
def remove(job: Given, service: Annotated[Service, Depends(_service)]) -> None:
    """Delete all that is known of a file; one that is worked on is deleted as soon as that ended."""
    service.jobs.remove(job)


@router.get("/{id}/report", response_class=FileResponse, responses=_said(401, 404))
def report(job: Given) -> FileResponse:
    """A page, alone in one file."""
    headers = {"Content-Security-Policy": REPORT_POLICY, "Content-Disposition": "inline"}
    return FileResponse(_part(job, REPORT), media_type="text/html; charset=utf-8", headers=headers)


@router.get("/{id}/overlay.mp4", include_in_schema=False)  # as the report names it
@router.get("/{id}/overlay", response_class=FileResponse, responses=_said(401, 404))
def overlay(job: Given) -> FileResponse:
    """A video; ranges of it may be asked for."""
    return FileResponse(_part(job, OVERLAY), media_type="video/mp4")


def _part(job: Job, name: str) -> str:
    path = job.folder / "result" / name
    if job.status is not Status.DONE or not path.is_file():
        raise Refused(404, f"There is no {name} of this file, or not yet.")
    return str(path)


def _state(job: Job) -> State:
    status, here, result = job.status, f"/v1/verdicts/{job.id}", job.folder / "result"
    verdict, done = None, status is Status.DONE
    if done:
        try:
            verdict = Verdict.model_validate_json((result / VERDICT).read_bytes())
        except FileNotFoundError:
            raise Refused(404, "It was deleted while it was asked for.") from None
    job.read = done or status is Status.FAILED
    links = Links(
        self=here,
        report=f"{here}/report" if done and (result / REPORT).is_file() else None,
        overlay=f"{here}/overlay" if done and (result / OVERLAY).is_file() else None,
    )
    return State(id=job.id, status=status, progress=job.progress, reason=job.reason, verdict=verdict, links=links)
