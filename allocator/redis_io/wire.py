"""One server's connections, and round trips over them.

In: commands as words. Out: a reply for each, raw, and in the place of one that the server refused its fault. Promises:
a command is sent at most once; nothing waits for ever (3 s to connect, 5 s for a reply or a free connection); all
commands share one connection (`link`), and each blocking read has its own, of which there are few.
Which server it is, and what follows from a fault, is left to `connect`, `sentinel` and `cluster`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import DataError, RedisError, ResponseError

from allocator.redis_io.errors import RedisFault, Unavailable, translate
from allocator.redis_io.link import Link

CONNECT_TIMEOUT_SECONDS = 3.0
REPLY_TIMEOUT_SECONDS = 5.0
POOL_WAIT_SECONDS = 5.0
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
        self._terms = terms
        self._link: Link | None = None
        self._opening: asyncio.Task[Link] | None = None
        self._idle: list[Link] = []
        self._blocked: set[Link] = set()
        self._blocking_places = asyncio.Semaphore(terms.blocking_connections_max)

    async def roundtrip(self, commands: Sequence[Command], *, blocks: bool = False) -> list[Any]:
        """See `Route.roundtrip`."""
        try:
            packed = [_packed(command) for command in commands]
            if blocks:
                replies = await self._ask_blocking(packed)
            else:
                link = self._link
                if link is None or not link.is_open:
                    link = await self._shared()
                replies = await link.ask(packed)
        except (RedisError, OSError) as error:
            raise translate(error, self.server) from error
        return [self._fault(reply) if isinstance(reply, ResponseError) else reply for reply in replies]

    async def servers(self) -> tuple[Wire, ...]:
        """See `Route.servers`."""
        return (self,)

    async def server_of(self, key: str) -> Wire:
        """See `Route.server_of`."""
        del key
        return self

    def hang_up(self) -> None:
        """Close every connection, also under a call, which then ends as Unavailable; the next call opens anew."""
        links = [*self._idle, *self._blocked, *([self._link] if self._link else [])]
        self._idle, self._link = [], None
        for link in links:
            link.close()

    async def aclose(self) -> None:
        """See `Route.aclose`."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        self.hang_up()

    async def _shared(self) -> Link:
        """The connection of all that does not block; whoever comes while it is made waits with the others."""
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open_shared())
            self._opening.add_done_callback(_heed)
        opening = self._opening
        await asyncio.wait([opening])
        if opening.cancelled():
            raise Unavailable(f"the connection to {self.server} was closed")
        if isinstance(error := opening.exception(), RedisError | OSError):
            raise translate(error, self.server) from error
        return opening.result()

    async def _open_shared(self) -> Link:
        try:
            self._link = link = await self._open()
        finally:
            self._opening = None
        return link

    async def _ask_blocking(self, packed: Sequence[bytes]) -> list[Any]:
        """Ask over a connection that nobody else has meanwhile; one that is left under a read is closed."""
        await self._place()
        try:
            link = await self._unused()
            self._blocked.add(link)
            try:
                replies = await link.ask(packed)
            except BaseException:
                link.close()
                raise
            finally:
                self._blocked.discard(link)
            self._idle.append(link)
            return replies
        finally:
            self._blocking_places.release()

    async def _place(self) -> None:
        if not self._blocking_places.locked():
            await self._blocking_places.acquire()
            return
        try:
            async with asyncio.timeout(POOL_WAIT_SECONDS):
                await self._blocking_places.acquire()
        except TimeoutError:
            raise Unavailable(
                f"Redis at {self.server} is slow: every connection to it was in use; wait for it", kind="pool"
            ) from None

    async def _unused(self) -> Link:
        while self._idle:
            if (link := self._idle.pop()).is_open:
                return link
        return await self._open()

    async def _open(self) -> Link:
        terms = self._terms
        connection = terms.connection_class(
            socket_timeout=REPLY_TIMEOUT_SECONDS,
            socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            protocol=2,  # replies in the shapes that scripts return them, and no maintenance notifications
            client_name=f"allocator:{terms.name}",
            **terms.options,
        )
        return await Link.open(connection, REPLY_TIMEOUT_SECONDS)

    def _fault(self, error: ResponseError) -> RedisFault:
        fault = translate(error, self.server)
        fault.__cause__ = error
        return fault


def _heed(opening: asyncio.Task[Link]) -> None:
    """Its fault is its callers'; where they have all gone it is nobody's."""
    if not opening.cancelled():
        opening.exception()


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
