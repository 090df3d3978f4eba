"""A faulty wire: a TCP proxy on loopback that loses, cuts, delays and drips what passes through it, as scripted.

In: the port of the real server, and troubles. Out: a port to give to whoever shall suffer. Promises: a trouble strikes
whole requests that it matches, as often and as likely as it says, by a seed; what it did is counted. It knows nothing
of the protocol: a request is what the client sent in one piece, which on loopback is what it wrote.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

CHUNK = 1 << 20
DRIP_SECONDS = 0.002
DRIP_BYTES = 16
RESET = struct.pack("ii", 1, 0)


class Kind(StrEnum):
    """What may happen to a request and its reply."""

    LOST_REPLY = "the request arrives, its reply does not, the connection is reset"
    HELD = "the request arrives, its reply never comes, the connection stays"
    CUT_REQUEST = "half of the request arrives, the connection is reset"
    CUT_REPLY = "half of the reply arrives, the connection is reset"
    DRIP = "the reply arrives a few bytes at a time"
    DELAY = "the request arrives later"


@dataclass(slots=True)
class Trouble:
    """Strikes requests that hold one of the marks, at most `times` times; without marks, any."""

    kind: Kind
    marks: tuple[bytes, ...] = ()
    times: int | None = None
    probability: float = 1.0
    connection: int | None = None
    """Only on the n-th connection since the proxy opened."""
    delay_seconds: float = 0.2

    def strikes(self, request: bytes, connection: int, chance: random.Random) -> bool:
        """Whether it strikes this one; counts down where it does."""
        if self.times == 0 or self.connection not in (None, connection):
            return False
        if self.marks and not any(mark in request for mark in self.marks):
            return False
        if chance.random() >= self.probability:
            return False
        if self.times is not None:
            self.times -= 1
        return True


class Proxy:
    """A wire to 127.0.0.1:`target`; `troubles` may be changed at any moment, and an empty list mends it."""

    def __init__(self, target: int, *, seed: int = 0) -> None:
        self.troubles: list[Trouble] = []
        self.struck: Counter[Kind] = Counter()
        self.port = 0
        self._target = target
        self._chance = random.Random(seed)
        self._connections: dict[int, _Connection] = {}
        self._count = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, target: int, *, seed: int = 0) -> AsyncIterator[Self]:
        proxy = cls(target, seed=seed)
        server = await asyncio.start_server(proxy._connected, "127.0.0.1", 0, limit=CHUNK)
        proxy.port = server.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            server.close()
            for connection in list(proxy._connections.values()):
                connection.reset()

    @property
    def open(self) -> int:
        """How many connections there are now."""
        return len(self._connections)

    def freeze(self) -> None:
        """Let every connection that is open now carry nothing more and stay open; new ones are well."""
        for connection in self._connections.values():
            connection.frozen = True

    def fate(self, request: bytes, connection: int) -> Trouble | None:
        """The first trouble that strikes this request."""
        trouble = next((each for each in self.troubles if each.strikes(request, connection, self._chance)), None)
        if trouble is not None:
            self.struck[trouble.kind] += 1
        return trouble

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._count += 1
        number = self._count
        try:
            there = await asyncio.open_connection("127.0.0.1", self._target, limit=CHUNK)
        except OSError:
            writer.close()
            return
        connection = _Connection(self, number, (reader, writer), there)
        self._connections[number] = connection
        try:
            await connection.carry()
        finally:
            del self._connections[number]


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Connection:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, number: int, client: Stream, server: Stream) -> None:
        self.frozen = False
        self._proxy = proxy
        self._number = number
        self._client, self._to_client = client
        self._server, self._to_server = server
        self._reply: Kind | None = None

    async def carry(self) -> None:
        """Carry both ways until one side ends or a trouble ends both."""
        ways = [asyncio.ensure_future(self._requests()), asyncio.ensure_future(self._replies())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for writer in (self._to_client, self._to_server):
                writer.close()

    def reset(self) -> None:
        """End it as a lost peer ends it."""
        for writer in (self._to_client, self._to_server):
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()

    async def _requests(self) -> None:
        while request := await self._read(self._client):
            trouble = self._proxy.fate(request, self._number)
            if trouble is not None and trouble.kind is Kind.DELAY:
                await asyncio.sleep(trouble.delay_seconds)
            elif trouble is not None and trouble.kind is Kind.CUT_REQUEST:
                self._to_server.write(request[: len(request) // 2])
                await self._to_server.drain()
                self.reset()
                return
            elif trouble is not None:
                self._reply = trouble.kind
            self._to_server.write(request)
            await self._to_server.drain()

    async def _replies(self) -> None:
        while reply := await self._read(self._server):
            match self._reply:
                case Kind.LOST_REPLY:
                    self.reset()
                    return
                case Kind.HELD:
                    self.frozen = True
                    continue
                case Kind.CUT_REPLY:
                    self._to_client.write(reply[: len(reply) // 2])
                    await self._to_client.drain()
                    self._to_client.close()
                    await self._to_client.wait_closed()
                    return
                case Kind.DRIP:
                    await self._drip(reply)
                case _:
                    self._to_client.write(reply)
            self._reply = None
            await self._to_client.drain()

    async def _drip(self, reply: bytes) -> None:
        for start in range(0, len(reply), DRIP_BYTES):
            self._to_client.write(reply[start : start + DRIP_BYTES])
            await self._to_client.drain()
            await asyncio.sleep(DRIP_SECONDS)

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        """The next piece, nothing once that side has ended; what comes while frozen is swallowed."""
        while True:
            try:
                piece = await reader.read(CHUNK)
            except OSError:
                return b""
            if not piece or not self.frozen:
                return piece
