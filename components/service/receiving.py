"""An upload: the bytes of a request's body, written to the disk as they come, within limits."""

import asyncio
import unicodedata
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
from fastapi import Request

from components.service.jobs import STOPPING
from components.service.kinds import FIRST, KNOWN, Kind, kind_of
from components.service.refusals import Refused
from components.service.settings import Serve

LONGEST_NAME = 200
RAW = "send the bytes of the file as the body, such as with curl --data-binary @file"


def name_of(given: str) -> str:
    """What a client calls its file, fit for a page: without folders, and without characters that cannot be seen."""
    last = given.replace("\\", "/").rsplit("/", 1)[-1]
    seen = "".join(c for c in last if not unicodedata.category(c).startswith("C"))  # NUL, line ends, writing direction
    return seen.strip()[:LONGEST_NAME] or "upload"


async def receive(request: Request, folder: Path, cfg: Serve, stopping: Callable[[], bool]) -> tuple[Path, Kind, int]:
    """Write the body to `folder`; the file, what it is, and its bytes. Raises Refused."""
    limit = int(cfg.max_mb * 1e6)
    too_large = Refused(413, f"The file is larger than {cfg.max_mb:g} MB, the most that is taken here.")
    if int(request.headers.get("content-length", 0)) > limit:
        raise too_large
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refused(415, f"The body has a content encoding; {RAW}.")
    first, size = bytearray(), 0
    partial = folder / "partial"
    try:
        async with asyncio.timeout(cfg.upload_s), await anyio.open_file(partial, "wb") as file:
            async for chunk in _chunks(request, cfg.stall_s):
                if stopping():
                    raise Refused(503, STOPPING, Retry_After="5")
                size += len(chunk)
                if size > limit:
                    raise too_large
                if len(first) < FIRST:
                    first += chunk[:FIRST]
                    if len(first) >= FIRST:
                        _require_kind(bytes(first), request)
                await file.write(chunk)
    except TimeoutError:
        raise Refused(408, f"The upload took longer than {cfg.upload_s:g} s; send it again.") from None
    if not size:
        raise Refused(400, f"The body is empty; {RAW}.")
    kind = _require_kind(bytes(first), request)
    return partial.rename(folder / f"upload{kind.suffix}"), kind, size


def _require_kind(first: bytes, request: Request) -> Kind:
    if kind := kind_of(first[:FIRST]):
        return kind
    if "form" in request.headers.get("content-type", "") and first.startswith(b"--"):
        raise Refused(415, f"The body is a form; {RAW}.")
    raise Refused(415, f"The file is none that can be judged; it must be {KNOWN}.")


async def _chunks(request: Request, stall_s: float) -> AsyncIterator[bytes]:
    more = True
    while more:
        try:
            async with asyncio.timeout(stall_s):
                message = await request.receive()
        except TimeoutError:
            raise Refused(408, f"The upload stood still for {stall_s:g} s; send it again.") from None
        if message["type"] == "http.disconnect":
            raise Refused(400, "The upload ended before its end; send it again.")
        more = message.get("more_body", False)
        request.state.whole = not more
        yield message["body"]
