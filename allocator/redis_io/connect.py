"""From a URL to a connection that keeps its promises.

In: `redis.url`. Out: a `RedisConnection`, over which a reply is what the server sent: bytes, int, None, or a list
of these (RESP2 without any reshaping: what a script returns is what its caller sees). Promises, each of them against
something that redis-py does by itself:

- A command is sent at most once. A caller that hears `Unavailable` decides what that means.
- Nothing waits for ever: 3 s to connect, 5 s for a reply or a free connection; a blocking read asks for at most 2 s.
- Connections are few and bounded. Blocking reads have their own, so that they never hold up a command.
- Faults are those of `errors`, and name the server without its password.

No connection is opened before the first command, so that a server that is away is the caller's to wait for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Self

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection, BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import DataError, RedisError, ResponseError

from allocator.redis_io.embedded import EmbeddedServer
from allocator.redis_io.errors import RedisFault, translate
from allocator.redis_io.url import EmbeddedTarget, ServerTarget, masked, parse_url, server_target

CONNECT_TIMEOUT_SECONDS = 3.0
REPLY_TIMEOUT_SECONDS = 5.0
POOL_WAIT_SECONDS = 5.0
BLOCK_MS_MAX = 2000
"""Well under the reply timeout: a read that blocks for longer than that never returns in redis-py."""
COMMAND_CONNECTIONS_MAX = 16
BLOCKING_CONNECTIONS_MAX = 8

Word = bytes | str | int | float
"""One part of a command, as it may be given."""


class RedisConnection:
    """The way to one server: commands and blocking reads, each over connections of their own.

    `name` shows in `CLIENT LIST` as `allocator:<name>`.
    """

    def __init__(self, target: ServerTarget, *, name: str, embedded: EmbeddedServer | None = None) -> None:
        self.url = masked(target.url)
        self._embedded = embedded
        self._commands = _pool(target, name, COMMAND_CONNECTIONS_MAX)
        self._blocking = _pool(target, name, BLOCKING_CONNECTIONS_MAX)

    def __repr__(self) -> str:
        return f"RedisConnection({self.url})"

    @property
    def embedded(self) -> EmbeddedServer | None:
        """The server that this connection keeps running, where the URL was `embedded:DIR`."""
        return self._embedded

    async def execute(self, *command: Word) -> Any:
        """Send one command, once, and return its reply; a `RedisFault` otherwise."""
        (reply,) = await self._roundtrip(self._commands, (command,))
        if isinstance(reply, RedisFault):
            raise reply
        return reply

    async def execute_many(self, commands: Sequence[Sequence[Word]]) -> list[Any]:
        """Send several commands in one round trip and return their replies in order.

        No transaction: each stands alone, and in the place of one that failed stands its `RedisFault`. A fault of the
        wire is raised.
        """
        return await self._roundtrip(self._commands, commands) if commands else []

    async def execute_blocking(self, *command: Word) -> Any:
        """Send a command that waits at the server (XREAD, XREADGROUP with BLOCK) and return its reply."""
        _check_block(command)
        (reply,) = await self._roundtrip(self._blocking, (command,))
        if isinstance(reply, RedisFault):
            raise reply
        return reply

    async def aclose(self) -> None:
        """Give everything back; an embedded server stops if this was its last user."""
        await self._commands.aclose()
        await self._blocking.aclose()
        if self._embedded is not None:
            await self._embedded.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _roundtrip(self, pool: BlockingConnectionPool, commands: Sequence[Sequence[Word]]) -> list[Any]:
        task = asyncio.current_task()
        cancelled = task.cancelling() if task is not None else 0
        try:
            async with _borrowed(pool) as connection:
                # hiredis packs in C what redis-py joins in Python: a tenth of a worker's time under load.
                await connection.send_packed_command([_packed(command) for command in commands])
                if task is not None and task.cancelling() > cancelled:
                    # On Python 3.11 `wait_for`, which redis-py sends with, can swallow a cancellation.
                    raise asyncio.CancelledError
                return [await self._reply(connection) for _ in commands]
        except (RedisError, OSError) as error:
            raise translate(error, self.url) from error

    async def _reply(self, connection: AbstractConnection) -> Any:
        try:
            return await connection.read_response()
        except ResponseError as error:
            fault = translate(error, self.url)
            fault.__cause__ = error
            return fault


async def connect(url: str, *, name: str) -> RedisConnection:
    """Make the connection that this URL describes; starts the server first where it is `embedded:DIR`.

    Raises RedisUrlError for a URL that cannot be understood, EmbeddedUnavailable where no server can be started.
    """
    match parse_url(url):
        case ServerTarget() as target:
            return RedisConnection(target, name=name)
        case EmbeddedTarget(directory):
            server = await EmbeddedServer.acquire(directory)
            return RedisConnection(server_target(server.url), name=name, embedded=server)


def _packed(command: Sequence[Word]) -> bytes:
    try:
        packed: bytes = pack_command(tuple(command))  # type: ignore[arg-type]  # its stub says a tuple of one
    except TypeError as error:
        raise DataError(f"a command of {[type(word).__name__ for word in command]}: {error}") from error
    return packed


@contextlib.asynccontextmanager
async def _borrowed(pool: BlockingConnectionPool) -> AsyncIterator[AbstractConnection]:
    """A connection of this pool; one that was left in the middle of a reply is closed, never lent again."""
    connection: AbstractConnection = await pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py's gap
    try:
        yield connection
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    finally:
        await pool.release(connection)


def _pool(target: ServerTarget, name: str, connections_max: int) -> BlockingConnectionPool:
    return BlockingConnectionPool(
        connection_class=target.connection_class,
        max_connections=connections_max,
        timeout=POOL_WAIT_SECONDS,
        socket_timeout=REPLY_TIMEOUT_SECONDS,
        socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
        protocol=2,  # replies in the shapes that scripts return them, and no maintenance notifications
        client_name=f"allocator:{name}",
        **target.options,
    )


def _check_block(command: Sequence[Word]) -> None:
    words = [word.upper() if isinstance(word, str | bytes) else word for word in command]
    for mark in ("BLOCK", b"BLOCK"):
        if mark in words:
            block_ms = int(words[words.index(mark) + 1])
            if not 0 < block_ms <= BLOCK_MS_MAX:
                raise ValueError(f"BLOCK {block_ms}: block for 1 to {BLOCK_MS_MAX} ms and ask again")
            return
