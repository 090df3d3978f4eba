"""The engine's fleet, with a stopper that does not take its time, and a matchmaker that cancels.

desk    a `Desk`: orders cancellations and asks whether all that was ordered is done
stage   a `Stage`: one worker's parts over twins, on a clock that the test moves
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

_ROOT = str(Path(__file__).resolve().parents[2])
if _ROOT not in sys.path:
    sys.path.insert(0, _ROOT)  # wherever pytest was started

from allocator.broker import streams_aftermath  # noqa: E402 - below the path
from allocator.contract.keys import GROUP  # noqa: E402 - as above
from allocator.engine import stopper  # noqa: E402 - as above
from tests.engine.conftest import Fleet, fleet, keys_without_ttl, make_fleet, quick  # noqa: E402 - as above
from tests.reconciler.conftest import stage  # noqa: E402 - as above

__all__ = ["fleet", "keys_without_ttl", "make_fleet", "quick", "stage"]


class Desk:
    """Where a matchmaker orders cancellations."""

    def __init__(self, fleet: Fleet, wait_until: Any) -> None:
        self._fleet = fleet
        self._wait_until = wait_until

    async def cancel(self, *request_ids: str) -> None:
        stream = self._fleet.keys.cancellations
        await self._fleet.connection.execute_many([("XADD", stream, "*", "id", each) for each in request_ids])

    async def state(self, request_id: str) -> str:
        return (await self._fleet.answer(request_id)).get("state", "")

    async def until(self, request_id: str, *states: str) -> dict[str, str]:
        """The answer once the request is in one of these states."""

        async def reached() -> bool:
            return await self.state(request_id) in states

        await self._wait_until(reached)
        return await self._fleet.answer(request_id)

    async def settled(self) -> bool:
        """Whether no order is left, neither new nor pending."""
        stream = self._fleet.keys.cancellations
        length = await self._fleet.connection.execute("XLEN", stream)
        pending = await self._fleet.connection.execute("XPENDING", stream, GROUP)
        return (length, pending[0]) == (0, 0)

    async def all_done(self) -> None:
        """Every order is settled, nothing is under way, and no session lives."""
        await self._wait_until(self.settled)
        await self._wait_until(self._fleet.nothing_is_left)
        await self._wait_until(lambda: not self._fleet.alive())

    async def states_told(self, request_id: str) -> list[str]:
        """The states that were announced of it, in the order of commit."""
        return [each["state"] for each in await self._fleet.results(request_id)]


@pytest.fixture
def desk(fleet: Fleet, wait_until: Any, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(stopper, "PAUSE_FIRST_MS", 100)
    monkeypatch.setattr(stopper, "PAUSE_LAST_MS", 300)
    monkeypatch.setattr(stopper, "PAUSE_SPARSE_MS", 300)
    monkeypatch.setattr(stopper, "HOLD_MS", 500)
    monkeypatch.setattr(streams_aftermath, "BLOCK_MS", 50)
    return Desk(fleet, wait_until)
