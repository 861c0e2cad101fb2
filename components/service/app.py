"""The HTTP application: routes, headers, what is counted, and the page."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import jinja2
from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from components.service import verdicts
from components.service.refusals import Refused, refuse
from components.service.service import Service

HERE = Path(__file__).parent
SWEEP_S = 1.0  # between two looks for results that are too old
POLICY = "default-src 'none'; frame-ancestors 'none'"
# The page shows reports, which are HTML, in a frame that inherits this: their styles and pictures, and no scripts.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self' 'unsafe-inline'; img-src data:; "
    "media-src blob:; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}


def application(service: Service) -> ASGIApp:
    @asynccontextmanager
    async def sweeping(_: FastAPI) -> AsyncIterator[None]:
        sweeper = asyncio.create_task(_sweep(service))
        yield
        sweeper.cancel()

    app = FastAPI(
        title="EMD",
        version="1",
        summary="Is the expression of a face in a video or a picture manipulated, when and where?",
        docs_url=None,  # they would fetch scripts from elsewhere
        redoc_url=None,
        lifespan=sweeping,
    )
    app.state.service = service
    app.add_exception_handler(Refused, refuse)
    app.include_router(verdicts.router)

    @app.get("/healthz", response_class=PlainTextResponse, tags=["operation"])
    async def healthz() -> str:
        """The process lives."""
        return "ok\n"

    @app.get("/readyz", response_class=PlainTextResponse, tags=["operation"])
    async def readyz() -> Response:
        """200 if the workers have loaded the model; 503 before, and while the service ends."""
        said = "ready" if service.ready else "stopping" if service.stopping else "the model is being loaded"
        return PlainTextResponse(f"{said}\n", 200 if service.ready else 503)

    @app.get("/metrics", response_class=PlainTextResponse, tags=["operation"])
    def metrics() -> Response:
        """For Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(text, headers={"Content-Security-Policy": PAGE_POLICY})

    @app.get("/page.js", include_in_schema=False)
    async def script() -> Response:
        return Response(code, media_type="text/javascript")

    cfg = service.cfg
    template = jinja2.Template((HERE / "page.html.j2").read_text(), autoescape=True, undefined=jinja2.StrictUndefined)
    text = template.render(max_mb=f"{cfg.max_mb:g}", keep_minutes=f"{cfg.keep_minutes:g}")
    code = (HERE / "page.js").read_text()
    return _Outermost(app, service)


async def _sweep(service: Service) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        await asyncio.to_thread(service.jobs.sweep)


class _Outermost:
    """Headers of every answer, and a count of it."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._requests = app, service.metrics.requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                more = HEADERS | {"Content-Security-Policy": POLICY}
                added = [(k.lower().encode(), v.encode()) for k, v in more.items() if k.lower().encode() not in there]
                message["headers"] = [*message["headers"], *added]
                route = getattr(scope.get("route"), "path", "other")
                method = scope["method"] if route != "other" else "other"  # clients must not make new labels
                self._requests.labels(method, route, message["status"]).inc()
            await send(message)

        await self._app(scope, receive, send_on)
