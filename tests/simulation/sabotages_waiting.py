"""The engine broken on purpose where requests wait: lots, calls from them, levers, breakers, budget, ready checks.

In: pytest's monkeypatch. Out: an engine that lacks one of its guards, as in `sabotages`. Each has its focus: a world in
which that guard is needed often.

What no seed is likely to draw has a story in `test_rare_guards`.

Two that were tried are not here, for nothing comes of them but slower ends: a stay that is not marked clean costs a
look-up and a generation; a called request under its old fence is ignored, or found stale, until its lease ends.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from allocator.broker.memory import MemoryBroker
from allocator.broker.memory_aftermath import MemoryAftermath
from allocator.broker.memory_parking import MemoryParking
from allocator.broker.parking import Stay
from allocator.contract.destination import Destination
from allocator.engine import allocation, routes
from allocator.engine.budget import RetryBudget
from allocator.engine.course import Course
from allocator.engine.intake import Intake
from allocator.engine.lane import Lane
from allocator.engine.lanes import Lanes
from allocator.engine.lot import GUESTS
from allocator.engine.turns import order_of
from allocator.gate.gate import Limit
from allocator.placement import plan as placement
from tests.simulation.sabotages_account import many_losses
from tests.simulation.scenario import Chaos, HostFaults, Scenario, crowded
from tests.simulation.waits import Waits
from tests.simulation.wire import WireFaults
from tests.simulation.worlds import a_sleeper

Patch = pytest.MonkeyPatch


def waking_the_parked(patch: Patch) -> None:
    """Nobody looks at a parked request again unless it is called."""
    real = MemoryParking.park

    async def park(self: MemoryParking, stay: Stay) -> bool:
        parked = await real(self, stay)
        if parked:
            self._store.leases.pop(stay.hold.request_id, None)
        return parked

    patch.setattr(MemoryParking, "park", park)


def taking_the_cancelled_out_of_their_lots(patch: Patch) -> None:
    """A request that is cancelled while it is parked stays in its lots."""
    real = MemoryAftermath.seize

    async def seize(self: MemoryAftermath, request_id: str) -> Any:
        record = self._store.record(request_id)
        lots = record.parked if record is not None else None
        standing = await real(self, request_id)
        if record is not None and record.priority is not None:
            for lot in lots or ():
                insort(self._store.lots[lot, record.priority], (record.deadline_ms, request_id))
        return standing

    patch.setattr(MemoryAftermath, "seize", seize)


def the_last_resort(patch: Patch) -> None:
    """Every destination of a request may be set aside at once."""
    patch.setattr(Lane, "_last_resort", lambda _self: False)


def the_retry_budget(patch: Patch) -> None:
    """A call whose answer was lost is repeated as often as it takes."""

    async def allows(_self: RetryBudget, _provider: str) -> bool:
        return True

    patch.setattr(RetryBudget, "allows", allows)


def drains(patch: Patch) -> None:
    """A drained region is one like others."""
    real = placement.plan

    def plan(wish: Any, atlas: Any, *words: Any, **options: Any) -> Any:
        return real(wish, lambda name: replace(atlas(name), drained=""), *words, **options)

    patch.setattr(routes, "plan", plan)


def telling_who_waits_of_a_lever(patch: Patch) -> None:
    """Who waits in a lane as its region is drained is served there."""
    patch.setattr(Lane, "look_again", lambda _self: None)


def holding_what_was_read_as_a_pause_came(patch: Patch) -> None:
    """A read that waits as the fleet is paused takes up what comes."""

    async def take(self: Intake, room: int, turn: int) -> None:
        broker = self._parts.broker
        entries = await broker.take(room, order_of(turn, low_waits=True)) or await broker.wait(room)
        await self.take_up(entries)

    patch.setattr(Intake, "_take", take)


def the_ready_check(patch: Patch) -> None:
    """Whatever the host calls running is handed over."""

    async def ready(*_words: Any, **_options: Any) -> None:
        return

    patch.setattr(allocation, "why_not_ready", ready)


def the_kept_share(patch: Patch) -> None:
    """Guests get the whole rate."""

    def whole(self: Lanes, destination: Destination) -> tuple[Limit, ...]:
        own, *shared = self._limits_of(destination)
        return (replace(own, scope=f"{own.scope}{GUESTS}"), own, *shared)

    patch.setattr(Lanes, "_guest_limits", whole)


def looking_for_survivors(patch: Patch) -> None:
    """Who is asked for again after a loss begins as if it never was."""

    async def nobody(_self: allocation.Allocation) -> list[Any]:
        return []

    patch.setattr(allocation.Allocation, "_look_for_survivors", nobody)


def the_doubt_of_one_who_slept(patch: Patch) -> None:
    """Who slept past the lease and holds it again trusts what it knew."""
    real = Course.lease

    def lease(self: Course, until: float) -> None:
        real(self, until)
        self.lapsed_at = None

    patch.setattr(Course, "lease", lease)


def suspecting_a_short_loss(patch: Patch) -> None:
    """What was lost between two beats was not lost."""
    real = MemoryBroker.look_back

    async def look_back(self: MemoryBroker) -> int:
        if self._beat:
            self._store.known_history = self._store.history
        return await real(self)

    patch.setattr(MemoryBroker, "look_back", look_back)


def crowds(world: Scenario) -> Scenario:
    """A world with too little room, whose workers fail and whose regions are shut for long."""
    world = crowded(world)
    waits = replace(world.waits, capacity=4, timeouts_seconds=(3.0, 8.0, 15.0))
    return replace(world, rate=1.0, requests=40, first_capacity=0, waits=waits, neighbour=None)


def crowds_that_cancel(world: Scenario) -> Scenario:
    """The same, and many think better of it."""
    return replace(crowds(world), cancels=0.5)


def operators(world: Scenario) -> Scenario:
    """A crowded world whose levers move all the time."""
    world = crowds(world)
    waits = replace(world.waits, levers_every_seconds=0.7, capacity=None, hidden_rate=None)
    return replace(world, rate=5.0, first_capacity=None, store=WireFaults(), waits=waits, chaos=Chaos())


def nothing_answers(world: Scenario) -> Scenario:
    """A world whose host never answers until the calm; then it is to be found out soon."""
    waits = Waits(calm_timeout_seconds=12.0)
    world = replace(world, rate=10.0, requests=40, waits=waits, host=HostFaults(no_answer=1.0), chaos=Chaos())
    return replace(world, first_capacity=None, neighbour=None, remains=0.0, concurrency=64, store=WireFaults())


def half_of_it_answers(world: Scenario) -> Scenario:
    """A world in which near half of many calls is lost."""
    world = nothing_answers(world)
    host = HostFaults(no_answer=0.45)
    return replace(world, rate=40.0, requests=120, faults_seconds=8.0, host=host, waits=Waits(), backlog=256)


def games_that_never_listen(world: Scenario) -> Scenario:
    """A world in which half of the games do not come up."""
    return replace(world, waits=Waits(ready_check=True, unready=0.5))


def guests(world: Scenario) -> Scenario:
    """A crowded world whose first region is shut, so that all go elsewhere."""
    world = crowds(world)
    waits = Waits(kept_share=0.6)
    return replace(world, rate=10.0, requests=150, faults_seconds=8.0, waits=waits, chaos=Chaos(), host=HostFaults())


FOCUS: dict[Callable[[Patch], None], Callable[[Scenario], Scenario]] = {
    waking_the_parked: crowds,
    taking_the_cancelled_out_of_their_lots: crowds_that_cancel,
    the_last_resort: nothing_answers,
    the_retry_budget: half_of_it_answers,
    drains: operators,
    telling_who_waits_of_a_lever: operators,
    holding_what_was_read_as_a_pause_came: operators,
    the_ready_check: games_that_never_listen,
    the_kept_share: guests,
    looking_for_survivors: many_losses,
    suspecting_a_short_loss: a_sleeper,
}
FIRST_SEED: dict[Callable[[Patch], None], int] = {
    the_kept_share: 6,
    looking_for_survivors: 13,
    suspecting_a_short_loss: 63,
}
"""Where to begin: what these guard against is rare even there."""
SABOTAGES: Sequence[Callable[[Patch], None]] = tuple(FOCUS)
