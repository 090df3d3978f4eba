"""Many destinations: one that nobody uses costs Redis a look a second."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from allocator.simulator.gameye import RegionSettings, RetryAfter

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from allocator.broker.parking import Arrivals, Want
    from tests.engine.conftest import Fleet

SHUT = RegionSettings(closed=420, retry_after=RetryAfter(seconds=0.5))
OTHERS = [f"region-{number}" for number in range(15)]


async def test_of_those_that_nobody_uses_only_every_second_is_it_asked_who_waits(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fleet.begin({"europe": SHUT, **{name: RegionSettings() for name in OTHERS}})
    member = await fleet.worker(rates=dict.fromkeys(["europe", *OTHERS], 1000.0))
    await fleet.ended(*[await fleet.send(id=name, regions=[name]) and name for name in OTHERS])
    asked: list[int] = []
    claim = member.parts.parking.claim

    async def counted(wants: Sequence[Want], count: int) -> Arrivals:
        asked.append(len(wants))
        return await claim(wants, count)

    ids = await fleet.send_many(40, timeout_seconds=60, regions=["europe"])
    await fleet.waiting_outside(20)
    monkeypatch.setattr(member.parts.parking, "claim", counted)
    await asyncio.sleep(2.5)
    assert asked.count(1) > 3 * (len(asked) - asked.count(1)), asked
    assert max(asked) > len(OTHERS)
    fleet.apply({"europe": RegionSettings()})
    await fleet.ended(*ids)
