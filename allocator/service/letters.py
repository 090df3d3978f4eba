"""The dead letters of the namespace that the settings name, for a command.

In: settings, of which redis.url and namespace count. Out: the letters, while the block lasts. Of several partitions a
letter's entry is named with the number of its own before it, `3/1763-0`. What Redis does wrong is its `RedisFault`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from allocator.broker.letters import Letter, Opened, ReplayReply
from allocator.broker.streams_letters import StreamsLetters
from allocator.redis_io.connect import connect
from allocator.service.records import known_partitions
from allocator.service.settings import Settings


class PartedLetters:
    """Those of every partition, as those of one."""

    def __init__(self, parts: Sequence[StreamsLetters]) -> None:
        self._parts = parts

    async def every(self) -> AsyncIterator[Letter]:
        """All of them, partition by partition, without their bytes."""
        for number, letters in enumerate(self._parts):
            async for letter in letters.every():
                yield self._named(letter, number)

    async def open(self, entry_id: str) -> Opened | None:
        """One letter with its bytes; None where there is none."""
        number, plain = self._place(entry_id)
        opened = await self._parts[number].open(plain) if number < len(self._parts) else None
        return None if opened is None else replace(opened, letter=self._named(opened.letter, number))

    async def replay(self, letter: Letter) -> ReplayReply:
        """Put its request into its stream again and remove the letter."""
        number, plain = self._place(letter.entry_id)
        return await self._parts[number].replay(replace(letter, entry_id=plain))

    def _named(self, letter: Letter, number: int) -> Letter:
        return letter if len(self._parts) == 1 else replace(letter, entry_id=f"{number}/{letter.entry_id}")

    def _place(self, entry_id: str) -> tuple[int, str]:
        number, _, plain = entry_id.rpartition("/")
        return int(number or 0), plain


@asynccontextmanager
async def open_letters(settings: Settings) -> AsyncIterator[PartedLetters]:
    """Give the letters; the connection ends with the block. RedisUrlError: redis.url cannot be understood."""
    async with await connect(settings.redis.url.get_secret_value(), name="letters") as connection:
        partitions = await known_partitions(connection, settings)
        yield PartedLetters([StreamsLetters(connection, keys) for keys in partitions.every])
