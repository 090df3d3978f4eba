"""The levers on Redis: a hash, read by one script that drops what has lapsed.

In: the port's values. Out: the port's replies. Ends are on the server's clock, so that a person's wrong one sets none.
"""

from __future__ import annotations

from allocator.broker.levers import DRAINED, PAUSED, RATE, Levers, levers_of
from allocator.broker.steps import Steps
from allocator.contract.keys import Keys
from allocator.redis_io.scripts import Script

_LEVERS = Script.load("allocator.broker.scripts", "levers")
_SET_LEVER = Script.load("allocator.broker.scripts", "set_lever")


class StreamsLevers:
    """The levers of one namespace on one Redis."""

    def __init__(self, steps: Steps, keys: Keys) -> None:
        self._steps = steps
        self._keys = keys

    async def read(self) -> Levers:
        """See `LeverBoard.read`."""
        words = [word.decode(errors="replace") for word in await self._steps.run(_LEVERS, [self._keys.levers], [])]
        return levers_of(dict(zip(words[::2], words[1::2], strict=True)))

    async def pause(self, for_ms: int | None) -> None:
        """See `LeverBoard.pause`."""
        await self._set(PAUSED, for_ms)

    async def resume(self) -> None:
        """See `LeverBoard.resume`."""
        await self._undo(PAUSED)

    async def drain(self, region: str, for_ms: int | None) -> None:
        """See `LeverBoard.drain`."""
        await self._set(DRAINED + region, for_ms)

    async def set_rate(self, region: str, rate: float, for_ms: int | None) -> None:
        """See `LeverBoard.set_rate`."""
        await self._set(RATE + region, for_ms, repr(rate))

    async def resume_region(self, region: str) -> None:
        """See `LeverBoard.resume_region`."""
        await self._undo(DRAINED + region, RATE + region)

    async def _set(self, name: str, for_ms: int | None, value: str = "") -> None:
        await self._steps.run(_SET_LEVER, [self._keys.levers], [name, "" if for_ms is None else for_ms, value])

    async def _undo(self, *names: str) -> None:
        async with self._steps.asking():
            await self._steps.connection.execute("HDEL", self._keys.levers, *names)
