"""A provider that costs next to nothing, as a process of its own.

In: a latency. Out: one line with its URL, then 201 to every `POST /session` as Gameye answers it, after that latency,
the id echoed, and 200 to traces. It reads no more of a request than where it ends and its id. It keeps no sessions: a
look-up finds none (404), the list is empty, a stop has worked (204). Serves until it is ended.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from typing import cast

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ID = re.compile(rb'"id": *"([^"]*)"')
_HEAD = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
_STARTED = b'{"id":"%s","host":"203.0.113.7","ports":[{"type":"udp","container":7777,"host":20001}]}'
_LIST = b'{"sessions":[]}'
_UNKNOWN = b'{"statusCode":404,"code":"RESOURCE_NOT_FOUND","message":"no such session","identifier":"stub"}'


class Stub(asyncio.Protocol):
    """One connection: a request at a time, as HTTP/1.1 clients without pipelining send them."""

    def __init__(self, latency_seconds: float) -> None:
        self._latency_seconds = latency_seconds
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where to write."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without being a subclass

    def data_received(self, data: bytes) -> None:
        """Answer each request that is now whole."""
        self._read += data
        while (head_end := self._read.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._read, 0, head_end)
            end = head_end + 4 + (int(length[1]) if length else 0)
            if len(self._read) < end:
                return
            request, self._read = self._read[:end], self._read[end:]
            if self._latency_seconds:
                self._loop.call_later(self._latency_seconds, self._write, reply(request))
            else:
                self._write(reply(request))

    def _write(self, answer: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)


def reply(request: bytes) -> bytes:
    """The answer to one whole request."""
    if request.startswith(b"POST /session "):
        found = _ID.search(request)
        body = _STARTED % (found[1] if found else b"")
        return _HEAD % (b"201 Created", len(body), body)
    if request.startswith(b"POST /v1/traces "):
        return _HEAD % (b"200 OK", 0, b"")
    if request.startswith(b"DELETE "):
        return b"HTTP/1.1 204 No Content\r\n\r\n"
    if request.startswith((b"GET /session?", b"GET /session ")):
        return _HEAD % (b"200 OK", len(_LIST), _LIST)
    return _HEAD % (b"404 Not Found", len(_UNKNOWN), _UNKNOWN)


async def main(latency_ms: float) -> None:
    """Serve on a free port, say where, go on for ever."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Stub(latency_ms / 1000), "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # there is none for every platform
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main(float(sys.argv[1])))
