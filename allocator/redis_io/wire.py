"""One server's connections, and round trips over them.

In: commands as words. Out: a reply for each, raw, and in the place of one that the server refused its fault. Promises,
each of them against something that redis-py does by itself: a command is sent at most once; nothing waits for ever (3 s
to connect, 5 s for a reply or a free connection); connections are few and bounded, and blocking reads have their own.
Which server it is, and what follows from a fault, is left to `connect`, `sentinel` and `cluster`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection, BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import DataError, RedisError, ResponseError

from allocator.redis_io.errors import RedisFault, translate

CONNECT_TIMEOUT_SECONDS = 3.0
REPLY_TIMEOUT_SECONDS = 5.0
POOL_WAIT_SECONDS = 5.0
COMMAND_CONNECTIONS_MAX = 16
BLOCKING_CONNECTIONS_MAX = 8

Word = bytes | str | int | float
"""One part of a command, as it may be given."""
Command = Sequence[Word]


class Route(Protocol):
    """What carries commands to where they belong: to one server, or to the nodes of a cluster."""

    async def roundtrip(self, commands: Sequence[Command], *, blocks: bool = False) -> list[Any]:
        """Send them once and return a reply for each, or its fault in its place; a fault of the wire is raised."""
        ...

    async def servers(self) -> tuple[Wire, ...]:
        """The wire to each server that takes writes."""
        ...

    async def server_of(self, key: str) -> Wire:
        """The wire to the one that holds this key."""
        ...

    async def aclose(self) -> None:
        """Give every connection back."""
        ...


@dataclass(frozen=True, slots=True)
class Terms:
    """How a server is connected to. `options` are the keyword arguments of its `connection_class`."""

    connection_class: type[AbstractConnection]
    options: Mapping[str, Any] = field(repr=False)
    name: str
    """Shows in `CLIENT LIST` as `allocator:<name>`."""
    blocking_connections_max: int = BLOCKING_CONNECTIONS_MAX


class Wire:
    """The way to one server. `server` is what messages call it: a URL without its password."""

    def __init__(self, terms: Terms, server: str) -> None:
        self.server = server
        self._commands = _pool(terms, COMMAND_CONNECTIONS_MAX)
        self._blocking = _pool(terms, terms.blocking_connections_max)

    async def roundtrip(self, commands: Sequence[Command], *, blocks: bool = False) -> list[Any]:
        """See `Route.roundtrip`."""
        task = asyncio.current_task()
        cancelled = task.cancelling() if task is not None else 0
        try:
            async with _borrowed(self._blocking if blocks else self._commands) as connection:
                # hiredis packs in C what redis-py joins in Python: a tenth of a worker's time under load.
                await connection.send_packed_command([_packed(command) for command in commands])
                if task is not None and task.cancelling() > cancelled:
                    # On Python 3.11 `wait_for`, which redis-py sends with, can swallow a cancellation.
                    raise asyncio.CancelledError
                return [await self._reply(connection) for _ in commands]
        except (RedisError, OSError) as error:
            raise translate(error, self.server) from error

    async def servers(self) -> tuple[Wire, ...]:
        """See `Route.servers`."""
        return (self,)

    async def server_of(self, key: str) -> Wire:
        """See `Route.server_of`."""
        del key
        return self

    async def hang_up(self) -> None:
        """Close every connection, also under a call, which then ends as Unavailable; the next call opens anew."""
        for pool in (self._commands, self._blocking):
            with contextlib.suppress(RedisError, OSError):
                await pool.disconnect()

    async def aclose(self) -> None:
        """See `Route.aclose`."""
        await self._commands.aclose()
        await self._blocking.aclose()

    async def _reply(self, connection: AbstractConnection) -> Any:
        try:
            return await connection.read_response()
        except ResponseError as error:
            fault = translate(error, self.server)
            fault.__cause__ = error
            return fault


def only(replies: Sequence[Any]) -> Any:
    """The reply to a single command; its fault is raised."""
    (reply,) = replies
    if isinstance(reply, RedisFault):
        raise reply
    return reply


def _packed(command: Command) -> bytes:
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


def _pool(terms: Terms, connections_max: int) -> BlockingConnectionPool:
    return BlockingConnectionPool(
        connection_class=terms.connection_class,
        max_connections=connections_max,
        timeout=POOL_WAIT_SECONDS,
        socket_timeout=REPLY_TIMEOUT_SECONDS,
        socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
        protocol=2,  # replies in the shapes that scripts return them, and no maintenance notifications
        client_name=f"allocator:{terms.name}",
        **terms.options,
    )
