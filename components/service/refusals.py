"""A request that is refused: a status and one sentence."""

import asyncio
from contextlib import suppress

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

LINGER_S = 20.0  # that a client may go on sending after it was refused, or it would not read why


class Refused(Exception):
    def __init__(self, status: int, detail: str, **headers: str) -> None:
        """headers: with _ for -."""
        self.status, self.detail = status, detail
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        super().__init__(detail)


class LastWord(JSONResponse):
    """An answer after which the connection ends, but not before the client had time to read it.

    Closed while bytes arrive, a connection is reset, and most clients then tell of that and not of the answer.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers["Connection"] = "close"
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while (await receive()).get("more_body"):
                    pass
        await send({"type": "http.response.body", "body": b""})


async def refuse(request: Request, error: Exception) -> Response:
    """The answer to a Refused. What is left of a body is read for a while, and thrown away."""
    assert isinstance(error, Refused)
    whole = request.method != "POST" or getattr(request.state, "whole", False)
    answer = JSONResponse if whole else LastWord
    return answer({"detail": error.detail}, error.status, error.headers)
