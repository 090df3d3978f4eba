"""A cancellation after Redis has lost something: what no record names is looked up before it counts as cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from allocator.broker.aftermath import Order
from allocator.broker.broker import Hold
from allocator.contract.codes import Code
from allocator.contract.identity import session_id
from allocator.contract.request import NAMESPACE_MARK
from allocator.engine.asked import SOUGHT
from allocator.engine.canceller import GENERATIONS_SOUGHT, carry_out
from allocator.engine.observer import Refused
from allocator.providers.provider import LANDING_HORIZON_MS, Created, StartSpec
from allocator.simulator.gameye import RegionSettings

if TYPE_CHECKING:
    from tests.cancel.conftest import Desk
    from tests.engine.conftest import Fleet, Member
    from tests.reconciler.conftest import Stage

DEPLOYMENT = "tests"
DAY_MS = 24 * 3600 * 1000
SLOW = RegionSettings(latency_ms=(1500, 1500))
BODY = b'{"id":"m-1","image":"game","regions":["europe"]}'


def nth(generation: int, request_id: str = "m-1") -> str:
    return session_id(DEPLOYMENT, request_id, generation)


async def start(member: Member, generation: int) -> str:
    """A session of a later generation, of whose record nothing is left."""
    name, spec = nth(generation), StartSpec("game")
    started = await member.parts.providers["gameye"].start(name, "europe", spec, timeout_seconds=5)
    assert isinstance(started, Created)
    return name


@pytest.mark.parametrize("mode", ["stop", "observe"])
async def test_after_a_flush_the_session_of_a_cancelled_id_is_stopped_and_no_other(
    fleet: Fleet, desk: Desk, wait_until: Any, mode: str
) -> None:
    await fleet.begin()
    await fleet.worker(reconciler={"mode": mode})
    answers = await fleet.ended(*await fleet.send_many(3))
    await fleet.connection.execute("FLUSHALL")
    await desk.cancel("m-1")
    await desk.until("m-1", "cancelled")
    kept = {each["session_id"] for each in answers} - {nth(1)}
    await wait_until(lambda: {session.id for session in fleet.alive()} == kept)
    await wait_until(desk.settled)
    assert await desk.states_told("m-1") == ["cancelled"]


@pytest.mark.parametrize("generation", range(1, GENERATIONS_SOUGHT + 1))
async def test_a_session_of_any_generation_that_is_sought_is_found(
    fleet: Fleet, desk: Desk, wait_until: Any, generation: int
) -> None:
    await fleet.begin()
    member = await fleet.worker()
    await start(member, generation)
    await fleet.connection.execute("FLUSHALL")
    await desk.cancel("m-1")
    await desk.until("m-1", "cancelled")
    await wait_until(lambda: not fleet.alive())
    assert await desk.states_told("m-1") == ["cancelled"]


async def test_a_call_that_is_out_when_its_record_is_lost_leaves_no_server(
    fleet: Fleet, desk: Desk, wait_until: Any
) -> None:
    await fleet.begin({"europe": SLOW})
    await fleet.worker(rates={"europe": 1000}, worker={"lease_seconds": 30})
    await fleet.send(id="m-1")
    await wait_until(lambda: fleet.posts() == 1)
    await fleet.connection.execute("FLUSHALL")
    await desk.cancel("m-1")
    await desk.until("m-1", "cancelled")
    await wait_until(lambda: fleet.simulator.ledger.sessions)
    await desk.all_done()
    assert await desk.states_told("m-1") == ["cancelled"]


class TestOnTwins:
    """What one order does, on a clock that the test moves."""

    async def cancel(self, stage: Stage, *, lost_ms_ago: int | None = 0, **policy: Any) -> None:
        parts = stage.parts(**policy)
        if lost_ms_ago is not None:
            stage.store.loss_ms = stage.store.now_ms() - lost_ms_ago
        await carry_out(Order(f"{stage.store.now_ms()}-0", "m-1"), parts)
        assert stage.store.allocation("m-1")["state"] == "cancelled"
        await stage.stop(parts)

    def asked_for(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The ids that the host is asked for from now on."""
        asked, find = [], stage.host.find

        async def noted(name: str, *, timeout_seconds: float) -> Any:
            asked.append(name)
            return await find(name, timeout_seconds=timeout_seconds)

        monkeypatch.setattr(stage.host, "find", noted)
        return asked

    @pytest.mark.parametrize("lost_ms_ago", [None, DAY_MS + 1])
    async def test_without_a_loss_no_provider_is_called_for_an_unknown_id(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch, lost_ms_ago: int | None
    ) -> None:
        asked = self.asked_for(stage, monkeypatch)
        await stage.land(nth(1))
        await self.cancel(stage, lost_ms_ago=lost_ms_ago)
        assert (asked, stage.stopped(), stage.store.condemned) == ([], [], {})
        assert stage.alive() == {nth(1)}

    async def test_long_after_the_loss_only_what_lives_is_condemned(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = self.asked_for(stage, monkeypatch)
        await stage.land(nth(2))
        await self.cancel(stage, lost_ms_ago=LANDING_HORIZON_MS)
        assert asked == [nth(1), nth(2), nth(3)]
        assert stage.stopped() == [nth(2)]
        assert stage.alive() == set()
        assert {each.reason for each in stage.store.condemned.values()} == {SOUGHT}

    async def test_within_the_landing_horizon_absence_proves_nothing(self, stage: Stage) -> None:
        await self.cancel(stage, lost_ms_ago=LANDING_HORIZON_MS - 1000)
        assert set(stage.store.condemned) == {("memory", nth(each)) for each in (1, 2, 3)}
        await stage.land(nth(1))
        stage.shift_ms += 3000
        await stage.stop(stage.parts())
        assert stage.alive() == set()

    async def test_what_a_provider_does_not_say_is_condemned_and_stopped_once_it_answers(self, stage: Stage) -> None:
        await stage.land(nth(1))
        stage.failing = {"find", "stop"}
        await self.cancel(stage, lost_ms_ago=LANDING_HORIZON_MS)
        assert stage.alive() == {nth(1)}
        stage.failing = set()
        stage.shift_ms += 15_000
        await stage.stop(stage.parts())
        assert stage.alive() == set()

    async def test_another_namespaces_session_of_the_same_id_is_left_alone(self, stage: Stage) -> None:
        await stage.land(nth(1), **{NAMESPACE_MARK: "other"})
        await self.cancel(stage, lost_ms_ago=LANDING_HORIZON_MS)
        assert (stage.alive(), stage.stopped()) == ({nth(1)}, [])

    async def test_what_was_condemned_before_the_loss_and_lives_is_stopped_when_it_is_cancelled_after_it(
        self, stage: Stage
    ) -> None:
        await stage.land(nth(1))
        stage.condemn(nth(1))
        await self.cancel(stage)
        assert stage.alive() == set()

    @pytest.mark.parametrize("observes", [False, True])
    async def test_an_older_record_of_the_request_hides_no_later_generation(
        self, stage: Stage, *, observes: bool
    ) -> None:
        """As a backup brings back: under way, in its first generation."""
        await self.hold(stage)
        await stage.land(nth(1))
        await stage.land(nth(2))
        await self.cancel(stage, observes=observes)
        assert stage.alive() == set()
        assert [each.state for each in stage.store.results] == ["cancelled"]

    async def test_after_a_loss_it_does_not_count_that_a_record_says_no_call_is_out(self, stage: Stage) -> None:
        hold = await self.hold(stage)
        await stage.parts().broker.hand_back([(hold, True)])
        await stage.land(nth(1))
        await self.cancel(stage)
        assert stage.alive() == set()

    async def test_a_request_that_was_handed_back_clean_condemns_nothing(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = self.asked_for(stage, monkeypatch)
        hold = await self.hold(stage)
        await stage.parts().broker.hand_back([(hold, True)])
        await self.cancel(stage, lost_ms_ago=None)
        assert (asked, stage.stopped(), stage.store.condemned) == ([], [], {})

    async def test_a_cancelled_request_is_followed_up_by_few_looks_and_stopped_soon_after_it_lands(
        self, stage: Stage
    ) -> None:
        await self.hold(stage)
        await self.cancel(stage, lost_ms_ago=None)
        parts = stage.parts()
        for second in range(1, 700):
            stage.shift_ms += 1000
            if second == 8:
                await stage.land(nth(1))
            await stage.stop(parts)
            if second == 8 + 22:
                assert stage.alive() == set()
        assert stage.store.condemned == {}
        assert 10 <= len(stage.stopped()) <= 16

    async def test_an_order_that_names_no_request_is_buried_once_and_counted_once(self, stage: Stage) -> None:
        parts = stage.parts()
        stage.store.order_by((b"match", b"m-1"))
        (order,) = await parts.aftermath.orders(1)
        await carry_out(order, parts)
        await carry_out(order, parts)
        (letter,) = stage.store.dead_letters
        assert (letter.code, letter.entry.raw) == ("invalid_request", b'{"match":"m-1"}')
        assert letter.message == (
            "the entry has no field 'id'; nothing was cancelled, name the request: "
            "XADD {allocator}:cancellations * id m-1"
        )
        assert [event for event in stage.events if isinstance(event, Refused)] == [
            Refused(Code.INVALID_REQUEST, letter.message, None, buried=True)
        ]
        assert stage.store.orders_pending == {}

    async def hold(self, stage: Stage) -> Hold:
        """A request under way with a body that can be read."""
        hold = await stage.hold(stage.parts())
        record = stage.store.record("m-1")
        assert record is not None
        record.body = BODY
        return hold
