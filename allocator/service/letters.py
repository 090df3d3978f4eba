"""The dead letters of the namespace that the settings name, for a command.

In: settings, of which redis.url and namespace count. Out: the letters, while the block lasts. What Redis does wrong is
its `RedisFault`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from allocator.broker.streams_letters import StreamsLetters
from allocator.contract.keys import Keys
from allocator.redis_io.connect import connect
from allocator.service.settings import Settings


@asynccontextmanager
async def open_letters(settings: Settings) -> AsyncIterator[StreamsLetters]:
    """Give the letters; the connection ends with the block. RedisUrlError: redis.url cannot be understood."""
    async with await connect(settings.redis.url.get_secret_value(), name="letters") as connection:
        yield StreamsLetters(connection, Keys(settings.namespace))
