"""What every provider promises, held against the twin and against Gameye's client with the simulated host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Literal, Protocol

import pytest

from allocator.contract.allocation import Port
from allocator.providers.gameye.client import GameyeProvider
from allocator.providers.gameye.credential import FixedToken
from allocator.providers.memory import (
    Asked,
    Failure,
    LateCreate,
    LostReply,
    MemoryProvider,
    NoAnswer,
    OtherId,
    StartCall,
    Step,
)
from allocator.providers.memory_host import MemoryLocation
from allocator.providers.ports import named
from allocator.providers.provider import (
    Absent,
    Conflict,
    Created,
    CredentialRefused,
    Found,
    Gone,
    LookupFailed,
    NoRoom,
    NotFound,
    Offered,
    Provider,
    Rejected,
    SessionState,
    StartOutcome,
    StartSpec,
    StopFailed,
    Stopped,
    Unknown,
)
from allocator.simulator import gameye as simulated

TOKEN = "token"
SPEC = StartSpec(
    image="my-game", env={"A": "b"}, args=("-x",), labels={"allocator": "ours"}, port_names={"7777/udp": "game"}
)
Trouble = Literal["lost", "dropped", "late", "401", "422", "503", "other_id"]


class Backend(Protocol):
    """A provider, and a hand on its host."""

    provider: Provider

    def limit(self, location: str, capacity: int | None, starts_per_second: int | None = None) -> None: ...

    def next_start(self, trouble: Trouble) -> None: ...

    def next_fails(self, call: Asked, *, took_effect: bool = False) -> None: ...

    def put_into(self, session_id: str, state: SessionState) -> None: ...

    def ever_started(self) -> list[str]: ...

    async def close(self) -> None: ...


class TwinBackend:
    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._failures: list[tuple[Asked, Failure]] = []
        self._twin = MemoryProvider(
            {"europe": MemoryLocation(), "us-east": MemoryLocation()}, script=self._step, failures=self._failure
        )
        self.provider: Provider = self._twin

    def limit(self, location: str, capacity: int | None, starts_per_second: int | None = None) -> None:
        self._twin.locations[location] = MemoryLocation(capacity, starts_per_second)

    def next_start(self, trouble: Trouble) -> None:
        steps: dict[Trouble, Step] = {
            "lost": LostReply(),
            "dropped": NoAnswer(),
            "late": LateCreate(0.25),
            "401": CredentialRefused(401, "who?"),
            "422": Rejected(422, "bad"),
            "503": Unknown(503, "away", closes=True),
            "other_id": OtherId("pool-1"),
        }
        self._steps.append(steps[trouble])

    def next_fails(self, call: Asked, *, took_effect: bool = False) -> None:
        self._failures.append((call, Failure("away", took_effect=took_effect)))

    def put_into(self, session_id: str, state: SessionState) -> None:
        self._twin.set_state(session_id, state)

    def ever_started(self) -> list[str]:
        return list(self._twin.ledger)

    async def close(self) -> None:
        await self._twin.close()

    def _step(self, _call: StartCall) -> Step | None:
        return self._steps.pop(0) if self._steps else None

    def _failure(self, call: Asked, _subject: str) -> Failure | None:
        if self._failures and self._failures[0][0] == call:
            return self._failures.pop(0)[1]
        return None


class GameyeBackend:
    def __init__(self, simulator: simulated.GameyeSimulator, settings: simulated.SimulatorSettings) -> None:
        self._simulator = simulator
        self._settings = settings
        self.provider: Provider = GameyeProvider(simulator.base_url, "studio", FixedToken(TOKEN))

    def limit(self, location: str, capacity: int | None, starts_per_second: int | None = None) -> None:
        self._set_region(
            location, simulated.RegionSettings(capacity=capacity, starts_per_second=starts_per_second or None)
        )

    def next_start(self, trouble: Trouble) -> None:
        if trouble == "other_id":
            self._set_region(
                "europe",
                simulated.RegionSettings(warm_pool=simulated.WarmPool(size=1, own_ids=True, labels=SPEC.labels)),
            )
            return
        faults: dict[Trouble, simulated.Fault] = {
            "lost": simulated.LostReply(how=simulated.How.HANG, times=1),
            "dropped": simulated.Dropped(how=simulated.How.HANG, times=1),
            "late": simulated.Late(after_seconds=0.25, times=1),
            "401": simulated.StatusFault(status=401, times=1),
            "422": simulated.StatusFault(status=422, times=1),
            "503": simulated.StatusFault(status=503, times=1),
        }
        self._fault(faults[trouble])

    def next_fails(self, call: Asked, *, took_effect: bool = False) -> None:
        on = (simulated.Operation("locations" if call == "offers" else call),)
        if took_effect:
            self._fault(simulated.LostReply(how=simulated.How.HANG, on=on, times=1))
        else:
            self._fault(simulated.StatusFault(status=500, on=on, times=1))

    def put_into(self, session_id: str, state: SessionState) -> None:
        statuses = {
            SessionState.ALIVE: simulated.Status.RUNNING,
            SessionState.ENDED: simulated.Status.EXITED,
            SessionState.UNCLEAR: simulated.Status.SERVER_UNREACHABLE,
        }
        self._simulator.fleet.set_status(session_id, statuses[state])

    def ever_started(self) -> list[str]:
        return [session.id for session in self._simulator.fleet.sessions()]

    async def close(self) -> None:
        await self.provider.close()

    def _fault(self, fault: simulated.Fault) -> None:
        self._settings = self._settings.model_copy(update={"faults": (fault,)})
        self._simulator.apply(self._settings)

    def _set_region(self, name: str, region: simulated.RegionSettings) -> None:
        self._settings = self._settings.model_copy(update={"regions": {**self._settings.regions, name: region}})
        self._simulator.apply(self._settings)


@pytest.fixture(params=["twin", "gameye"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    if request.param == "twin":
        yield TwinBackend()
        return
    settings = simulated.SimulatorSettings(
        token=TOKEN, regions={"europe": simulated.RegionSettings(), "us-east": simulated.RegionSettings()}
    )
    async with simulated.GameyeSimulator(settings) as simulator:
        backend = GameyeBackend(simulator, settings)
        yield backend
        await backend.close()


async def start(
    backend: Backend, session_id: str, location: str = "europe", spec: StartSpec = SPEC, timeout_seconds: float = 5.0
) -> StartOutcome:
    return await backend.provider.start(session_id, location, spec, timeout_seconds=timeout_seconds)


async def state_of(backend: Backend, session_id: str) -> SessionState | None:
    found = await backend.provider.find(session_id, timeout_seconds=5)
    assert not isinstance(found, LookupFailed), found
    return found.session.state if isinstance(found, Found) else None


async def test_a_started_session_is_found_as_it_was_told(backend: Backend) -> None:
    created = await start(backend, "s-1")
    found = await backend.provider.find("s-1", timeout_seconds=5)
    assert isinstance(created, Created)
    assert isinstance(found, Found)
    (port,) = created.session.ports
    assert port == Port("game", "udp", 7777, port.port)
    assert [port.name for port in found.session.ports] == ["7777/udp"]
    assert found.session.mark == "ours"
    assert found.session.created_at_ms is not None
    told = replace(found.session, ports=named(found.session.ports, SPEC.port_names), mark=None, created_at_ms=None)
    assert told == created.session
    assert (told.location, told.image, told.state) == ("europe", "my-game", SessionState.ALIVE)


async def test_an_id_starts_one_session_for_ever(backend: Backend) -> None:
    assert isinstance(await start(backend, "s-1"), Created)
    assert isinstance(await start(backend, "s-1"), Conflict)
    assert isinstance(await start(backend, "s-1", "us-east"), Conflict)
    await backend.provider.stop("s-1", timeout_seconds=5)
    assert isinstance(await start(backend, "s-1"), Conflict)
    assert backend.ever_started() == ["s-1"]


async def test_a_full_location_creates_nothing_and_the_id_may_go_elsewhere(backend: Backend) -> None:
    backend.limit("europe", capacity=1)
    assert isinstance(await start(backend, "s-1"), Created)
    assert isinstance(await start(backend, "s-2"), NoRoom)
    assert await backend.provider.find("s-2", timeout_seconds=5) == Absent()
    assert isinstance(await start(backend, "s-2", "us-east"), Created)
    await backend.provider.stop("s-1", timeout_seconds=5)
    assert isinstance(await start(backend, "s-3"), Created)


async def test_too_many_starts_in_a_second_are_refused_and_create_nothing(backend: Backend) -> None:
    backend.limit("europe", capacity=None, starts_per_second=2)
    outcomes = await asyncio.gather(*(start(backend, f"s-{number}") for number in range(5)))
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Created"] * 2 + ["NoRoom"] * 3
    assert len(backend.ever_started()) == 2


async def test_an_unknown_location_is_not_found_and_creates_nothing(backend: Backend) -> None:
    assert isinstance(await start(backend, "s-1", "nowhere"), NotFound)
    assert backend.ever_started() == []
    assert isinstance(await start(backend, "s-1"), Created)


@pytest.mark.parametrize(("trouble", "kind"), [("401", CredentialRefused), ("422", Rejected)])
async def test_a_definite_refusal_creates_nothing(backend: Backend, trouble: Trouble, kind: type) -> None:
    backend.next_start(trouble)
    outcome = await start(backend, "s-1")
    assert isinstance(outcome, kind)
    assert backend.ever_started() == []


async def test_a_503_is_unknown_and_asks_for_rest(backend: Backend) -> None:
    backend.next_start("503")
    outcome = await start(backend, "s-1")
    assert isinstance(outcome, Unknown)
    assert (outcome.status, outcome.closes) == (503, True)


async def test_a_lost_reply_is_unknown_and_the_session_is_found(backend: Backend) -> None:
    backend.next_start("lost")
    assert isinstance(await start(backend, "s-1", timeout_seconds=0.25), Unknown)
    assert await state_of(backend, "s-1") is SessionState.ALIVE
    assert isinstance(await start(backend, "s-1"), Conflict)


async def test_a_call_lost_on_its_way_is_unknown_and_leaves_nothing(backend: Backend) -> None:
    backend.next_start("dropped")
    assert isinstance(await start(backend, "s-1", timeout_seconds=0.25), Unknown)
    assert await backend.provider.find("s-1", timeout_seconds=5) == Absent()


async def test_a_late_session_is_absent_at_first_and_there_later(backend: Backend) -> None:
    backend.next_start("late")
    outcome = await start(backend, "s-1")
    assert isinstance(outcome, Unknown)
    assert outcome.status == 504
    assert await backend.provider.find("s-1", timeout_seconds=5) == Absent()
    async with asyncio.timeout(5):
        while await state_of(backend, "s-1") is not SessionState.ALIVE:
            pass


async def test_a_pools_own_id_is_the_sessions_id(backend: Backend) -> None:
    backend.next_start("other_id")
    outcome = await start(backend, "s-1")
    assert isinstance(outcome, Created)
    assert outcome.session.id != "s-1"
    assert await backend.provider.find("s-1", timeout_seconds=5) == Absent()
    assert await state_of(backend, outcome.session.id) is SessionState.ALIVE
    assert await backend.provider.stop(outcome.session.id, timeout_seconds=5) == Stopped()


async def test_a_stop_ends_a_session_once(backend: Backend) -> None:
    await start(backend, "s-1")
    assert await backend.provider.stop("s-1", timeout_seconds=5) == Stopped()
    assert await state_of(backend, "s-1") is SessionState.ENDED
    assert await backend.provider.stop("s-1", timeout_seconds=5) == Gone()
    assert await backend.provider.stop("never-started", timeout_seconds=5) == Gone()


@pytest.mark.parametrize("state", [SessionState.ENDED, SessionState.UNCLEAR])
async def test_a_look_up_tells_the_sessions_state(backend: Backend, state: SessionState) -> None:
    await start(backend, "s-1")
    backend.put_into("s-1", state)
    assert await state_of(backend, "s-1") is state


async def test_a_list_holds_every_session_of_the_mark_that_runs(backend: Backend) -> None:
    await start(backend, "s-1")
    await start(backend, "s-2", "us-east")
    await start(backend, "s-3", spec=replace(SPEC, labels={"allocator": "theirs"}))
    await start(backend, "s-4", spec=replace(SPEC, labels={}))
    await backend.provider.stop("s-2", timeout_seconds=5)
    listed = await backend.provider.list("ours", timeout_seconds=5)
    assert not isinstance(listed, LookupFailed)
    assert {session.id: session.state for session in listed} == {"s-1": SessionState.ALIVE}
    assert await backend.provider.list("nobody's", timeout_seconds=5) == ()


async def offered(backend: Backend) -> set[str]:
    answer = await backend.provider.offers("my-game", timeout_seconds=5)
    assert isinstance(answer, Offered)
    return set(answer.locations)


async def test_a_full_location_is_not_offered_until_a_session_ends_there(backend: Backend) -> None:
    assert await offered(backend) == {"europe", "us-east"}
    backend.limit("europe", 1)
    await start(backend, "s-1")
    assert isinstance(await start(backend, "s-2"), NoRoom)
    assert await offered(backend) == {"us-east"}
    await backend.provider.stop("s-1", timeout_seconds=5)
    assert await offered(backend) == {"europe", "us-east"}


async def test_a_location_that_was_asked_too_fast_is_offered_all_the_same(backend: Backend) -> None:
    backend.limit("europe", None, 1)
    async with asyncio.timeout(5):
        number = 0
        while not isinstance(await start(backend, f"s-{number}"), NoRoom):
            number += 1
    assert await offered(backend) == {"europe", "us-east"}


async def test_offers_that_fail_say_nothing_of_any_location(backend: Backend) -> None:
    backend.next_fails("offers")
    assert isinstance(await backend.provider.offers("my-game", timeout_seconds=5), LookupFailed)
    assert await offered(backend) == {"europe", "us-east"}


async def test_a_failed_look_up_is_no_absence_and_a_failed_stop_no_end(backend: Backend) -> None:
    await start(backend, "s-1")
    backend.next_fails("find")
    assert isinstance(await backend.provider.find("s-1", timeout_seconds=5), LookupFailed)
    backend.next_fails("list")
    assert isinstance(await backend.provider.list("ours", timeout_seconds=5), LookupFailed)
    backend.next_fails("stop")
    assert isinstance(await backend.provider.stop("s-1", timeout_seconds=5), StopFailed)
    assert await state_of(backend, "s-1") is SessionState.ALIVE


async def test_a_stop_whose_reply_is_lost_has_failed_and_may_have_ended_the_session(backend: Backend) -> None:
    await start(backend, "s-1")
    backend.next_fails("stop", took_effect=True)
    assert isinstance(await backend.provider.stop("s-1", timeout_seconds=0.25), StopFailed)
    assert await state_of(backend, "s-1") is SessionState.ENDED
    assert await backend.provider.stop("s-1", timeout_seconds=5) == Gone()


async def test_no_call_outlives_its_timeout(backend: Backend) -> None:
    backend.next_start("dropped")
    async with asyncio.timeout(2):
        assert isinstance(await start(backend, "s-1", timeout_seconds=0.05), Unknown)


async def test_a_cancelled_start_is_cancelled_and_may_have_made_its_session(backend: Backend) -> None:
    backend.next_start("lost")
    starting = asyncio.create_task(start(backend, "s-1"))
    async with asyncio.timeout(5):
        while await backend.provider.find("s-1", timeout_seconds=5) == Absent():
            pass
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert await state_of(backend, "s-1") is SessionState.ALIVE
