"""Guards that only a loss of Redis at one moment needs, which no seed is likely to draw: each in its story.

Every story is told twice: by the engine as it is, and by one broken on purpose, which does the harm.
"""

from __future__ import annotations

import asyncio

import pytest

from allocator.broker.broker import Condemned
from allocator.engine.allocation import Allocation
from allocator.engine.observer import LeftAlone
from tests.simulation.levers import PROVIDER
from tests.simulation.sabotages_account import looking_at_what_was_condemned_before_a_loss
from tests.simulation.sabotages_waiting import the_doubt_of_one_who_slept
from tests.simulation.test_guards import House


@pytest.mark.parametrize("whole", [True, False])
def test_what_was_condemned_in_ignorance_of_a_loss_is_looked_at_and_left_alone(
    monkeypatch: pytest.MonkeyPatch, *, whole: bool
) -> None:
    if not whole:
        looking_at_what_was_condemned_before_a_loss(monkeypatch)
    house = House()

    async def story() -> None:
        hold, _ = await house.hold()
        session = house.session(1)
        before = house.store.snapshot()
        await house.parts.broker.look_back()
        # another worker hands the session over; Redis loses that, and nobody knows yet
        house.store.restore(before)
        # one that was told a while ago that no such session lives gets through to Redis again
        condemned = Condemned(PROVIDER, session.id, "start answered nothing")
        assert await house.parts.broker.next_generation(hold, [condemned]) == 2
        await asyncio.sleep(1.1)
        await house.process.worker._stop()
        assert len(house.world.host.stops) == (0 if whole else 1)
        assert [type(event) for event in house.events] == [LeftAlone] or not whole
        await house.process.lanes.close()

    house.live(story)


@pytest.mark.parametrize("whole", [True, False])
def test_who_slept_past_the_lease_and_holds_it_again_looks_before_it_ends_a_match(
    monkeypatch: pytest.MonkeyPatch, *, whole: bool
) -> None:
    if not whole:
        the_doubt_of_one_who_slept(monkeypatch)
    house = House()

    async def story() -> None:
        loop = asyncio.get_running_loop()
        hold, decoded = await house.hold()
        session = house.session(1)
        way = Allocation(hold, decoded.request, house.parts, arrival=0, lease_until=loop.time() + 2.0)
        way._course.suspects.add(PROVIDER)  # its call was not answered
        # it sleeps; another worker takes over and hands the session over; Redis loses that, so that its fence holds
        await asyncio.sleep(3.0)
        way.renewed(loop.time() + 60.0)
        await asyncio.sleep(20.0)  # the deadline passes
        assert await way.run()
        assert house.store.allocation("m-1")["state"] == ("allocated" if whole else "expired")
        assert bool(house.store.condemned) is not whole
        assert house.store.handed_over == ({session.id} if whole else set())
        await house.process.lanes.close()

    house.live(story)
