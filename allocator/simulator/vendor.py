"""One vendor, simulated, as an object: serves while it is entered, and is looked at from Python meanwhile.

In: settings, how a fleet is made of them, an address. Out: a base URL, the fleet of the moment. It promises that
nothing of it is served after `__aexit__`. Which routes it serves, and what else goes on while it does, a vendor's own
`server` says.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from allocator.simulator.serving import Serving
from allocator.simulator.tables import Frozen


class Ledger(Protocol):
    """All that was asked of a vendor, and what came of it."""

    def to_json(self, *, rows: bool) -> dict[str, Any]:
        """What the control door shows; without `rows` only the counts."""


class Fleet(Protocol):
    """What runs at a vendor."""

    @property
    def ledger(self) -> Ledger:
        """What it was asked, as of the last `settle`."""

    def settle(self) -> None:
        """Let happen what has fallen due."""

    def apply(self, settings: Any) -> None:
        """Go by other settings of this vendor from now on."""


_S = TypeVar("_S", bound=Frozen)
_F = TypeVar("_F", bound=Fleet)


class SimulatedVendor(Generic[_S, _F]):
    """A vendor on this machine, its fleet and the settings that it goes by."""

    def __init__(self, settings: _S, new_fleet: Callable[[_S], _F], host: str, port: int) -> None:
        self._settings = settings
        self._new_fleet = new_fleet
        self._fleet = new_fleet(settings)
        self._serving = Serving(host, port)

    @property
    def base_url(self) -> str:
        """Where it serves, without a slash at the end."""
        return self._serving.base_url

    @property
    def fleet(self) -> _F:
        """What runs, to stop it or put it into a state without HTTP; another fleet after `reset`."""
        return self._fleet

    def apply(self, settings: _S) -> None:
        """Go by other settings from now on; what runs, and rates already used, stay as they are."""
        self._settings = settings
        self._fleet.apply(settings)

    def reset(self) -> None:
        """Begin again with the same settings: nothing runs, nothing was asked for, dice as at the start."""
        self._fleet = self._new_fleet(self._settings)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._serving.close()
