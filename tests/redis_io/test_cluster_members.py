"""Whom a cluster's client asks: its members and seeds, and nobody who was one once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from allocator.redis_io.connect import connect

if TYPE_CHECKING:
    from tests.conftest import WaitUntil


class Node:
    """Speaks just enough of the protocol; `owner` is the port of the node that has all slots, as it says."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.owner = 0
        self.heard: list[str] = []
        self.port = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            while line := await reader.readline():
                words = []
                for _ in range(int(line[1:])):
                    size = int((await reader.readline())[1:])
                    words.append((await reader.readexactly(size + 2))[:-2].decode())
                self.heard.append(words[0].upper())
                writer.write(self._reply(words[0].upper()))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass

    def _reply(self, verb: str) -> bytes:
        match verb:
            case "CLUSTER":
                return b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % self.owner
            case "GET":
                return b"$%d\r\n%s\r\n" % (len(self.name), self.name)
            case _:
                return b"+OK\r\n"


async def test_the_address_of_a_node_that_left_is_asked_no_more_and_told_no_password(wait_until: WaitUntil) -> None:
    seed, old, new, foreign = Node(b"seed"), Node(b"old"), Node(b"new"), Node(b"foreign")
    async with AsyncExitStack() as stack:
        for node in (seed, old, new):
            await node.start()
            stack.push_async_callback(node.stop)
        seed.owner = old.owner = new.owner = old.port
        url = f"redis+cluster://user:secret@127.0.0.1:{seed.port}"
        connection = await stack.enter_async_context(await connect(url, name="test"))
        assert await connection.execute("GET", "k") == b"old"
        seed.owner = old.owner = new.owner = new.port

        async def answers_new() -> bool:
            return bool(await connection.execute("GET", "k") == b"new")

        await wait_until(answers_new)
        await old.stop()
        await foreign.start(old.port)
        stack.push_async_callback(foreign.stop)
        foreign.owner = old.port
        asked = seed.heard.count("CLUSTER")

        async def asked_thrice() -> bool:
            assert await connection.execute("GET", "k") == b"new"
            return seed.heard.count("CLUSTER") >= asked + 3

        await wait_until(asked_thrice, timeout_seconds=10)
        assert foreign.heard == []
