"""The dead letters on Redis.

In: a connection. Out: letters, oldest first, and the reply to a replay. Promises: a list never fetches the bytes; a
replay is one step, which clears nothing but a failure without a session. What Redis does wrong is its `RedisFault`:
a person asks here, and has to hear it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from allocator.broker.letters import Empty, Gone, Homeless, Known, Letter, Opened, Replayed, ReplayReply, Unsent
from allocator.contract.keys import REQUEST_FIELD, Keys
from allocator.contract.request import Priority
from allocator.redis_io.connect import RedisConnection
from allocator.redis_io.scripts import Script

PAGE = 256
_LETTERS = Script.load("allocator.broker.scripts", "letters")
_REPLAY = Script.load("allocator.broker.scripts", "replay")


class StreamsLetters:
    """The dead letters of one namespace."""

    def __init__(self, connection: RedisConnection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys

    async def every(self) -> AsyncIterator[Letter]:
        """All of them, oldest first, without their bytes."""
        after = "-"
        while True:
            now_ms, *found = await _LETTERS.run(self._connection, [self._keys.dead_letters], [after, PAGE])
            for entry_id, size_bytes, *words in found:
                yield _letter(entry_id, words, size_bytes, now_ms)
            if len(found) < PAGE:
                return
            after = found[-1][0].decode()

    async def open(self, entry_id: str) -> Opened | None:
        """One letter with its bytes; None where there is none."""
        found = await self._connection.execute("XRANGE", self._keys.dead_letters, entry_id, entry_id)
        if not found:
            return None
        seconds, microseconds = await self._connection.execute("TIME")
        name, words = found[0]
        request = _pairs(words).get(REQUEST_FIELD.encode(), b"")
        now_ms = int(seconds) * 1000 + int(microseconds) // 1000
        return Opened(_letter(name, words, len(request), now_ms), request)

    async def replay(self, letter: Letter) -> ReplayReply:
        """Put its request into its stream again and remove the letter, in one step."""
        if letter.stream == self._keys.cancellations:
            return Unsent()
        if letter.stream not in {self._keys.requests(priority) for priority in Priority}:
            return Homeless(letter.stream)
        request_id = letter.request_id or ""
        keys = [self._keys.dead_letters, letter.stream]
        keys += [self._keys.record(request_id), self._keys.allocation(request_id)]
        match await _REPLAY.run(self._connection, keys, [letter.entry_id, request_id]):
            case [b"replayed", entry_id]:
                return Replayed(entry_id.decode())
            case [b"known", state]:
                return Known(request_id, state.decode(errors="replace"))
            case [b"empty"]:
                return Empty()
            case _:
                return Gone()


def _letter(entry_id: bytes, words: Sequence[bytes], size_bytes: int, now_ms: int) -> Letter:
    pairs = {name: value.decode(errors="backslashreplace") for name, value in _pairs(words).items()}
    name = entry_id.decode()
    return Letter(
        entry_id=name,
        code=pairs.get(b"code", ""),
        message=pairs.get(b"message", ""),
        request_id=pairs.get(b"request_id") or None,
        stream=pairs.get(b"stream", ""),
        request_entry_id=pairs.get(b"entry_id", ""),
        size_bytes=size_bytes,
        age_seconds=max(0, now_ms - int(name.partition("-")[0])) / 1000,
    )


def _pairs(words: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(words[::2], words[1::2], strict=True))
