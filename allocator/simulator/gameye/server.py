"""The simulated Gameye as one object: serves while it is entered, and is looked at from Python meanwhile.

In: settings, an address, a clock. Out: a base URL, the ledger. It promises that it serves once `__aenter__` returns and
that nothing of it is left after `__aexit__`.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from allocator.simulator.clock import Clock
from allocator.simulator.gameye.api import VendorApi
from allocator.simulator.gameye.control import ControlDoor
from allocator.simulator.gameye.fleet import Fleet
from allocator.simulator.gameye.ledger import Ledger
from allocator.simulator.gameye.settings import SimulatorSettings
from allocator.simulator.serving import Serving


class GameyeSimulator:
    """A simulated Gameye on this machine."""

    def __init__(
        self,
        settings: SimulatorSettings | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings or SimulatorSettings()
        self._clock = clock or Clock()
        self._fleet = Fleet(self._settings, self._clock)
        self._serving = Serving(host, port)

    @property
    def base_url(self) -> str:
        """Where it serves, without a slash at the end."""
        return self._serving.base_url

    @property
    def ledger(self) -> Ledger:
        """All that was asked for and started up to this moment; ask anew to see what time has brought since."""
        self._fleet.settle()
        return self._fleet.ledger

    @property
    def fleet(self) -> Fleet:
        """The sessions themselves, to stop them or put them into a state without HTTP; another one after `reset`."""
        return self._fleet

    def apply(self, settings: SimulatorSettings) -> None:
        """Go by other settings from now on; sessions, and rates already used, stay as they are."""
        self._settings = settings
        self._fleet.apply(settings)

    def reset(self) -> None:
        """Begin again with the same settings: no sessions, no POSTs, dice as at the start."""
        self._fleet = Fleet(self._settings, self._clock)

    async def __aenter__(self) -> Self:
        api = VendorApi(lambda: self._fleet, self._clock)
        control = ControlDoor(lambda: self._fleet, apply=self.apply, reset=self.reset)
        await self._serving.open([*api.routes(), *control.routes()], api.unrouted)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._serving.close()
