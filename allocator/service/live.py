"""What may change while a worker runs: the settings that are read again, and the operators' levers over them.

In: the settings at the start, where they come from, the board of the levers. Out: the settings in force, what a
region's name leads to, the limits of a destination, whether the fleet is paused; listeners are told after each change.
Promises: faulty settings change nothing and are said with every fault; without Redis the levers last seen stand. What
follows from a change in what runs is left to the listeners.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass

from allocator.broker.levers import LeverBoard, Levers
from allocator.contract.destination import Destination
from allocator.gate.gate import Limit
from allocator.placement.plan import Region
from allocator.service.live_file import WatchedFile
from allocator.service.live_force import InForce
from allocator.service.live_merge import Merged, merge, unserved
from allocator.service.settings import Settings, SettingsError
from allocator.telemetry.structured import structlog

LOOK_SECONDS = 0.5

_log = structlog.get_logger("allocator")


@dataclass(frozen=True, slots=True)
class Source:
    """Where the settings are read again: `read` as at the start, raising SettingsError, asked when `file` changes."""

    read: Callable[[], Settings]
    file: WatchedFile


class Live:
    """The settings and levers in force in one process.

    `providers` are those that run here, `account_of` names the account of each; `admit` is the last to be asked: it
    takes into use what is built from new settings, or raises SettingsError and leaves all as it was.
    """

    def __init__(
        self,
        settings: Settings,
        board: LeverBoard,
        *,
        providers: Collection[str],
        account_of: Callable[[str], str],
        admit: Callable[[Merged], None],
        source: Source | None = None,
    ) -> None:
        """Without a `source` the settings stay as they are."""
        self._board = board
        self._providers = frozenset(providers)
        self._account_of = account_of
        self._admit = admit
        self._source = source
        self._asked = False
        self._levers_known = False
        self._listeners: list[Callable[[], None]] = []
        self._force = InForce(settings, Levers(), account_of)

    @property
    def settings(self) -> Settings:
        """Those in force; levers are not in them."""
        return self._force.settings

    @property
    def levers(self) -> Levers:
        """Those that were set at the last look."""
        return self._force.levers

    @property
    def paused(self) -> bool:
        """Whether nothing is to be taken up; so it is until the levers were read once."""
        return not self._levers_known or self.levers.paused

    @property
    def rates(self) -> dict[Destination, float]:
        """See `InForce.rates`."""
        return self._force.rates

    def region(self, name: str) -> Region | None:
        """See `InForce.region`."""
        return self._force.region(name)

    def limits_of(self, destination: Destination) -> tuple[Limit, ...]:
        """See `InForce.limits_of`."""
        return self._force.limits_of(destination)

    def open_by(self, destination: Destination) -> frozenset[str] | None:
        """See `InForce.open_by`."""
        return self._force.open_by(destination)

    def leads_to(self, destination: Destination) -> bool:
        """See `InForce.leads_to`."""
        return self._force.leads_to(destination)

    def kept_share_of(self, destination: Destination) -> float:
        """See `InForce.kept_share_of`."""
        return self._force.kept_share_of(destination)

    def listen(self, listener: Callable[[], None]) -> None:
        """Tell it of every change from now on, once it is in force."""
        self._listeners.append(listener)

    def reload(self) -> None:
        """Read the settings again at the next look, whether or not their file has changed."""
        self._asked = True

    async def look(self) -> None:
        """Put what has changed into force. Raises BrokerUnavailable, after the settings were looked at."""
        if self._source is not None:
            await self._look_at(self._source)
        levers = await self._board.read()
        if levers != self.levers:
            regions = {name: asdict(lever) for name, lever in levers.regions.items()}
            _log.info("levers changed", paused=levers.paused, regions=regions)
        elif self._levers_known:
            return
        self._levers_known = True
        self._put_in_force(self.settings, levers)

    async def _look_at(self, source: Source) -> None:
        asked, self._asked = self._asked, False
        if asked:
            source.file.seen()
        if not asked and not source.file.changed():
            return
        try:
            # In a thread: a file of thousands of regions takes longer than the loop may stand still.
            merged = self._admitted(await asyncio.to_thread(source.read))
        except SettingsError as error:
            _log.error("settings are faulty; the old ones stay in force", faults=list(error.faults))
            return
        _log.info("settings read again", changed=list(merged.changed))
        if merged.later:
            _log.warning("settings take effect at the next start", settings=list(merged.later))
        if merged.changed:
            self._put_in_force(merged.settings, self.levers)

    def _admitted(self, read: Settings) -> Merged:
        """What of the settings just read may come into force."""
        merged = merge(self.settings, read)
        if faults := unserved(merged.settings, self._providers):
            raise SettingsError(faults)
        self._admit(merged)
        return merged

    def _put_in_force(self, settings: Settings, levers: Levers) -> None:
        self._force = InForce(settings, levers, self._account_of)
        for listener in self._listeners:
            listener()
