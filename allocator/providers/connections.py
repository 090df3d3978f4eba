"""Requests and replies of HTTP/1.1 on aiohttp's connections.

In: method, URL, body, token. Out: a `Reply`, or `NotSent`, or `Lost`. Promised: what is asked for is sent once, as it
stands; one request is out on a connection at a time; a connection whose reply did not come whole is closed, any other
is used again within `KEEPALIVE_SECONDS`. How long to wait is the caller's: who is cancelled leaves nothing open.

aiohttp makes the connections (names, TLS, IPv4 beside IPv6) and reads the replies by its parser in C. Its
`ClientSession` is left out: a call through it takes three times the CPU, for cookies, redirects, multipart bodies and
hooks that no call here has, and on Python 3.11 for a second asyncio task that writes the body.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from allocator import __version__
from allocator.contract.values import quick

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.streams import StreamReader

# Under the 60 s after which common load balancers close an idle connection: none is used that may be closed by then.
KEEPALIVE_SECONDS = 30.0
CONNECT_SECONDS = 5.0
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_read=None, sock_connect=CONNECT_SECONDS)
_BROKEN = (aiohttp.ClientError, HttpProcessingError, OSError)


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


class Connections:
    """Those of one client; `scheme` is the word before the token."""

    def __init__(self, connector: aiohttp.BaseConnector | None, *, scheme: str) -> None:
        """Use the given connector, which stays its owner's, or make one; inside a running loop."""
        self._connector = connector or aiohttp.TCPConnector(limit=0)
        self._is_owner = connector is None
        self._scheme = scheme
        self._idle: dict[tuple[str, str | None], deque[tuple[Connection, float]]] = {}
        """By scheme and host, those that wait for the next call and since when, the one used last at the end."""
        self._loop = asyncio.get_running_loop()
        self._token_seen: str | None = None
        self._lines = ""

    async def call(
        self, method: str, url: URL, body: bytes | None, *, token: str, reply_bytes_max: int
    ) -> Reply | NotSent | Lost:
        """Send one request and read its reply."""
        request = self._request(method, url, body, token)
        place = (url.scheme, url.host_port_subcomponent)
        try:
            connection = self._kept(place) or await self._made(url)
        except TimeoutError:
            return NotSent(f"no connection to {url.host} within {CONNECT_SECONDS:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return NotSent(str(error))
        status: int | None = None
        try:
            protocol = _send(connection, request)
            message, content = await protocol.read()
            while message.code < 200 and message.code != 101:  # it only announces the reply
                message, content = await protocol.read()
            status = message.code
            answer = content.read_nowait() if content.is_eof() else await _rest(content, reply_bytes_max)
        except _BROKEN as error:
            connection.close()
            # The type alone: texts of these may quote what was sent or received.
            where = "before" if status is None else "within"
            return Lost(f"the connection broke {where} the reply ({type(error).__name__})", status)
        except BaseException:
            connection.close()
            raise
        if len(answer) > reply_bytes_max:
            connection.close()
            return Lost(f"the reply is over {reply_bytes_max} bytes", status)
        if message.should_close:
            connection.close()
        else:
            self._keep(place, connection)
        return Reply(status, message.headers, answer)

    async def close(self) -> None:
        """Close the connections that were made here."""
        if self._is_owner:
            await self._connector.close()  # waits for those that it closes itself
        for connection, _ in chain.from_iterable(self._idle.values()):
            connection.close()
        self._idle.clear()

    async def _made(self, url: URL) -> Connection:
        request = aiohttp.ClientRequest("GET", url.origin(), loop=self._loop)
        return await self._connector.connect(request, [], _TIMEOUT)

    def _kept(self, place: tuple[str, str | None]) -> Connection | None:
        """The one that was used last, so that those there are too many of grow old; None where there is none."""
        idle, now = self._idle.get(place), self._loop.time()
        while idle:
            connection, since = idle.pop()
            if _is_good(connection) and now - since < KEEPALIVE_SECONDS:
                return connection
            connection.close()
        return None

    def _keep(self, place: tuple[str, str | None], connection: Connection) -> None:
        idle, now = self._idle.setdefault(place, deque()), self._loop.time()
        idle.append((connection, now))
        if now - idle[0][1] > KEEPALIVE_SECONDS:
            idle.popleft()[0].close()

    def _request(self, method: str, url: URL, body: bytes | None, token: str) -> bytes:
        if token is not self._token_seen:
            self._lines = _lines(f"{self._scheme} {token}")
            self._token_seen = token
        target = url.raw_path_qs
        head = f"{method} {target} HTTP/1.1\r\nHost: {url.host_port_subcomponent}\r\n{self._lines}"
        if body is None:
            return f"{head}\r\n".encode() if method == "GET" else f"{head}Content-Length: 0\r\n\r\n".encode()
        return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _is_good(connection: Connection) -> bool:
    """Whether it may be used again; not where its host has said something unasked: that is no answer to who is next."""
    protocol = connection.protocol
    return protocol is not None and protocol.is_connected() and not protocol.should_close


def _lines(authorization: str) -> str:
    """The headers that every request bears."""
    headers = {
        "Authorization": authorization,
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": f"allocator/{__version__}",
    }
    for name, value in headers.items():
        if not value.isprintable():
            raise ValueError(f"the header {name} holds characters that no header can carry")
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


def _send(connection: Connection, request: bytes) -> ResponseHandler:
    """Where the reply will come."""
    protocol, transport = connection.protocol, connection.transport
    if protocol is None or transport is None:
        raise aiohttp.ServerDisconnectedError
    protocol.set_response_params(read_until_eof=True)
    transport.write(request)
    return protocol


async def _rest(content: StreamReader, bytes_max: int) -> bytes:
    """The body; what is beyond so many bytes may be left out."""
    parts, size = [], 0
    while size <= bytes_max and (part := await content.readany()):
        parts.append(part)
        size += len(part)
    return b"".join(parts)
