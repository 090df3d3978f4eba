"""The engine broken on purpose, one promise at a time: each of these the simulation must find.

In: pytest's monkeypatch. Out: an engine, or a twin's step, that lacks one of its guards. What a sabotage is called is
what it leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from allocator.broker.broker import CommitReply, Condemned, Done, Ending, Hold, Reservation, ReserveReply, Stale
from allocator.broker.memory import MemoryBroker
from allocator.broker.memory_store import MemoryStore, Record
from allocator.contract.identity import session_id
from allocator.engine import allocation, attempt, resolve, stopper, worker
from allocator.engine.course import Course
from allocator.engine.parts import Parts
from allocator.gate.memory import MemoryGate
from allocator.providers.provider import Absent, FindOutcome, Found, LookupFailed, SessionState
from tests.simulation.scenario import Chaos, HostFaults, Scenario
from tests.simulation.world import DEPLOYMENT

PROVIDER = "memory"
Patch = pytest.MonkeyPatch


def look_ups_after_unknown(patch: Patch) -> None:
    """An unknown answer counts as a refusal."""

    async def skipped(course: Course, *_words: Any, **_options: Any) -> None:
        course.suspects.clear()

    _resolve(patch, skipped)


def look_ups_before_the_next_generation(patch: Patch) -> None:
    """An unknown answer begins the next generation unseen."""

    async def hasty(course: Course, parts: Parts, reason: str, **_options: Any) -> None:
        await resolve.next_generation(course, parts, reason)

    _resolve(patch, hasty)


def the_next_generation(patch: Patch) -> None:
    """What is absent is tried again under the same generation, as if nothing could land any more."""

    async def reused(course: Course, _parts: Parts, _reason: str) -> None:
        course.suspects.clear()

    patch.setattr(resolve, "next_generation", reused)
    patch.setattr(allocation, "next_generation", reused)


def condemning_with_the_next_generation(patch: Patch) -> None:
    """The generation that is left behind is not condemned."""
    real = MemoryBroker.next_generation

    async def forgiving(self: MemoryBroker, hold: Hold, _condemned: Sequence[Condemned]) -> int | None:
        return await real(self, hold, [])

    patch.setattr(MemoryBroker, "next_generation", forgiving)


def condemning_with_a_bad_end(patch: Patch) -> None:
    """A request that ends while an answer is unknown leaves the session to itself."""
    real = MemoryBroker.commit

    async def forgiving(self: MemoryBroker, ending: Ending) -> CommitReply:
        return await real(self, replace(ending, condemn=()))

    patch.setattr(MemoryBroker, "commit", forgiving)


def the_doubt_about_a_look_up_that_fails(patch: Patch) -> None:
    """A look-up that fails counts as absent."""
    _find(patch, lambda found: Absent() if isinstance(found, LookupFailed) else found)


def the_look_at_a_sessions_state(patch: Patch) -> None:
    """A session that has ended is adopted."""

    def revived(found: FindOutcome) -> FindOutcome:
        if isinstance(found, Found):
            return Found(replace(found.session, state=SessionState.ALIVE))
        return found

    _find(patch, revived)


def the_doubt_after_a_take_over(patch: Patch) -> None:
    """Whoever takes over begins as if nothing had been called."""
    real = MemoryBroker.reclaim

    async def trusting(self: MemoryBroker, count: int) -> list[Hold]:
        return [replace(hold, uncertain=False) for hold in await real(self, count)]

    patch.setattr(MemoryBroker, "reclaim", trusting)


def the_doubt_after_a_drain(patch: Patch) -> None:
    """What is handed back is always called clean."""
    patch.setattr(allocation.Allocation, "clean", property(lambda _self: True))


def the_fence(patch: Patch) -> None:
    """Whoever speaks of a request is believed."""
    real = MemoryBroker.commit

    def owned(self: MemoryStore, request_id: str, _fence: str) -> Record | None:
        record = self.record(request_id)
        return record if record is not None and record.final is None else None

    async def commit(self: MemoryBroker, ending: Ending) -> CommitReply:
        record = self._store.record(ending.hold.request_id)
        if record is not None:
            record.fence, record.final = ending.hold.fence, None
        return await real(self, ending)

    patch.setattr(MemoryStore, "owned", owned)
    patch.setattr(MemoryBroker, "commit", commit)


def heeding_a_stale_fence(patch: Patch) -> None:
    """A commit that came too late counts as done."""
    real = MemoryBroker.commit

    async def commit(self: MemoryBroker, ending: Ending) -> CommitReply:
        reply = await real(self, ending)
        return Done() if isinstance(reply, Stale) else reply

    patch.setattr(MemoryBroker, "commit", commit)


def renewing(patch: Patch) -> None:
    """A lease is never renewed."""

    async def idle(_self: worker.Worker) -> None:
        return

    patch.setattr(worker.Worker, "_renew", idle)


def taking_over(patch: Patch) -> None:
    """What the dead held is left to them."""

    async def idle(_self: worker.Worker) -> None:
        return

    patch.setattr(worker.Worker, "_take_over", idle)


def settling_the_entry(patch: Patch) -> None:
    """A request is reserved and its entry stays pending."""
    real = MemoryBroker.reserve

    async def reserve(self: MemoryBroker, asks: Sequence[Reservation]) -> list[ReserveReply]:
        pending = {ask.entry.entry_id: self._store.streams[ask.entry.priority].pending for ask in asks}
        kept = {name: entries[name] for name, entries in pending.items() if name in entries}
        replies = await real(self, asks)
        for name, entry in kept.items():
            pending[name][name] = entry
        return replies

    patch.setattr(MemoryBroker, "reserve", reserve)


def the_announcement(patch: Patch) -> None:
    """An end is recorded and told to nobody."""
    patch.setattr(MemoryStore, "announce", lambda *_words: None)


def stopping_the_condemned_alone(patch: Patch) -> None:
    """What no hash names is stopped: absence counts as condemnation."""
    real = stopper.stop_condemned

    async def stop_by_absence(parts: Parts) -> None:
        await real(parts)
        broker: Any = parts.broker
        for provider in parts.providers.values():
            found = await provider.list(parts.policy.deployment, timeout_seconds=1.0)
            for session in found if isinstance(found, tuple) else ():
                if session.id not in broker._inner._store.handed_over:
                    await provider.stop(session.id, timeout_seconds=1.0)

    patch.setattr(worker, "stop_condemned", stop_by_absence)


def stopping(patch: Patch) -> None:
    """The condemned live on."""

    async def idle(_parts: Parts) -> None:
        return

    patch.setattr(worker, "stop_condemned", idle)


def the_landing_horizon(patch: Patch) -> None:
    """The condemned are forgotten as soon as the host knows nothing of them."""
    patch.setattr(stopper, "LANDING_HORIZON_MS", 0)


def looking_again_after_a_stop_failed(patch: Patch) -> None:
    """A stop that failed counts as one that was made."""

    async def once(condemned: Condemned, parts: Parts) -> int | None:
        await parts.providers[condemned.provider].stop(condemned.session_id, timeout_seconds=1.0)
        return None

    patch.setattr(stopper, "_stop", once)


def the_gate(patch: Patch) -> None:
    """The fleet's gate gives whatever is asked."""
    patch.setattr(MemoryGate, "_schedule", lambda _self, _states, count, _now: ([0.0] * count, 0.0))


def the_deadline(patch: Patch) -> None:
    """A request waits for a permit as long as it takes."""
    patch.setattr(Course, "remaining_seconds", lambda _self, _parts: 3600.0)


def the_image(patch: Patch) -> None:
    """A session of another image under the id is condemned with the request that it cannot serve."""
    real = MemoryBroker.commit

    async def commit(self: MemoryBroker, end: Ending) -> CommitReply:
        if end.fields.get("error_code") == "id_conflict":
            name = session_id(DEPLOYMENT, end.hold.request_id, 1)
            end = replace(end, condemn=(Condemned(PROVIDER, name, "of another image"),))
        return await real(self, end)

    patch.setattr(MemoryBroker, "commit", commit)


def _resolve(patch: Patch, instead: Callable[..., Any]) -> None:
    patch.setattr(allocation, "resolve", instead)
    patch.setattr(attempt, "resolve", instead)


def _find(patch: Patch, seen: Callable[[FindOutcome], FindOutcome]) -> None:
    real = resolve._find

    async def find(*words: Any, **options: Any) -> FindOutcome:
        return seen(await real(*words, **options))

    patch.setattr(resolve, "_find", find)


def many_at_once(world: Scenario) -> Scenario:
    """A world in which the rate is what everyone waits for."""
    calm = Chaos()
    return replace(world, rate=3.0, requests=24, faults_seconds=4.0, concurrency=64, backlog=64, chaos=calm)


def many_drains(world: Scenario) -> Scenario:
    """A world in which workers leave all the time, with calls out, in the middle of an answer that never comes."""
    chaos = Chaos(every_seconds=0.5, drain=1.0)
    host = HostFaults(lost_reply=0.5, look_ups=0.9, no_room=0.3, late_seconds_max=4.0)
    return replace(world, chaos=chaos, host=host, drain_seconds=0.3, rate=40.0, workers=2)


FOCUS: dict[Callable[[Patch], None], Callable[[Scenario], Scenario]] = {
    the_gate: many_at_once,
    the_doubt_after_a_drain: many_drains,
}
"""Where a guard is seldom needed, a world that needs it."""
FIRST_SEED: dict[Callable[[Patch], None], int] = {
    the_next_generation: 9,
    the_look_at_a_sessions_state: 20,
    the_fence: 28,
    heeding_a_stale_fence: 28,
    the_image: 19,
}
"""Where to begin: the worlds before do without it."""

SABOTAGES: tuple[Callable[[Patch], None], ...] = (
    look_ups_after_unknown,
    look_ups_before_the_next_generation,
    the_next_generation,
    condemning_with_the_next_generation,
    condemning_with_a_bad_end,
    the_doubt_about_a_look_up_that_fails,
    the_look_at_a_sessions_state,
    the_doubt_after_a_take_over,
    the_doubt_after_a_drain,
    the_fence,
    heeding_a_stale_fence,
    renewing,
    taking_over,
    settling_the_entry,
    the_announcement,
    stopping_the_condemned_alone,
    stopping,
    the_landing_horizon,
    looking_again_after_a_stop_failed,
    the_gate,
    the_deadline,
    the_image,
)
