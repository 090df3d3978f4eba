"""The promises of a connection, against real servers and a wire that fails."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from allocator.redis_io import wire
from allocator.redis_io.connect import BLOCKING_CONNECTIONS_MAX, RedisConnection, connect
from allocator.redis_io.errors import (
    CommandFault,
    NoGroup,
    OutOfMemory,
    RedisFault,
    Refused,
    ScriptFault,
    Unavailable,
)
from tests.certificates import certificate

if TYPE_CHECKING:
    from tests.conftest import TestServer, WaitUntil


async def test_a_reply_is_what_the_server_sent(connection: RedisConnection) -> None:
    assert await connection.execute("HSET", "h", "a", 1, b"b", b"\xff") == 2
    assert await connection.execute("HGETALL", "h") == [b"a", b"1", b"b", b"\xff"]
    assert await connection.execute("EVAL", "return {1, 'x', {2, false}}", 0) == [1, b"x", [2, None]]


async def test_a_connection_shows_its_name_in_the_client_list(connection: RedisConnection) -> None:
    assert await connection.execute("CLIENT", "GETNAME") == b"allocator:test"


async def test_many_commands_travel_together_and_each_has_its_own_reply(connection: RedisConnection) -> None:
    first, second, third = await connection.execute_many([("SET", "s", "x"), ("LPUSH", "s", "y"), ("GET", "s")])
    assert (first, third) == (b"OK", b"x")
    assert isinstance(second, CommandFault)
    assert await connection.execute_many([]) == []


async def test_each_refusal_of_the_server_has_its_fault(connection: RedisConnection) -> None:
    with pytest.raises(NoGroup):
        await connection.execute("XREADGROUP", "GROUP", "g", "c", "STREAMS", "none", ">")
    with pytest.raises(ScriptFault):
        await connection.execute("EVAL", "return redis.call('LPUSH')", 0)
    with pytest.raises(ScriptFault):
        await connection.execute("EVAL", "return nosuch.thing", 0)
    with pytest.raises(CommandFault, match="unknown command"):
        await connection.execute("NOSUCH")


async def test_a_full_server_is_told_apart(private_server: TestServer) -> None:
    private_server.command("CONFIG", "SET", "maxmemory", 1)
    async with await connect(private_server.url, name="test") as connection:
        with pytest.raises(OutOfMemory, match="maxmemory"):
            await connection.execute("SET", "k", "v")
        with pytest.raises(OutOfMemory):
            await connection.execute("EVAL", "#!lua\nreturn 1", 0)


async def test_wrong_credentials_and_missing_rights_are_refusals_that_name_the_setting(
    private_server: TestServer,
) -> None:
    private_server.command("ACL", "SETUSER", "me", "on", ">p@ss/word", "~*", "+@all", "-flushall")
    port = private_server.port
    async with await connect(f"redis://me:p%40ss%2Fword@127.0.0.1:{port}", name="test") as connection:
        assert await connection.execute("ACL", "WHOAMI") == b"me"
        with pytest.raises(Refused, match=r"redis\.url"):
            await connection.execute("FLUSHALL")
    async with await connect(f"redis://me:wrong@127.0.0.1:{port}", name="test") as connection:
        with pytest.raises(Refused, match=r"redis\.url") as caught:
            await connection.execute("PING")
    assert "wrong" not in str(caught.value).replace("wrong number", "")
    assert "wrong" not in repr(connection)


async def test_a_server_that_is_away_is_unavailable_until_it_is_back(private_server: TestServer) -> None:
    async with await connect(private_server.url, name="test") as connection:
        assert await connection.execute("SET", "k", "v") == b"OK"
        private_server.stop()
        for _ in range(3):
            with pytest.raises(Unavailable, match=r"redis\.url"):
                await connection.execute("GET", "k")
        private_server.start()
        assert await connection.execute("GET", "k") == b"v"


async def test_a_server_that_hangs_is_unavailable_in_time(
    private_server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "REPLY_TIMEOUT_SECONDS", 0.1)
    async with await connect(private_server.url, name="test") as connection:
        await connection.execute("PING")
        private_server.pause()
        with pytest.raises(Unavailable) as caught:
            await connection.execute("PING")
        assert caught.value.kind == "timeout"
        private_server.resume()
        assert await connection.execute("PING") == b"PONG"


async def test_a_lost_reply_never_sends_a_command_twice(connection: RedisConnection, redis_server: TestServer) -> None:
    async with (
        _wire(redis_server.port, lose_reply_to=b"XADD") as port,
        await connect(f"redis://127.0.0.1:{port}", name="test") as faulty,
    ):
        await faulty.execute("PING")
        with pytest.raises(Unavailable):
            await faulty.execute("XADD", "s", "*", "f", "v")
        with pytest.raises(Unavailable):
            await faulty.execute_many([("XADD", "s", "*", "f", "v")])
        assert await faulty.execute("PING") == b"PONG"
    assert await connection.execute("XLEN", "s") == 2


async def test_any_number_of_callers_share_one_connection(connection: RedisConnection) -> None:
    callers = 1000
    replies = await asyncio.gather(*(connection.execute("ECHO", number) for number in range(callers)))
    assert replies == [b"%d" % number for number in range(callers)]
    clients = await connection.execute("CLIENT", "LIST")
    assert clients.count(b"name=allocator:test") == 1


async def test_no_free_connection_is_a_fault_after_a_bounded_wait(
    connection: RedisConnection, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "POOL_WAIT_SECONDS", 0.05)
    async with await connect(redis_url, name="narrow") as narrow:
        reads = [
            asyncio.create_task(narrow.execute_blocking("BLPOP", "l", 0.5)) for _ in range(BLOCKING_CONNECTIONS_MAX)
        ]
        await asyncio.sleep(0)  # each has asked for its connection
        with pytest.raises(Unavailable) as caught:
            await narrow.execute_blocking("BLPOP", "l", 1)
        assert caught.value.kind == "pool"
        await connection.execute("LPUSH", "l", *range(BLOCKING_CONNECTIONS_MAX))
        assert all(await asyncio.gather(*reads))


async def test_blocking_reads_never_hold_up_a_command(connection: RedisConnection) -> None:
    reads = [
        asyncio.create_task(connection.execute_blocking("XREAD", "BLOCK", 2000, "STREAMS", "s", "$"))
        for _ in range(BLOCKING_CONNECTIONS_MAX)
    ]
    async with asyncio.timeout(1.5):
        for _ in range(32):
            await connection.execute("PING")
    assert not any(read.done() for read in reads)
    for read in reads:
        read.cancel()
    await asyncio.gather(*reads, return_exceptions=True)


async def test_a_blocking_read_ends_by_itself(connection: RedisConnection) -> None:
    assert await connection.execute_blocking("XREAD", "BLOCK", 1, "STREAMS", "s", "$") is None


@pytest.mark.parametrize("block_ms", [0, 2001, b"5000"])
async def test_a_read_that_blocks_for_too_long_is_not_sent(connection: RedisConnection, block_ms: int | bytes) -> None:
    with pytest.raises(ValueError, match="BLOCK"):
        await connection.execute_blocking("XREAD", "BLOCK", block_ms, "STREAMS", "s", "$")


async def test_a_cancelled_call_never_leaves_its_reply_to_another(
    connection: RedisConnection, wait_until: WaitUntil
) -> None:
    async def readers() -> bool:
        return b"cmd=blpop" in await connection.execute("CLIENT", "LIST")

    for number in range(3):
        read = asyncio.create_task(connection.execute_blocking("BLPOP", "l", 2))
        await wait_until(readers)
        read.cancel()
        with pytest.raises(asyncio.CancelledError):
            await read
        assert await connection.execute_blocking("ECHO", number) == b"%d" % number
    for number in range(200):
        call = asyncio.create_task(connection.execute("ECHO", "cancelled"))
        for _ in range(number % 7):
            await asyncio.sleep(0)  # it is cancelled a little further on each time
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert await connection.execute("ECHO", number) == b"%d" % number


async def test_a_unix_socket_serves_as_well(private_server: TestServer) -> None:
    private_server.restart("--unixsocket", "./s.sock")
    async with await connect(f"unix://{private_server.directory}/s.sock?db=1", name="test") as connection:
        await connection.execute("SET", "k", "v")
        await connection.execute("MOVE", "k", 0)
    assert private_server.command("GET", "k") == b"v"


async def test_tls_is_verified_against_the_authority_that_the_url_names(
    connection: RedisConnection, redis_server: TestServer, tmp_path: Path
) -> None:
    made, key = certificate(tmp_path, "IP:127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made, key)
    async with _wire(redis_server.port, context=context) as port:
        for good in (f"ssl_ca_certs={made}", "ssl_cert_reqs=none"):
            async with await connect(f"rediss://127.0.0.1:{port}?{good}", name="test") as tls:
                assert await tls.execute("PING") == b"PONG"
        async with await connect(f"rediss://127.0.0.1:{port}", name="test") as tls:
            with pytest.raises(Unavailable, match="certificate verify failed"):
                await tls.execute("PING")


async def test_every_fault_is_one_of_ours(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with await connect(redis_url, name="test") as connection:
        with pytest.raises(RedisFault):
            await connection.execute("SET", "k", object())  # type: ignore[arg-type]  # what a bug of ours would send
        assert await connection.execute("PING") == b"PONG"


@asynccontextmanager
async def _wire(
    port: int, *, lose_reply_to: bytes | None = None, context: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """A port in front of the server; a connection breaks once the server has answered what is to be lost."""

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, passes: Callable[[bytes], bool]) -> None:
        try:
            while (data := await source.read(65536)) and passes(data):
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
        is_losing = False

        def look(data: bytes) -> bool:
            nonlocal is_losing
            is_losing = is_losing or (lose_reply_to is not None and lose_reply_to in data)
            return True

        await asyncio.gather(pump(reader, server_writer, look), pump(server_reader, writer, lambda _: not is_losing))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
