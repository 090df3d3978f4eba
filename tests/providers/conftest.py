"""A host of plain sockets, scripted byte for byte, for what a well-behaved server library would never send."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from allocator.providers.credential import FixedToken
from allocator.providers.gameye.client import GameyeProvider
from tests.certificates import certificate


class Fault(Enum):
    """What a wire may do in place of a reply."""

    CLOSE = "close"
    HANG = "hang"


@dataclass(frozen=True)
class Call:
    """One request as it came over the wire."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Answer = bytes | Fault


def reply(
    status: int, body: object = None, headers: dict[str, str] | None = None, content_type: str = "application/json"
) -> bytes:
    """The bytes of one HTTP reply; a body that is no text is sent as JSON."""
    raw = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Something"]
    if status != 204:
        lines.append(f"Content-Length: {len(raw)}")
    if raw:
        lines.append(f"Content-Type: {content_type}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw


class RawHost:
    """Answers each call by `respond`; remembers every call."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.connections = 0
        self.respond: Callable[[Call], Answer] = lambda _call: reply(500)
        self.close_after_answer = False
        self.received = asyncio.Event()
        self._released = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def open(self, tls: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=tls)

    @property
    def base_url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def answer(self, *answers: Answer) -> None:
        """Give these in turn, the last of them for ever."""
        left = list(answers)
        self.respond = lambda _call: left.pop(0) if len(left) > 1 else left[0]

    def say(self, unasked: bytes) -> None:
        """Send this on the connection that was made last."""
        assert self._writer is not None
        self._writer.write(unasked)

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self._released.set()
        for serving in self._serving:
            serving.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writer = writer
        serving = asyncio.current_task()
        assert serving is not None
        self._serving.add(serving)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            self._serving.discard(serving)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            body = await reader.readexactly(int(headers.get("Content-Length", 0)))
            method, path, _ = first.split(" ")
            call = Call(method, path, headers, body)
            self.calls.append(call)
            self.received.set()
            answer = self.respond(call)
            if answer is Fault.HANG:
                await self._released.wait()
                return
            if isinstance(answer, Fault):
                return
            writer.write(answer)
            await writer.drain()
            if self.close_after_answer:
                return


@pytest.fixture
async def host() -> AsyncIterator[RawHost]:
    host = RawHost()
    await host.open()
    yield host
    await host.close()


@pytest.fixture
async def tls_host(tmp_path: Path) -> AsyncIterator[RawHost]:
    """One that proves to be `localhost` to who trusts `cert.pem`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate(tmp_path, "DNS:localhost"))
    host = RawHost()
    await host.open(tls=context)
    yield host
    await host.close()


@pytest.fixture
async def gameye(host: RawHost) -> AsyncIterator[GameyeProvider]:
    provider = GameyeProvider(host.base_url, "studio", FixedToken("token-of-the-account"))
    yield provider
    await provider.close()


@pytest.fixture(name="reply")
def _reply() -> Callable[..., bytes]:
    return reply


@pytest.fixture
def hang() -> Fault:
    return Fault.HANG


@pytest.fixture
def hang_up() -> Fault:
    return Fault.CLOSE
