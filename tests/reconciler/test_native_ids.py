"""A host that takes no ids of ours: its own id and ours name one session, wherever what is in play must be known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from allocator.broker.broker import Condemned, Done, Hold, IsCondemned
from allocator.broker.census import OrphanKind, Sighting, Snapshot, Standing
from allocator.engine.reconciler import reckon
from allocator.providers.provider import LANDING_HORIZON_MS, Session
from tests.broker.test_aftermath import aftermath_of
from tests.reconciler.test_census_conformance import census_of

if TYPE_CHECKING:
    from tests.broker.conftest import House, StreamsHouse, TwinHouse

OURS, NATIVE, TWIN = "0a1b2c3d-0000-5000-8000-000000000001", "f00d", "beef"


async def ends_well(house: House, broker: Any, hold: Hold) -> Any:
    """The reply to handing over the session that is called OURS here and NATIVE there."""
    ending = house.good_end(hold, session=OURS)
    fields = {**ending.fields, "session_id": NATIVE, "session_key": OURS}
    return await broker.commit(replace(ending, session=("edgegap", OURS), native_id=NATIVE, fields=fields))


async def standing(house: Any, native_id: str, session_id: str = OURS) -> Standing:
    (found,) = await census_of(house).standings([Sighting("edgegap", session_id, "m-1", native_id)])
    return found


class Promises:
    @pytest.mark.parametrize("name", [OURS, NATIVE])
    async def test_a_session_that_is_condemned_by_either_id_is_never_handed_over(self, house: House, name: str) -> None:
        broker = await house.prepared()
        hold = await house.held(broker)
        await aftermath_of(house).condemn(Condemned("edgegap", name, "superseded"), "m-1", release=False)
        assert await ends_well(house, broker, hold) == IsCondemned()

    async def test_another_hosts_session_of_the_same_name_is_another(self, house: House) -> None:
        broker = await house.prepared()
        hold = await house.held(broker)
        for name in (OURS, NATIVE):
            await aftermath_of(house).condemn(Condemned("gameye", name, "superseded"), "m-1", release=False)
        assert await ends_well(house, broker, hold) == Done()

    @pytest.mark.parametrize("name", [OURS, NATIVE])
    async def test_a_session_in_play_is_condemned_by_neither_id_but_to_release_it(
        self, house: House, name: str
    ) -> None:
        broker = await house.prepared()
        assert await ends_well(house, broker, await house.held(broker)) == Done()
        condemned = Condemned("edgegap", name, "superseded")
        assert not await aftermath_of(house).condemn(condemned, "m-1", release=False)
        assert await standing(house, NATIVE) is Standing.IN_PLAY
        assert await aftermath_of(house).condemn(condemned, "m-1", release=True)

    async def test_one_beside_which_another_of_its_id_serves_is_a_double_and_may_be_condemned(
        self, house: House
    ) -> None:
        broker = await house.prepared()
        hold = await house.held(broker)
        assert await standing(house, TWIN) is Standing.UNDER_WAY
        assert await ends_well(house, broker, hold) == Done()
        assert (await standing(house, NATIVE), await standing(house, TWIN)) == (Standing.IN_PLAY, Standing.DOUBLED)
        assert await aftermath_of(house).condemn(Condemned("edgegap", TWIN, "doubled"), "m-1", release=False)
        assert (await standing(house, NATIVE), await standing(house, TWIN)) == (Standing.IN_PLAY, Standing.CONDEMNED)

    async def test_a_double_of_what_was_released_is_none_any_more(self, house: House) -> None:
        broker = await house.prepared()
        assert await ends_well(house, broker, await house.held(broker)) == Done()
        assert await aftermath_of(house).release("m-1", ("edgegap", OURS), "released-event")
        assert await standing(house, TWIN) is Standing.OTHERWISE

    async def test_an_answer_whose_record_is_gone_still_says_what_is_in_play(self, house: Any) -> None:
        broker = await house.prepared()
        assert await ends_well(house, broker, await house.held(broker)) == Done()
        if hasattr(house, "store"):
            del house.store.records["m-1"]
        else:
            await house.connection.execute("DEL", house.keys.record("m-1"))
        assert (await standing(house, NATIVE), await standing(house, TWIN)) == (Standing.IN_PLAY, Standing.NO_RECORD)

    async def test_a_release_stops_by_our_id(self, house: House) -> None:
        broker = await house.prepared()
        assert await ends_well(house, broker, await house.held(broker)) == Done()
        over: Any = await aftermath_of(house).seize("m-1")
        assert over.session == ("edgegap", OURS)


class TestTwin(Promises):
    @pytest.fixture
    def house(self, twin: TwinHouse) -> TwinHouse:
        return twin


class TestStreams(Promises):
    @pytest.fixture
    def house(self, streams: StreamsHouse) -> StreamsHouse:
        return streams


@pytest.mark.parametrize(("age_ms", "is_told"), [(1, False), (LANDING_HORIZON_MS + 1, True)])
async def test_a_double_is_to_be_stopped_only_where_no_loss_can_have_undone_its_record(
    twin: TwinHouse, age_ms: int, *, is_told: bool
) -> None:
    broker = await twin.prepared()
    assert await ends_well(twin, broker, await twin.held(broker)) == Done()
    lost_at_ms = 1_000_000
    session = Session(OURS, "h", (), "ams", "", request_id="m-1", native_id=TWIN, created_at_ms=lost_at_ms + age_ms)
    before = Snapshot(lost_at_ms + 10 * LANDING_HORIZON_MS, "d", lost_at_ms, frozenset(), frozenset())
    reckoning = await reckon(census_of(twin), before, "edgegap", [session], "allocator")
    assert [each.public_id for each in reckoning.doubled] == ([TWIN] if is_told else [])
    assert [(each.session_id, each.kind) for each in reckoning.orphans] == (
        [] if is_told else [(TWIN, OrphanKind.SUPERSEDED)]
    )
