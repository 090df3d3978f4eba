"""A simulator's HTTP server: serves its routes while it is open.

In: an address, the routes, the vendor's words for what HTTP itself refuses. Out: a base URL. It promises that it
serves once `open` returns and that nothing of it is left after `close`, also where callers hang on answers that were
never to come.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web

_BACKLOG = 4096
_SHUTDOWN_SECONDS = 0.25
"""How long answers under way are waited for at the end; those that hang on purpose never come."""


class Serving:
    """One address on which routes are served."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._runner: web.AppRunner | None = None
        self._base_url: str | None = None

    @property
    def base_url(self) -> str:
        """Where it serves, without a slash at the end."""
        if self._base_url is None:
            raise RuntimeError("the simulator does not serve yet; enter it with `async with` first")
        return self._base_url

    async def open(
        self, routes: Iterable[web.RouteDef], unrouted: Callable[[web.Request, int, str], web.Response]
    ) -> None:
        """Serve from now on; `unrouted` words what HTTP itself refuses."""

        @web.middleware
        async def errors_as_the_vendors(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            try:
                return await handler(request)
            except web.HTTPException as error:
                return unrouted(request, error.status, error.reason)

        app = web.Application(middlewares=[errors_as_the_vendors])
        app.add_routes(routes)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        try:
            await self._runner.setup()
            site = web.TCPSite(self._runner, self._host, self._port, backlog=_BACKLOG)
            await site.start()
        except BaseException:
            await self._runner.cleanup()
            raise
        address = self._runner.addresses[0]
        self._base_url = f"http://{_bracketed(address[0])}:{address[1]}"

    async def close(self) -> None:
        """Serve no more."""
        if self._runner is not None:
            await self._runner.cleanup()


def _bracketed(host: str) -> str:
    try:
        socket.inet_pton(socket.AF_INET6, host)
    except OSError:
        return host
    return f"[{host}]"
