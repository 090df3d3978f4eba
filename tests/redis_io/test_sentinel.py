"""A promotion in the middle of a handshake: what is being made is not left at the old primary."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from allocator.redis_io import sentinel
from allocator.redis_io.errors import Unavailable
from allocator.redis_io.sentinel import SentinelWire
from allocator.redis_io.url import Address, SentinelTarget, parse_url
from allocator.redis_io.wire import Terms


@contextlib.asynccontextmanager
async def primary(name: bytes, shakes_hands: asyncio.Event) -> AsyncIterator[Address]:
    """Calls itself a primary once it shakes hands, and answers PING by its name."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            while True:
                words = []
                for _ in range(int((await reader.readuntil(b"\r\n"))[1:])):
                    length = int((await reader.readuntil(b"\r\n"))[1:])
                    words.append((await reader.readexactly(length + 2))[:-2])
                await shakes_hands.wait()
                answers = {b"ROLE": b"*1\r\n$6\r\nmaster\r\n", b"PING": b"+%s\r\n" % name}
                writer.write(answers.get(words[0], b"+OK\r\n"))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield host, port
    finally:
        server.close()
        await asyncio.sleep(0.05)  # for those who serve to hear that their callers have gone


async def test_a_connection_that_is_being_made_as_another_is_promoted_does_not_stay_with_the_old_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resumes, ready = asyncio.Event(), asyncio.Event()
    ready.set()
    async with primary(b"old", resumes) as old, primary(b"new", ready) as new:
        known = [old]

        async def ask(*_: Any, **__: Any) -> list[Any]:
            host, port = known[-1]
            words = (b"ip", host.encode(), b"port", str(port).encode(), b"config-epoch", str(len(known)).encode())
            return [(None, words)]

        monkeypatch.setattr(sentinel, "ask", ask)
        target = cast(SentinelTarget, parse_url("redis+sentinel://127.0.0.1:1/main"))
        wire = SentinelWire(target, Terms(target.connection_class, target.options, "test"))
        try:
            caught = asyncio.ensure_future(wire.roundtrip([("PING",)]))
            await asyncio.sleep(0.1)
            known.append(new)
            await wire.find()
            resumes.set()
            with pytest.raises(Unavailable, match="none any more"):
                await caught
            assert await wire.roundtrip([("PING",)]) == [b"new"]
        finally:
            await wire.aclose()
