"""From a URL to a connection that keeps its promises.

In: `redis.url`. Out: a `RedisConnection`, over which a reply is what the server sent: bytes, int, None, or a list
of these (RESP2 without any reshaping: what a script returns is what its caller sees). Promises:

- A command is sent at most once. A caller that hears `Unavailable` decides what that means.
- Nothing waits for ever; a blocking read asks for at most 2 s (`wire`).
- Behind sentinels it goes to the primary of the moment (`sentinel`), in a cluster to whoever holds the key (`cluster`).
- Faults are those of `errors`, and name the server without its password.

No connection is opened before the first command, so that a server that is away is the caller's to wait for.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from allocator.redis_io.cluster import Cluster
from allocator.redis_io.embedded import EmbeddedServer
from allocator.redis_io.sentinel import SentinelWire
from allocator.redis_io.url import (
    ClusterTarget,
    EmbeddedTarget,
    SentinelTarget,
    ServerTarget,
    masked,
    parse_url,
    server_target,
)
from allocator.redis_io.wire import (
    BLOCKING_CONNECTIONS_MAX,
    Command,
    Route,
    Terms,
    Wire,
    Word,
    only,
)

__all__ = [
    "BLOCKING_CONNECTIONS_MAX",
    "BLOCK_MS_MAX",
    "RedisConnection",
    "Word",
    "connect",
]

BLOCK_MS_MAX = 2000
"""Well under the reply timeout: a read that blocks for longer than that never returns in redis-py."""


class RedisConnection:
    """The way to Redis, whatever it is made of: commands, and blocking reads beside them."""

    def __init__(self, route: Route, url: str, *, embedded: EmbeddedServer | None = None) -> None:
        """`url` without its password."""
        self.url = url
        self._route = route
        self._embedded = embedded

    def __repr__(self) -> str:
        return f"RedisConnection({self.url})"

    @property
    def embedded(self) -> EmbeddedServer | None:
        """The server that this connection keeps running, where the URL was `embedded:DIR`."""
        return self._embedded

    async def execute(self, *command: Word) -> Any:
        """Send one command, once, and return its reply; a `RedisFault` otherwise."""
        return only(await self._route.roundtrip((command,)))

    async def execute_many(self, commands: Sequence[Command]) -> list[Any]:
        """Send several commands in one round trip and return their replies in order.

        No transaction: each stands alone, and in the place of one that failed stands its `RedisFault`. A fault of the
        wire is raised. In a cluster each node gets its own, and a command without a key goes with the first that has
        one.
        """
        return await self._route.roundtrip(commands) if commands else []

    async def execute_blocking(self, *command: Word) -> Any:
        """Send a command that waits at the server (XREAD, XREADGROUP with BLOCK) and return its reply."""
        _check_block(command)
        return only(await self._route.roundtrip((command,), blocks=True))

    async def servers(self) -> tuple[RedisConnection, ...]:
        """One for each server that takes writes, to be asked about itself; they end with this one."""
        return tuple(RedisConnection(each, each.server) for each in await self._route.servers())

    async def server_of(self, key: str) -> RedisConnection:
        """The way to the server that holds this key alone; it ends with this one."""
        wire = await self._route.server_of(key)
        return RedisConnection(wire, wire.server)

    async def aclose(self) -> None:
        """Give everything back; an embedded server stops if this was its last user."""
        await self._route.aclose()
        if self._embedded is not None:
            await self._embedded.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


async def connect(url: str, *, name: str, blocking_connections_max: int = BLOCKING_CONNECTIONS_MAX) -> RedisConnection:
    """Make the connection that this URL describes; starts the server first where it is `embedded:DIR`.

    `name` shows in `CLIENT LIST` as `allocator:<name>`. Raises RedisUrlError for a URL that cannot be understood,
    EmbeddedUnavailable where no server can be started.
    """
    match parse_url(url):
        case ServerTarget() as target:
            terms = Terms(target.connection_class, target.options, name, blocking_connections_max)
            return RedisConnection(Wire(terms, masked(target.url)), masked(target.url))
        case ClusterTarget() as target:
            terms = Terms(target.connection_class, target.options, name, blocking_connections_max)
            return RedisConnection(Cluster(target.seeds, terms, masked(target.url)), masked(target.url))
        case SentinelTarget() as target:
            terms = Terms(target.connection_class, target.options, name, blocking_connections_max)
            return RedisConnection(SentinelWire(target, terms), masked(target.url))
        case EmbeddedTarget(directory):
            server = await EmbeddedServer.acquire(directory)
            target = server_target(server.url)
            terms = Terms(target.connection_class, target.options, name, blocking_connections_max)
            return RedisConnection(Wire(terms, masked(target.url)), masked(target.url), embedded=server)


def _check_block(command: Sequence[Word]) -> None:
    words = [word.upper() if isinstance(word, str | bytes) else word for word in command]
    for mark in ("BLOCK", b"BLOCK"):
        if mark in words:
            block_ms = int(words[words.index(mark) + 1])
            if not 0 < block_ms <= BLOCK_MS_MAX:
                raise ValueError(f"BLOCK {block_ms}: block for 1 to {BLOCK_MS_MAX} ms and ask again")
            return
