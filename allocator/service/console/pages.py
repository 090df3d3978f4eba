"""The console's answers: the page, what it is made of, and what it shows.

In: requests to the admin address. Out: `GET /` for who takes HTML, `/console.css`, `/console.js`, and `/console.json`,
which is the reader's. Promises: no answer waits for Redis; nothing can be changed; nothing but these three files is
loaded or asked, no other site may frame the page or read what it shows, and nothing of it is kept.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from importlib import resources

from aiohttp import hdrs, web

from allocator.providers.credential import Credential
from allocator.service.console.access import Access
from allocator.service.console.reader import Looks, Reader
from allocator.service.live_credential import credential_of, report
from allocator.service.look import open_looker
from allocator.service.settings import Settings
from allocator.telemetry.structured import structlog

_FILES = (("console.css", "text/css"), ("console.js", "text/javascript"))
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: dict[str, str] = {
    hdrs.CACHE_CONTROL: "no-store",
    hdrs.VARY: "Accept",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_ASKING: dict[str, str] = {hdrs.WWW_AUTHENTICATE: 'Basic realm="allocator", charset="UTF-8"'}
"""So that a browser asks for the token, as a password."""

_log = structlog.get_logger("allocator")


class Console:
    """The console of one admin address; it reads while somebody looks, until closed."""

    def __init__(self, reader: Reader, access: Access) -> None:
        self._reader = reader
        self._access = access
        self._page = _packaged("console.html")

    def listen_on(self, addresses: Sequence[str]) -> None:
        """Learn where it is served, from which follows who may see it."""
        self._access.listen_on(addresses)

    def routes(self) -> list[web.RouteDef]:
        """Its paths beside `/`."""
        files = [web.get(f"/{name}", self._file(name, kind)) for name, kind in _FILES]
        return [web.get("/console.json", self._json), *files]

    async def page(self, request: web.Request) -> web.Response:
        """The page itself."""
        if (refused := self._refused(request)) is not None:
            return refused
        self._reader.ask()  # by the time that it asks there is something to show
        return _answer(self._page, "text/html")

    async def aclose(self) -> None:
        """Read no more."""
        await self._reader.aclose()

    async def _json(self, request: web.Request) -> web.Response:
        return self._refused(request) or _answer(self._reader.ask().encode(), "application/json")

    def _file(self, name: str, kind: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        body = _packaged(name)

        async def answer(request: web.Request) -> web.Response:
            return self._refused(request) or _answer(body, kind)

        return answer

    def _refused(self, request: web.Request) -> web.Response | None:
        given = request.headers
        refusal = self._access.refusal(given.getall(hdrs.HOST, ()), given.get(hdrs.AUTHORIZATION))
        if refusal is None:
            return None
        headers = _HEADERS | _ASKING if refusal.status == 401 else _HEADERS
        return web.Response(status=refusal.status, text=f"{refusal.says}\n", headers=headers)


def takes_html(request: web.Request) -> bool:
    """Whether who asks names HTML, as browsers do and curl does not."""
    ranges = (each.partition(";")[0] for each in ",".join(request.headers.getall(hdrs.ACCEPT, ())).split(","))
    return any(each.strip().lower() == "text/html" for each in ranges)


def admin_credential(settings: Settings, learn: Callable[[str], None] = lambda _token: None) -> Credential | None:
    """The token that the console asks for, where one is set; `learn` hears of it. Raises CredentialError."""
    if settings.admin.token is None and settings.admin.token_file is None:
        return None
    return credential_of(settings.admin, "admin", report=report, learn=learn)


def build_console(settings: Callable[[], Settings], credential: Credential | None) -> Console:
    """The console of a process; `settings` gives those of the moment."""

    def opened() -> AbstractAsyncContextManager[Looks]:
        return open_looker(settings, name="console")

    return Console(Reader(opened), Access(credential))


def _packaged(name: str) -> bytes:
    return resources.files("allocator.service.console").joinpath(name).read_bytes()


def _answer(body: bytes, kind: str) -> web.Response:
    return web.Response(body=body, content_type=kind, charset="utf-8", headers=_HEADERS)
