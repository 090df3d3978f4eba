"""What every provider promises, held against the twin, and against each client with its simulated host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from allocator.contract.allocation import Port
from allocator.providers.edgegap import follower
from allocator.providers.ports import named
from allocator.providers.provider import (
    Absent,
    Broken,
    Conflict,
    Created,
    CredentialRefused,
    Found,
    Gone,
    LookupFailed,
    NoRoom,
    NotFound,
    Offered,
    Rejected,
    SessionState,
    StartOutcome,
    StartSpec,
    StopFailed,
    Stopped,
    Unknown,
)
from allocator.simulator import edgegap as simulated_edgegap
from allocator.simulator import gameye as simulated
from tests.providers.backends import TOKEN, Backend, EdgegapBackend, GameyeBackend, Trouble, TwinBackend, an_id
from tests.providers.example_backend import ExampleBackend
from tests.providers.example_host import AcmeHost

S1, S2, S3, S4 = (an_id(f"s-{number}") for number in range(1, 5))


@pytest.fixture(params=["twin", "gameye", "example", "edgegap"])
async def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Backend]:
    match request.param:
        case "twin":
            yield TwinBackend()
        case "gameye":
            regions = {"europe": simulated.RegionSettings(), "us-east": simulated.RegionSettings()}
            settings = simulated.SimulatorSettings(token=TOKEN, regions=regions)
            async with simulated.GameyeSimulator(settings) as simulator:
                gameye = GameyeBackend(simulator, settings)
                yield gameye
                await gameye.close()
        case "example":
            async with AcmeHost() as acme:
                example = ExampleBackend(acme)
                yield example
                await example.close()
        case _:
            monkeypatch.setattr(follower, "LOOK_SECONDS", 0.02)
            places = {
                "europe": simulated_edgegap.LocationSettings(lat=52.37, lon=4.89),
                "us-east": simulated_edgegap.LocationSettings(lat=40.71, lon=-74.01),
            }
            edgegap_settings = simulated_edgegap.SimulatorSettings(
                token=TOKEN,
                locations=places,
                start_seconds=(0, 0),
                stop_seconds=0,
                refused_is_kept=False,
                rates=simulated_edgegap.RateSettings(deploy=None, status=None, list=None),
            )
            async with simulated_edgegap.EdgegapSimulator(edgegap_settings) as edgegap_simulator:
                edgegap = EdgegapBackend(edgegap_simulator, edgegap_settings)
                yield edgegap
                await edgegap.close()


async def start(
    backend: Backend,
    session_id: str,
    location: str = "europe",
    spec: StartSpec | None = None,
    timeout_seconds: float = 5.0,
) -> StartOutcome:
    return await backend.provider.start(session_id, location, spec or backend.spec, timeout_seconds=timeout_seconds)


async def state_of(backend: Backend, session_id: str) -> SessionState | None:
    found = await backend.provider.find(session_id, timeout_seconds=5)
    assert not isinstance(found, LookupFailed), found
    return found.session.state if isinstance(found, Found) else None


async def has_ended(backend: Backend, session_id: str) -> bool:
    """Whether a look-up says so; a host that takes no ids forgets what has ended."""
    state = await state_of(backend, session_id)
    return state is SessionState.ENDED or (state is None and not backend.takes_ids)


async def test_a_started_session_is_found_as_it_was_told(backend: Backend) -> None:
    created = await start(backend, S1)
    found = await backend.provider.find(S1, timeout_seconds=5)
    assert isinstance(created, Created)
    assert isinstance(found, Found)
    (port,) = created.session.ports
    assert port == Port("game", "udp", 7777, port.port)
    assert [port.name for port in found.session.ports] == [backend.port_name]
    assert found.session.mark == "ours"
    assert found.session.created_at_ms is not None
    ports = named(found.session.ports, backend.spec.port_names)
    told = replace(found.session, ports=ports, mark=None, created_at_ms=None)
    assert told == created.session
    assert told.id == S1
    assert await state_of(backend, told.public_id) is SessionState.ALIVE
    assert (told.location, told.image, told.state) == ("europe", "my-game", SessionState.ALIVE)


async def test_an_id_starts_one_session_for_ever_where_the_host_takes_it(backend: Backend) -> None:
    assert isinstance(await start(backend, S1), Created)
    if not backend.takes_ids:
        # it is never sent twice, and if it lands twice both are ended by it
        assert isinstance(await start(backend, S1), Created)
        assert await backend.provider.stop(S1, timeout_seconds=5) == Stopped()
        assert await backend.provider.find(S1, timeout_seconds=5) == Absent()
        return
    assert isinstance(await start(backend, S1), Conflict)
    assert isinstance(await start(backend, S1, "us-east"), Conflict)
    await backend.provider.stop(S1, timeout_seconds=5)
    assert isinstance(await start(backend, S1), Conflict)
    assert backend.ever_started() == [S1]


async def test_a_full_location_creates_nothing_and_the_id_may_go_elsewhere(backend: Backend) -> None:
    backend.limit("europe", capacity=1)
    assert isinstance(await start(backend, S1), Created)
    assert isinstance(await start(backend, S2), backend.full)
    assert await backend.provider.find(S2, timeout_seconds=5) == Absent()
    assert isinstance(await start(backend, S2, "us-east"), Created)
    await backend.provider.stop(S1, timeout_seconds=5)
    assert isinstance(await start(backend, S3), Created)


async def test_too_many_starts_in_a_second_are_refused_and_create_nothing(backend: Backend) -> None:
    backend.limit("europe", capacity=None, starts_per_second=2)
    outcomes = await asyncio.gather(*(start(backend, an_id(f"s-{number}")) for number in range(5)))
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Created"] * 2 + ["NoRoom"] * 3
    assert len(backend.ever_started()) == 2


async def test_an_unknown_location_is_not_found_and_creates_nothing(backend: Backend) -> None:
    assert isinstance(await start(backend, S1, "nowhere"), NotFound)
    assert backend.ever_started() == []
    assert isinstance(await start(backend, S1), Created)


@pytest.mark.parametrize(("trouble", "kind"), [("401", CredentialRefused), ("rejected", Rejected)])
async def test_a_definite_refusal_creates_nothing(backend: Backend, trouble: Trouble, kind: type) -> None:
    backend.next_start(trouble)
    outcome = await start(backend, S1)
    assert isinstance(outcome, kind)
    assert backend.ever_started() == []


async def test_a_503_is_unknown_and_asks_for_rest(backend: Backend) -> None:
    backend.next_start("503")
    outcome = await start(backend, S1)
    assert isinstance(outcome, Unknown)
    assert (outcome.status, outcome.closes) == (503, True)


async def test_a_lost_reply_is_unknown_and_the_session_is_found(backend: Backend) -> None:
    backend.next_start("lost")
    assert isinstance(await start(backend, S1, timeout_seconds=0.25), Unknown)
    assert await state_of(backend, S1) is SessionState.ALIVE
    assert isinstance(await start(backend, S1), Conflict) is backend.takes_ids


async def test_a_call_lost_on_its_way_is_unknown_and_leaves_nothing(backend: Backend) -> None:
    backend.next_start("dropped")
    assert isinstance(await start(backend, S1, timeout_seconds=0.25), Unknown)
    assert await backend.provider.find(S1, timeout_seconds=5) == Absent()


async def test_a_late_session_is_absent_at_first_and_there_later(backend: Backend) -> None:
    backend.next_start("late")
    outcome = await start(backend, S1)
    assert isinstance(outcome, Unknown)
    assert outcome.status == 504
    assert await backend.provider.find(S1, timeout_seconds=5) == Absent()
    async with asyncio.timeout(5):
        while await state_of(backend, S1) is not SessionState.ALIVE:
            pass


async def test_an_id_of_the_hosts_own_names_the_session(backend: Backend) -> None:
    if backend.takes_ids:  # then only a warm pool gives its own
        backend.next_start("other_id")
    outcome = await start(backend, S1)
    assert isinstance(outcome, Created)
    own_id = outcome.session.public_id
    assert own_id != S1
    assert (await backend.provider.find(S1, timeout_seconds=5) == Absent()) is backend.takes_ids
    assert await state_of(backend, own_id) is SessionState.ALIVE
    assert await backend.provider.stop(own_id, timeout_seconds=5) == Stopped()
    assert await has_ended(backend, own_id)


async def test_a_stop_ends_a_session_once(backend: Backend) -> None:
    await start(backend, S1)
    assert await backend.provider.stop(S1, timeout_seconds=5) == Stopped()
    assert await has_ended(backend, S1)
    assert await backend.provider.stop(S1, timeout_seconds=5) == Gone()
    assert await backend.provider.stop(an_id("never-started"), timeout_seconds=5) == Gone()


@pytest.mark.parametrize("number", [0, 1])
async def test_a_look_up_tells_the_sessions_state(backend: Backend, number: int) -> None:
    state = backend.states[number]
    await start(backend, S1)
    backend.put_into(S1, state)
    assert await state_of(backend, S1) is state


async def test_a_list_holds_every_session_of_the_mark_that_runs(backend: Backend) -> None:
    await start(backend, S1)
    await start(backend, S2, "us-east")
    await start(backend, S3, spec=replace(backend.spec, labels={"allocator": "theirs"}))
    await start(backend, S4, spec=replace(backend.spec, labels={}))
    await backend.provider.stop(S2, timeout_seconds=5)
    listed = await backend.provider.list("ours", timeout_seconds=5)
    assert not isinstance(listed, LookupFailed)
    assert {session.id: session.state for session in listed} == {S1: SessionState.ALIVE}
    assert await backend.provider.list("nobody's", timeout_seconds=5) == ()


async def offered(backend: Backend) -> set[str]:
    answer = await backend.provider.offers("my-game", timeout_seconds=5)
    assert isinstance(answer, Offered)
    return {each for each in ("europe", "us-east") if answer.has_room(each)}


async def test_a_full_location_is_not_offered_until_a_session_ends_there(backend: Backend) -> None:
    assert await offered(backend) == {"europe", "us-east"}
    backend.limit("europe", 1)
    await start(backend, S1)
    assert isinstance(await start(backend, S2), backend.full)
    # who says of a start that there is no room is not asked where there is
    assert await offered(backend) == {"us-east", *(["europe"] if backend.full is Broken else [])}
    await backend.provider.stop(S1, timeout_seconds=5)
    assert await offered(backend) == {"europe", "us-east"}


async def test_a_location_that_was_asked_too_fast_is_offered_all_the_same(backend: Backend) -> None:
    backend.limit("europe", None, 1)
    async with asyncio.timeout(5):
        number = 0
        while not isinstance(await start(backend, an_id(f"s-{number}")), NoRoom):
            number += 1
    assert await offered(backend) == {"europe", "us-east"}


async def test_offers_that_fail_say_nothing_of_any_location(backend: Backend) -> None:
    if backend.full is NoRoom:
        backend.next_fails("offers")
        assert isinstance(await backend.provider.offers("my-game", timeout_seconds=5), LookupFailed)
    assert await offered(backend) == {"europe", "us-east"}


async def test_a_failed_look_up_is_no_absence_and_a_failed_stop_no_end(backend: Backend) -> None:
    await start(backend, S1)
    backend.next_fails("find")
    assert isinstance(await backend.provider.find(S1, timeout_seconds=5), LookupFailed)
    backend.next_fails("list")
    assert isinstance(await backend.provider.list("ours", timeout_seconds=5), LookupFailed)
    backend.next_fails("stop")
    assert isinstance(await backend.provider.stop(S1, timeout_seconds=5), StopFailed)
    assert await state_of(backend, S1) is SessionState.ALIVE


async def test_a_stop_whose_reply_is_lost_has_failed_and_may_have_ended_the_session(backend: Backend) -> None:
    await start(backend, S1)
    backend.next_fails("stop", took_effect=True)
    assert isinstance(await backend.provider.stop(S1, timeout_seconds=0.25), StopFailed)
    assert await has_ended(backend, S1)
    assert await backend.provider.stop(S1, timeout_seconds=5) == Gone()


async def test_no_call_outlives_its_timeout(backend: Backend) -> None:
    backend.next_start("dropped")
    async with asyncio.timeout(2):
        assert isinstance(await start(backend, S1, timeout_seconds=0.05), Unknown)


async def test_a_cancelled_start_is_cancelled_and_may_have_made_its_session(backend: Backend) -> None:
    backend.next_start("lost")
    starting = asyncio.create_task(start(backend, S1))
    async with asyncio.timeout(5):
        while await backend.provider.find(S1, timeout_seconds=5) == Absent():
            pass
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert await state_of(backend, S1) is SessionState.ALIVE
