"""What the reconciler and the stopper do and leave alone, on twins: minutes pass here by moving a clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from allocator.broker.census import OrphanKind, Tally
from allocator.broker.memory_census import MemoryCensus
from allocator.contract.request import MARK, NAMESPACE_MARK
from allocator.engine.observer import LeftAlone, Reconciled, SessionStopped
from allocator.engine.reconciler import Reconciler
from allocator.providers.provider import LANDING_HORIZON_MS, LookupFailed, Session, SessionState

if TYPE_CHECKING:
    from tests.reconciler.conftest import Stage

NOTHING = {"unexplained": 0, "superseded": 0}
MINUTE_MS = 60_000


def counts(told: Reconciled) -> dict[str, int]:
    return {kind: count for kind, count in told.orphans.items() if count}


def kept(stage: Stage) -> list[str]:
    """The orphans that the last pass left to be read."""
    return [orphan.session_id for orphan in stage.store.orphans["memory"][2]]


async def test_a_session_in_play_is_no_orphan_however_old_it_is(stage: Stage) -> None:
    parts = stage.parts()
    await stage.land("s-1")
    await stage.allocated(parts, "s-1")
    stage.shift_ms += 2 * 60 * MINUTE_MS
    assert (await stage.look(parts)).orphans == NOTHING


async def test_a_session_whose_request_is_under_way_is_no_orphan(stage: Stage) -> None:
    parts = stage.parts()
    await stage.hold(parts)
    await stage.land("s-1")
    stage.shift_ms += 2 * LANDING_HORIZON_MS
    assert (await stage.look(parts)).orphans == NOTHING


async def test_without_a_record_the_young_are_waited_for_and_the_old_are_counted(stage: Stage) -> None:
    parts = stage.parts()
    await stage.land("s-1")
    stage.shift_ms += LANDING_HORIZON_MS - MINUTE_MS
    assert (await stage.look(parts)).orphans == NOTHING
    stage.shift_ms += MINUTE_MS
    assert counts(await stage.look(parts)) == {"unexplained": 1}
    assert kept(stage) == ["s-1"]


async def test_what_the_records_contradict_is_superseded_at_once(stage: Stage) -> None:
    parts = stage.parts()
    for name in ("s-1", "s-2", "s-3"):
        await stage.land(name, "m-2" if name == "s-3" else "m-1")
    await stage.allocated(parts, "s-1")
    await stage.expired(parts, "m-2")
    assert counts(await stage.look(parts)) == {"superseded": 2}
    assert kept(stage) == ["s-2", "s-3"]


async def test_nothing_is_ever_stopped_by_absence(stage: Stage) -> None:
    parts = stage.parts()
    for number in range(5):
        await stage.land(f"s-{number}", f"m-{number}")
        await stage.allocated(parts, f"s-{number}", f"m-{number}")
    stage.shift_ms += 2 * LANDING_HORIZON_MS
    stage.store.forget()
    for _ in range(5):
        assert counts(await stage.look(parts)) == {"unexplained": 5}
        await stage.stop(parts)
        stage.shift_ms += MINUTE_MS
    assert stage.stopped() == []


async def test_what_has_ended_or_bears_another_mark_or_namespace_is_nobodys_here(stage: Stage) -> None:
    parts = stage.parts()
    await stage.land("ended")
    stage.host.set_state("ended", SessionState.ENDED)
    await stage.land("other deployment", **{MARK: "other"})
    await stage.land("other namespace", **{NAMESPACE_MARK: "other"})
    stage.shift_ms += 2 * LANDING_HORIZON_MS
    assert (await stage.look(parts)).orphans == NOTHING


async def test_a_session_that_cannot_be_reached_is_an_orphan_as_soon_as_it_runs_again(stage: Stage) -> None:
    parts = stage.parts()
    await stage.land("s-1")
    stage.host.set_state("s-1", SessionState.UNCLEAR)
    stage.shift_ms += 2 * LANDING_HORIZON_MS
    assert (await stage.look(parts)).orphans == NOTHING
    stage.host.set_state("s-1", SessionState.ALIVE)
    assert counts(await stage.look(parts)) == {"unexplained": 1}


async def test_a_condemned_session_that_is_alive_is_stopped_at_the_next_turn(stage: Stage) -> None:
    parts = stage.parts()
    await stage.land("s-1")
    stage.condemn("s-1", due_in_ms=MINUTE_MS)
    await stage.stop(parts)
    assert stage.alive() == {"s-1"}
    told = await stage.look(parts)
    assert (told.orphans, told.condemned_alive) == (NOTHING, 1)
    assert stage.stopped() == []
    await stage.stop(parts)
    assert stage.alive() == set()
    assert (await stage.look(parts)).condemned_alive == 0


async def test_in_a_minute_no_more_of_the_living_are_handed_over_than_allowed(stage: Stage) -> None:
    parts, other = stage.parts(stops_per_minute_max=2), stage.parts(stops_per_minute_max=2)
    for number in range(5):
        await stage.land(f"s-{number}")
        stage.condemn(f"s-{number}", due_in_ms=60 * MINUTE_MS)
    for left in (3, 1, 0):
        for worker in (parts, other, parts):
            await stage.look(worker)
            await stage.stop(worker)
        assert len(stage.alive()) == left
        stage.shift_ms += MINUTE_MS + 1


async def test_a_late_lander_past_its_horizon_is_told_and_left_alone(stage: Stage) -> None:
    parts = stage.parts()
    await stage.expired(parts)
    stage.condemn("s-1")
    await stage.stop(parts)
    stage.shift_ms += LANDING_HORIZON_MS
    await stage.stop(parts)
    assert stage.store.condemned == {}
    await stage.land("s-1")
    assert counts(await stage.look(parts)) == {"superseded": 1}
    stops = stage.stopped()
    await stage.stop(parts)
    assert stage.stopped() == stops
    assert stage.alive() == {"s-1"}


async def test_a_list_that_fails_changes_nothing(stage: Stage) -> None:
    parts = stage.parts()
    await stage.land("s-1")
    await stage.land("s-2")
    stage.condemn("s-2", due_in_ms=60 * MINUTE_MS)
    stage.shift_ms += 2 * LANDING_HORIZON_MS
    before = await stage.look(parts)
    due = dict(stage.store.due_ms)
    stage.failing = {"list"}
    told = await stage.look(parts)
    assert (told.orphans, told.condemned_alive) == (before.orphans, before.condemned_alive)
    assert told.failures == {"memory": "out of order"}
    assert kept(stage) == ["s-1"]
    assert stage.store.due_ms == due
    assert stage.alive() == {"s-1", "s-2"}


class Meanwhile:
    """A host whose list is taken first; then something happens, and the list arrives."""

    def __init__(self, stage: Stage, happens: Any) -> None:
        self._host = stage.host
        self._happens = happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)

    async def list(self, mark: str, *, timeout_seconds: float) -> tuple[Session, ...] | LookupFailed:
        found = await self._host.list(mark, timeout_seconds=timeout_seconds)
        await self._happens()
        return found


async def test_a_request_that_is_allocated_while_the_list_is_under_way_makes_no_orphan(stage: Stage) -> None:
    parts = stage.parts()
    await stage.land("s-1")
    stage.shift_ms += 2 * LANDING_HORIZON_MS
    stage.host = Meanwhile(stage, lambda: stage.allocated(parts, "s-1"))  # type: ignore[assignment]  # stands in for it
    assert (await stage.look(stage.parts())).orphans == NOTHING


async def test_a_request_that_ends_badly_while_the_list_is_under_way_makes_no_orphan(stage: Stage) -> None:
    parts = stage.parts()
    await stage.land("s-1")
    hold = await stage.hold(parts)

    async def cancelled() -> None:
        stage.store.records[hold.request_id].final = "cancelled"
        stage.store.leases.clear()
        await parts.providers["memory"].stop("s-1", timeout_seconds=1)

    stage.host = Meanwhile(stage, cancelled)  # type: ignore[assignment]  # stands in for it
    assert (await stage.look(stage.parts())).orphans == NOTHING


async def test_a_session_that_the_stopper_ends_while_the_list_is_under_way_makes_no_orphan(stage: Stage) -> None:
    parts = stage.parts()
    await stage.land("s-1")
    stage.condemn("s-1", "release m-1 1-0")
    stage.shift_ms += 2 * LANDING_HORIZON_MS
    stage.host = Meanwhile(stage, lambda: stage.stop(parts))  # type: ignore[assignment]  # stands in for it
    told = await stage.look(stage.parts())
    assert stage.store.condemned == {}
    assert (told.orphans, told.condemned_alive) == (NOTHING, 0)


async def test_one_worker_at_a_time_asks_the_provider_and_every_worker_tells_the_counts(stage: Stage) -> None:
    await stage.land("s-1")
    stage.shift_ms += 2 * LANDING_HORIZON_MS
    first, second = stage.parts(), stage.parts()
    await stage.look(first)
    stage.failing = {"list"}
    await Reconciler(second, MemoryCensus(stage.store)).look()
    told = [event for event in stage.events if isinstance(event, Reconciled)]
    assert [(each.orphans["unexplained"], each.passed, each.failures) for each in told] == [
        (1, True, {}),
        (1, False, {}),
    ]


async def test_nothing_is_told_before_the_first_pass(stage: Stage) -> None:
    stage.store.turn_until_ms = stage.store.now_ms() + MINUTE_MS
    await Reconciler(stage.parts(), MemoryCensus(stage.store)).look()
    assert stage.events == []


class TestObserve:
    """`reconciler.mode = "observe"`."""

    async def test_no_condemned_session_is_stopped_but_counted(self, stage: Stage) -> None:
        parts = stage.parts(observes=True)
        await stage.land("s-1")
        stage.condemn("s-1")
        for _ in range(30):
            await stage.stop(parts)
            assert (await stage.look(parts)).condemned_alive == 1
            stage.shift_ms += MINUTE_MS
        assert stage.stopped() == []
        assert set(stage.store.condemned) == {("memory", "s-1")}
        assert stage.store.stops == {}

    async def test_what_a_matchmaker_wants_released_is_stopped(self, stage: Stage) -> None:
        parts = stage.parts(observes=True)
        await stage.land("s-1")
        await stage.allocated(parts, "s-1")
        stage.condemn("s-1", "release m-1 1-0")
        await stage.stop(parts)
        assert stage.alive() == set()
        assert stage.store.allocation("m-1")["state"] == "released"

    async def test_what_never_landed_is_forgotten_after_its_horizon(self, stage: Stage) -> None:
        parts = stage.parts(observes=True)
        stage.condemn("s-1")
        stage.shift_ms += LANDING_HORIZON_MS - 1000
        await stage.stop(parts)
        assert len(stage.store.condemned) == 1
        stage.shift_ms += MINUTE_MS
        stage.failing = {"find"}
        await stage.stop(parts)
        assert len(stage.store.condemned) == 1
        stage.failing = set()
        stage.shift_ms += MINUTE_MS
        await stage.stop(parts)
        assert stage.store.condemned == {}
        assert stage.stopped() == []

    async def test_in_stop_mode_again_the_same_sessions_are_stopped(self, stage: Stage) -> None:
        await stage.land("s-1")
        stage.condemn("s-1")
        await stage.stop(stage.parts(observes=True))
        assert stage.alive() == {"s-1"}
        stage.shift_ms += MINUTE_MS
        await stage.stop(stage.parts())
        assert stage.alive() == set()
        assert SessionStopped("memory", "s-1", "start answered 504") in stage.events


async def test_what_was_condemned_before_a_loss_and_lives_becomes_an_orphan(stage: Stage) -> None:
    parts = stage.parts()
    await stage.land("s-1")
    stage.condemn("s-1", due_in_ms=60 * MINUTE_MS)
    stage.shift_ms += 2 * LANDING_HORIZON_MS
    stage.store.loss_ms = stage.store.now_ms()
    assert (await stage.look(parts)).condemned_alive == 1
    await stage.stop(parts)
    assert LeftAlone("memory", "s-1", "start answered 504") in stage.events
    assert counts(await stage.look(parts)) == {"unexplained": 1}
    assert stage.stopped() == []


async def test_tallies_of_a_provider_that_is_gone_are_not_told(stage: Stage) -> None:
    gone = Tally({OrphanKind.UNEXPLAINED: 7, OrphanKind.SUPERSEDED: 0}, 0)
    await MemoryCensus(stage.store).keep("edgegap", gone, [])
    assert (await stage.look(stage.parts())).orphans == NOTHING


@pytest.mark.parametrize("request_id", [None, "m-1"])
async def test_a_session_without_a_request_label_is_listed_as_unexplained(stage: Stage, request_id: str | None) -> None:
    await stage.land("s-1", request_id)
    stage.shift_ms += 2 * LANDING_HORIZON_MS
    assert counts(await stage.look(stage.parts())) == {"unexplained": 1}
