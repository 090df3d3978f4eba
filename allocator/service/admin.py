"""The admin address: the metrics as text, whether this process lives and is ready, the console.

In: a registry, two questions that are answered from memory, a console. Out: `GET /metrics`, `/livez`, `/readyz`, the
console's paths, and a page that names them all for who takes no HTML; what is told from outside by a POST to a path
that nobody can guess goes to who waits for it (`Hooks`). It promises that no answer waits for Redis or a provider, that
a scrape gives the event loop a turn every millisecond or so, and what a `Door` does. It serves while it is entered. Who
may see the console is its own to say; who may reach the rest is left to the network: by default it is loopback's alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from aiohttp import web
from prometheus_client import CollectorRegistry

from allocator.service.console.pages import Console, takes_html
from allocator.service.door import Door
from allocator.telemetry.exposition import content_type, in_turns

HOOK_BYTES_MAX = 64 * 1024
"""Of what is told from outside: a status of a deployment is a twentieth of it."""

CONNECTIONS_MAX = 64
"""Kept open at once. Who opens them and says nothing must not use up the open files that calls to providers need."""

_PAGE = """\
allocator, admin address

/metrics  Prometheus metrics
/livez    200 while the event loop and the take-up loop move
/readyz   200 while requests can be taken up
"""
_CONSOLE_LINES = """
/              the console, in a browser
/console.json  what it shows
"""

Ask = Callable[[], str | None]
"""None where all is well, else why not, in one line."""

Hooks = Mapping[str, Callable[[bytes], None]]
"""Who hears what is posted, by the path: `/hooks/` and what nobody can guess. Looked into at every post."""


class AdminServer:
    """The admin address of one process."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        registry: CollectorRegistry,
        ready: Ask,
        alive: Ask,
        hooks: Hooks | None = None,
        console: Console | None = None,
    ) -> None:
        """Port 0 takes any free one; `port` says which once it serves. The console is closed with it."""
        self._registry = registry
        self._ready = ready
        self._alive = alive
        self._hooks = {} if hooks is None else hooks
        self._console = console
        self._door = Door(self._app(), host, port, table="admin", connections_max=CONNECTIONS_MAX)

    @property
    def port(self) -> int:
        """The port that it serves on."""
        return self._door.port

    @property
    def url(self) -> str:
        """Where it serves, for who asks from this machine."""
        return self._door.url

    async def __aenter__(self) -> Self:
        """Serve. Raises AddressError."""
        await self._door.__aenter__()
        if self._console is not None:
            self._console.listen_on(self._door.addresses)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console is not None:
            await self._console.aclose()
        await self._door.__aexit__(kind, error, trace)

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=HOOK_BYTES_MAX)
        app.router.add_post("/hooks/{secret}", self._hook)
        app.router.add_get("/", self._page)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        if self._console is not None:
            app.router.add_routes(self._console.routes())
        return app

    async def _page(self, request: web.Request) -> web.Response:
        if self._console is None:
            return web.Response(text=_PAGE)
        if takes_html(request):
            return await self._console.page(request)
        return web.Response(text=f"{_PAGE}{_CONSOLE_LINES}", headers={"Vary": "Accept"})

    async def _livez(self, request: web.Request) -> web.Response:
        del request
        return _answer(self._alive(), "alive")

    async def _readyz(self, request: web.Request) -> web.Response:
        del request
        return _answer(self._ready(), "ready")

    async def _hook(self, request: web.Request) -> web.Response:
        """Answer at once: a host that waits too long tells nothing more."""
        hears = self._hooks.get(request.path)
        if hears is None:
            raise web.HTTPNotFound
        try:
            told = await request.read()
        except (ConnectionError, web.RequestPayloadError):
            return web.Response(status=400, text="the body did not come whole\n")
        hears(told)
        return web.Response()

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        """Write the text as it is made: of many regions it is megabytes, and to send those at once takes a while."""
        content = content_type(",".join(request.headers.getall("Accept", ())))
        response = web.StreamResponse(headers={"Content-Type": content})
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        with contextlib.suppress(ConnectionError):  # who asked has hung up: nobody's fault here
            async for text in in_turns(self._registry, content):
                await response.write(text.encode())
            await response.write_eof()
        return response


def _answer(why_not: str | None, well: str) -> web.Response:
    if why_not is None:
        return web.Response(text=f"{well}\n")
    return web.Response(status=503, text=f"{' '.join(why_not.split())}\n")
