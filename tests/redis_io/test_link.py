"""One connection for many callers: whose reply is whose, and what they hear when the wire misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from allocator.redis_io import wire
from allocator.redis_io.connect import RedisConnection, connect
from allocator.redis_io.errors import RedisFault, Unavailable
from allocator.redis_io.link import Link

if TYPE_CHECKING:
    from tests.conftest import TestServer

Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[RedisConnection]:
    """A connection to what answers each read as it likes, once redis-py has been told that all is well."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                if b"CLIENT" in data:
                    writer.write(b"+OK\r\n" * data.count(b"CLIENT"))
                else:
                    await answer(data, writer)
        except OSError:
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        async with await connect(
            f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}", name="test"
        ) as connection:
            yield connection
    finally:
        listener.close()
        await listener.wait_closed()


async def test_whoever_waits_as_the_wire_breaks_hears_of_it_and_the_next_call_opens_another() -> None:
    opened = 0

    async def answer(data: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        if b"PING" in data:
            opened += 1
            writer.write(b"+PONG\r\n")
        else:
            writer.close()

    async with server(answer) as connection:
        for turn in (1, 2):
            assert await connection.execute("PING") == b"PONG"
            assert opened == turn
            heard = await asyncio.gather(*(connection.execute("GET", "k") for _ in range(50)), return_exceptions=True)
            assert [type(each) for each in heard] == [Unavailable] * 50
            assert len({id(each.__cause__) for each in heard if isinstance(each, Unavailable)}) == 50


@pytest.mark.parametrize("nonsense", [b"?what\r\n", b"$x\r\n", b"+PONG\r\n+nobody asked\r\n"])
async def test_a_reply_that_cannot_be_understood_ends_the_connection_and_no_later_call(nonsense: bytes) -> None:
    said = [nonsense]

    async def answer(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(said.pop() if said else b"+PONG\r\n")

    async with server(answer) as connection:
        first = (await asyncio.gather(connection.execute("PING"), return_exceptions=True))[0]
        assert first == b"PONG" if b"nobody" in nonsense else isinstance(first, Unavailable)
        assert await connection.execute("PING") == b"PONG"


async def test_a_reply_that_trickles_in_is_waited_for_and_one_that_stops_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "REPLY_TIMEOUT_SECONDS", 0.3)

    async def answer(data: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"$8\r\n")
        for _ in range(8 if b"whole" in data else 4):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.1)
        writer.write(b"\r\n" if b"whole" in data else b"")

    async with server(answer) as connection:
        assert await connection.execute("GET", "whole") == b"x" * 8
        with pytest.raises(Unavailable) as caught:
            await connection.execute("GET", "half")
        assert caught.value.kind == "timeout"


async def test_callers_that_come_while_a_connection_is_made_share_it_and_its_fault(
    private_server: TestServer,
) -> None:
    async with await connect(private_server.url, name="test") as connection:
        gone = asyncio.create_task(connection.execute("PING"))
        await asyncio.sleep(0)
        gone.cancel()
        assert await asyncio.gather(*(connection.execute("ECHO", each) for each in range(20))) == [
            b"%d" % each for each in range(20)
        ]
        clients = await connection.execute("CLIENT", "LIST")
        assert clients.count(b"name=allocator:test") == 1
        private_server.kill()
        heard = await asyncio.gather(*(connection.execute("PING") for _ in range(20)), return_exceptions=True)
        assert all(isinstance(each, RedisFault) for each in heard)
        private_server.start()
        assert await connection.execute("PING") == b"PONG"


async def test_a_connection_that_is_closed_while_it_is_made_ends_its_callers() -> None:
    arrived = asyncio.Event()

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(never, "127.0.0.1", 0)
    connection = await connect(f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}", name="test")
    call = asyncio.create_task(connection.execute("PING"))
    await arrived.wait()
    await connection.aclose()
    with pytest.raises(Unavailable):
        await call
    listener.close()
    await listener.wait_closed()


class Closed:
    """A connection, and a transport, that uvloop has closed before anybody was told."""

    def write(self, _data: bytes) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    async def connect(self) -> None:
        self.write(b"HELLO")

    async def disconnect(self, *, nowait: bool) -> None:
        assert nowait


async def test_a_transport_that_is_closed_under_a_call_is_a_connection_that_was_lost() -> None:
    with pytest.raises(RedisConnectionError, match="was lost as it was made"):
        await Link.open(cast(Any, Closed()), 1.0)
    link = Link(1.0)
    link._transport = cast(Any, Closed())
    with pytest.raises(RedisConnectionError, match="was lost"):
        await link.ask([b"PING"])
