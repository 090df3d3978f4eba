"""One HTTP call with a deadline.

In: method, URL, body, seconds. Out: a `Reply`, or `NotSent` (the call never left this process), or `Lost` (it may
have arrived; nobody knows). Promised: a POST goes out at most once (aiohttp sends again only GET, PUT and DELETE on a
connection that had died, which is harmless here); redirects are not followed; a reply over its size limit is not
read on; a cancellation from outside passes through, whatever the deadline does at the same moment.

Left to others: what a status means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from allocator import __version__
from allocator.contract.values import quick

# Under the 60 s after which common load balancers close an idle connection: ours is the side that closes first.
KEEPALIVE_SECONDS = 30.0
CONNECT_SECONDS = 5.0
# A timer of aiohttp's own for each call costs a fifth of the throughput; the deadline below is one loop timer.
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_read=None, sock_connect=CONNECT_SECONDS)


@quick
@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class NotSent:
    """The connection could not be made: nothing has left."""

    message: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The call left and its reply did not come whole; `status` where at least that was read."""

    message: str
    status: int | None = None


class _Deadline:
    """Cancels the calling asyncio task once, and can tell afterwards that it was this that did it."""

    __slots__ = ("_caller", "fired")

    def __init__(self, caller: asyncio.Task[object]) -> None:
        self._caller = caller
        self.fired = False

    def fire(self) -> None:
        self.fired = True
        self._caller.cancel()


class Exchange:
    """The connections to one host and the headers that every call bears; `scheme` is the word before the token."""

    def __init__(
        self, token: Callable[[], str], session: aiohttp.ClientSession | None = None, *, scheme: str = "Bearer"
    ) -> None:
        """Use the given session, which stays its owner's, or make one; inside a running loop."""
        self._scheme = scheme
        self._session = session or aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._is_owner = session is None
        self._token = token
        self._token_seen: str | None = None
        self._headers = self._headers_with_body = CIMultiDict[str]()

    async def send(
        self, method: str, url: URL, *, timeout_seconds: float, reply_bytes_max: int, body: bytes | None = None
    ) -> Reply | NotSent | Lost:
        """Make one call and read its reply within the timeout."""
        caller = asyncio.current_task()
        if caller is None:
            raise RuntimeError("Exchange.send must be awaited in an asyncio task")
        cancelling = caller.cancelling()
        deadline = _Deadline(caller)
        timer = caller.get_loop().call_later(timeout_seconds, deadline.fire)
        try:
            return await self._send(method, url, body, reply_bytes_max)
        except asyncio.CancelledError:
            if not deadline.fired:
                raise
            deadline.fired = False
            if caller.uncancel() > cancelling:
                raise  # someone outside has cancelled as well
            return Lost(f"no reply within {timeout_seconds:g} s")
        finally:
            timer.cancel()
            if deadline.fired:  # and aiohttp made an ordinary error or a reply of it
                caller.uncancel()

    async def close(self) -> None:
        """Close the connections that were made here."""
        if self._is_owner:
            await self._session.close()

    async def _send(self, method: str, url: URL, body: bytes | None, reply_bytes_max: int) -> Reply | NotSent | Lost:
        token = self._token()
        if token is not self._token_seen:
            self._build_headers(token)
        try:
            response = await self._session.request(
                method,
                url,
                data=body,
                headers=self._headers if body is None else self._headers_with_body,
                allow_redirects=False,
                timeout=_TIMEOUT,
            )
        except aiohttp.ConnectionTimeoutError:
            return NotSent(f"no connection to {url.host} within {CONNECT_SECONDS:g} s")
        except aiohttp.ClientConnectorError as error:
            return NotSent(str(error))
        except (aiohttp.ClientError, OSError) as error:
            # The type alone: texts of these may quote what was sent or received.
            return Lost(f"the connection broke before the reply ({type(error).__name__})")
        try:
            return await _read(response, reply_bytes_max)
        except (aiohttp.ClientError, OSError) as error:
            response.close()
            return Lost(f"the connection broke within the reply ({type(error).__name__})", response.status)
        except BaseException:
            response.close()
            raise

    def _build_headers(self, token: str) -> None:
        self._headers = CIMultiDict(
            {
                "Authorization": f"{self._scheme} {token}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": f"allocator/{__version__}",
            }
        )
        self._headers_with_body = CIMultiDict(self._headers, **{"Content-Type": "application/json"})
        self._token_seen = token


async def _read(response: aiohttp.ClientResponse, bytes_max: int) -> Reply | Lost:
    content = response.content
    body = await content.readany()
    if not content.at_eof():
        parts, size = [body], len(body)
        while size <= bytes_max and (part := await content.readany()):
            parts.append(part)
            size += len(part)
        body = b"".join(parts)
    if len(body) > bytes_max:
        response.close()
        return Lost(f"the reply is over {bytes_max} bytes", response.status)
    return Reply(response.status, response.headers, body)
