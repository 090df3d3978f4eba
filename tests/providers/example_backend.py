"""A hand on Acme, so that the conformance suite can be held against the example provider."""

from __future__ import annotations

from allocator.providers.memory import Asked
from allocator.providers.provider import Broken, NoRoom, Provider, SessionState
from tests.providers.backends import SPEC, Trouble
from tests.providers.example_host import KEY, AcmeHost
from tests.providers.example_provider import Acme


class ExampleBackend:
    spec = SPEC
    takes_ids = True
    port_name = "7777/udp"
    states: tuple[SessionState, ...] = (SessionState.ENDED, SessionState.UNCLEAR)
    full: type[NoRoom | Broken] = NoRoom

    def __init__(self, host: AcmeHost) -> None:
        self._host = host
        self.provider: Provider = Acme(host.base_url, KEY, "studio")

    def limit(self, location: str, capacity: int | None, starts_per_second: int | None = None) -> None:
        self._host.limits[location] = (capacity, starts_per_second)

    def next_start(self, trouble: Trouble) -> None:
        self._host.troubles.append(("start", trouble))

    def next_fails(self, call: Asked, *, took_effect: bool = False) -> None:
        self._host.troubles.append((call, "lost" if took_effect else "500"))

    def put_into(self, session_id: str, state: SessionState) -> None:
        states = {SessionState.ALIVE: "up", SessionState.ENDED: "down"}
        self._host.servers[session_id]["state"] = states.get(state, "puzzled")

    def ever_started(self) -> list[str]:
        return list(self._host.servers)

    async def close(self) -> None:
        await self.provider.close()
