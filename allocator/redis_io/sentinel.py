"""The primary of the moment, as sentinels know it.

In: a `redis+sentinel://` target. Out: a wire whose connections all lead to the primary. Promises: a new connection asks
where that is, believes the sentinel that saw the latest promotion, and makes sure by ROLE; once another is promoted
every connection to the old one is closed within about a second, whether it died, hangs or is cut off. What the old one
took and did not pass on is lost, unless it has `min-replicas-to-write`: see the page on bigger Redis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError

from allocator.redis_io.asking import Watch, ask
from allocator.redis_io.batching import Batcher
from allocator.redis_io.errors import CommandFault, Unavailable
from allocator.redis_io.url import Address, SentinelTarget, masked
from allocator.redis_io.wire import Command, Terms, Wire

OTHERS_SECONDS = 0.1
"""For how long a sentinel that may know of a later promotion is waited for."""


class SentinelWire(Wire):
    """The way to the primary; see the module."""

    def __init__(self, target: SentinelTarget, terms: Terms) -> None:
        server = masked(target.url)
        self._service = target.service
        self._sentinels = [
            Wire(replace(terms, options={**target.sentinel_options, "host": host, "port": port}), f"{host}:{port}")
            for host, port in target.seeds
        ]
        self.primary: Address | None = None
        """Where it was when somebody asked last."""
        self._asking: Batcher[None, Address] = Batcher(self._ask, items_max=2**31, in_flight_max=1)
        self._watch = Watch(self.find)
        follows = _SecureToPrimary if issubclass(terms.connection_class, SSLConnection) else _ToPrimary
        super().__init__(replace(terms, connection_class=follows, options={**terms.options, "wire": self}), server)

    async def roundtrip(self, commands: Sequence[Command], *, blocks: bool = False) -> list[Any]:
        """See `Route.roundtrip`."""
        self._watch.begin()
        return await super().roundtrip(commands, blocks=blocks)

    async def aclose(self) -> None:
        """See `Route.aclose`."""
        await self._watch.end()
        await super().aclose()
        for each in self._sentinels:
            await each.aclose()

    async def find(self) -> Address:
        """Where the primary is; Unavailable where no sentinel says. Callers of one moment share one question."""
        return await self._asking.submit(None)

    async def _ask(self, asked: list[None]) -> list[Address]:
        try:
            answers = await ask(self._sentinels, ("SENTINEL", "MASTER", self._service), others_seconds=OTHERS_SECONDS)
        except CommandFault as fault:
            raise Unavailable(
                f"no sentinel of {self.server} knows {self._service!r}: {fault}; correct redis.url", kind="sentinel"
            ) from fault
        known = [dict(zip(words[::2], words[1::2], strict=True)) for _, words in answers]
        latest = max(known, key=lambda each: int(each.get(b"config-epoch", 0)))
        primary = (latest[b"ip"].decode(), int(latest[b"port"]))
        if self.primary not in {None, primary}:
            self.hang_up()
        self.primary = primary
        return [primary] * len(asked)


class _Following:
    """What makes a connection of redis-py lead to the primary."""

    def __init__(self, *, wire: SentinelWire, **options: Any) -> None:
        super().__init__(**options)
        self._wire = wire

    async def connect(self: Any) -> None:
        """Connect to the primary of the moment, unless it is done."""
        if self.is_connected:
            return
        self.host, self.port = address = await self._wire.find()
        await super().connect()  # type: ignore[misc]  # of the class beside it
        await self.send_command("ROLE")
        try:
            role = (await self.read_response())[0]
        except NoPermissionError:
            role = b"master"  # as the sentinel says, then
        # another may have been promoted meanwhile: what is not made yet nobody could hang up
        if role != b"master" or address != self._wire.primary:
            await self.disconnect()
            raise RedisConnectionError(f"{self.host}:{self.port} is no primary, or none any more")


class _ToPrimary(_Following, Connection):
    """Without TLS."""


class _SecureToPrimary(_Following, SSLConnection):
    """With TLS."""
