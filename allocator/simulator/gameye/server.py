"""The simulated Gameye as one object: serves while it is entered, and is looked at from Python meanwhile.

In: settings, an address, a clock. Out: a base URL, the ledger. It promises that it serves once `__aenter__` returns and
that nothing of it is left after `__aexit__`.
"""

from __future__ import annotations

from typing import Self

from allocator.simulator.clock import Clock
from allocator.simulator.gameye.api import VendorApi
from allocator.simulator.gameye.control import ControlDoor
from allocator.simulator.gameye.fleet import Fleet
from allocator.simulator.gameye.ledger import Ledger
from allocator.simulator.gameye.settings import SimulatorSettings
from allocator.simulator.vendor import SimulatedVendor


class GameyeSimulator(SimulatedVendor[SimulatorSettings, Fleet]):
    """A simulated Gameye on this machine."""

    def __init__(
        self,
        settings: SimulatorSettings | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or Clock()
        super().__init__(settings or SimulatorSettings(), lambda settings: Fleet(settings, self._clock), host, port)

    @property
    def ledger(self) -> Ledger:
        """All that was asked for and started up to this moment; ask anew to see what time has brought since."""
        self._fleet.settle()
        return self._fleet.ledger

    async def __aenter__(self) -> Self:
        api = VendorApi(lambda: self._fleet, self._clock)
        control = ControlDoor(lambda: self._fleet, apply=self.apply, reset=self.reset)
        await self._serving.open([*api.routes(), *control.routes()], api.unrouted)
        return self
