"""A provider and a hand on its host, for each provider that the conformance suite is held against."""

from __future__ import annotations

import uuid
from typing import Literal, Protocol

from allocator.providers.credential import FixedToken
from allocator.providers.edgegap.client import EdgegapProvider
from allocator.providers.edgegap.pace import Kind
from allocator.providers.edgegap.tags import key_tag, read_tags
from allocator.providers.gameye.client import GameyeProvider
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
from allocator.providers.provider import (
    Broken,
    CredentialRefused,
    NoRoom,
    Provider,
    Rejected,
    SessionState,
    StartSpec,
    Unknown,
)
from allocator.simulator import edgegap as simulated_edgegap
from allocator.simulator import gameye as simulated

TOKEN = "token"
SPEC = StartSpec(
    image="my-game", env={"A": "b"}, args=("-x",), labels={"allocator": "ours"}, port_names={"7777/udp": "game"}
)
EDGEGAP_SPEC = StartSpec(
    image="my-game", version="v1", env={"A": "b"}, labels={"allocator": "ours"}, port_names={"7777/udp": "game"}
)
Trouble = Literal["lost", "dropped", "late", "401", "rejected", "503", "other_id"]


def an_id(name: str) -> str:
    """A session id as the engine makes them."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


class Backend(Protocol):
    """A provider, and a hand on its host."""

    provider: Provider
    spec: StartSpec
    takes_ids: bool
    """Whether the host takes our ids: then one starts a single session for ever, and is found after its end."""
    port_name: str
    """What the host calls the one port."""
    states: tuple[SessionState, ...]
    """Those that a session can be put into besides being alive."""
    full: type[NoRoom | Broken]
    """What a start is answered where there is no room."""

    def limit(self, location: str, capacity: int | None, starts_per_second: int | None = None) -> None: ...

    def next_start(self, trouble: Trouble) -> None: ...

    def next_fails(self, call: Asked, *, took_effect: bool = False) -> None: ...

    def put_into(self, session_id: str, state: SessionState) -> None: ...

    def ever_started(self) -> list[str]: ...

    async def close(self) -> None: ...


class TwinBackend:
    spec = SPEC
    takes_ids = True
    port_name = "7777/udp"
    states: tuple[SessionState, ...] = (SessionState.ENDED, SessionState.UNCLEAR)
    full: type[NoRoom | Broken] = NoRoom

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
            "rejected": Rejected(422, "bad"),
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
    spec = SPEC
    takes_ids = True
    port_name = "7777/udp"
    states: tuple[SessionState, ...] = (SessionState.ENDED, SessionState.UNCLEAR)
    full: type[NoRoom | Broken] = NoRoom

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
            "rejected": simulated.StatusFault(status=422, times=1),
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


class EdgegapBackend:
    spec = EDGEGAP_SPEC
    takes_ids = False
    port_name = "gameport"
    states: tuple[SessionState, ...] = (SessionState.ENDED, SessionState.PENDING)
    full: type[NoRoom | Broken] = Broken

    def __init__(
        self, simulator: simulated_edgegap.EdgegapSimulator, settings: simulated_edgegap.SimulatorSettings
    ) -> None:
        self._simulator = simulator
        self._settings = settings
        places = {name: (place.lat, place.lon) for name, place in settings.locations.items()}
        credential = FixedToken(TOKEN, "edgegap")
        self.provider: Provider = EdgegapProvider(
            simulator.base_url, "studio", credential, locations=places, pace=unpaced
        )

    def limit(self, location: str, capacity: int | None, starts_per_second: int | None = None) -> None:
        place = self._settings.locations[location].model_copy(update={"capacity": capacity})
        rates = simulated_edgegap.RateSettings(deploy=starts_per_second, status=None, list=None)
        self._set(locations={**self._settings.locations, location: place}, rates=rates)

    def next_start(self, trouble: Trouble) -> None:
        hang = simulated_edgegap.How.HANG
        faults: dict[Trouble, simulated_edgegap.Fault] = {
            "lost": simulated_edgegap.LostReply(how=hang, times=1),
            "dropped": simulated_edgegap.Dropped(how=hang, times=1),
            "late": simulated_edgegap.Late(after_seconds=0.25, times=1),
            "401": simulated_edgegap.StatusFault(status=401, times=1),
            "rejected": simulated_edgegap.StatusFault(status=400, times=1),
            "503": simulated_edgegap.StatusFault(status=503, times=1),
        }
        self._set(faults=(faults[trouble],))

    def next_fails(self, call: Asked, *, took_effect: bool = False) -> None:
        operations = {"find": "list", "list": "list", "stop": "stop"}
        on = (simulated_edgegap.Operation(operations[call]),)
        hang = simulated_edgegap.How.HANG
        fault: simulated_edgegap.Fault = simulated_edgegap.StatusFault(status=500, on=on, times=1)
        if took_effect:
            fault = simulated_edgegap.LostReply(how=hang, on=on, times=1)
        self._set(faults=(fault,))

    def put_into(self, session_id: str, state: SessionState) -> None:
        states = {
            SessionState.ENDED: simulated_edgegap.State.ERROR,
            SessionState.PENDING: simulated_edgegap.State.SCANNING,
        }
        (deployment,) = self._simulator.ledger.tagged(key_tag(session_id))
        self._simulator.fleet.set_state(deployment.request_id, states[state])

    def ever_started(self) -> list[str]:
        marks = (read_tags(deployment.tags) for deployment in self._simulator.ledger.deployments)
        return [each.session_id or "" for each in marks]

    async def close(self) -> None:
        await self.provider.close()

    def _set(self, **options: object) -> None:
        self._settings = self._settings.model_copy(update=options)
        self._simulator.apply(self._settings)


async def unpaced(kind: Kind, seconds: float) -> bool:
    """Leave for every call: the simulated host limits none here."""
    return True
