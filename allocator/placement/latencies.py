"""What players' latencies say of the regions, and the caps that loosen with a request's age. Pure: no clock, no I/O.

In: players, caps, an age. Out: for a region its worst and its average latency, whether the cap in force lets it in,
which later cap does. A cap is in force from its `after_seconds` until the next one's; before the first one nothing is
capped, and the last one stays. Where no player has measured anything, caps say nothing; where some have, a region that
none of them has measured is over every cap. The order of the regions is left to the policies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from allocator.contract.request import LatencyCap, Player


@dataclass(frozen=True, slots=True)
class Latency:
    """A region as those players have it who measured it."""

    worst_ms: float
    average_ms: float


def latency_of(region: str, players: Iterable[Player]) -> Latency | None:
    """The worst and the average latency to a region; None where no player has measured it."""
    measured = [player.latency_ms[region] for player in players if region in player.latency_ms]
    return Latency(max(measured), fmean(measured)) if measured else None


class Caps:
    """The latency caps of one request at one age."""

    __slots__ = ("_in_force", "_later", "_players", "_worst_ms")

    def __init__(self, caps: Sequence[LatencyCap], players: Sequence[Player], age_seconds: float) -> None:
        """Of two caps that apply from the same age on, the one written last counts."""
        self._in_force: LatencyCap | None = None
        self._later: tuple[LatencyCap, ...] = ()
        self._players = players
        self._worst_ms: dict[str, float | None] = {}
        if not caps or not any(player.latency_ms for player in players):
            return
        # A clock that is a little behind Redis's makes an age negative: that is no time before the first cap.
        age_seconds = max(0.0, age_seconds)
        each_time = {cap.after_seconds: cap for cap in sorted(caps, key=lambda cap: cap.after_seconds)}
        begun = [cap for after_seconds, cap in each_time.items() if after_seconds <= age_seconds]
        self._in_force = begun[-1] if begun else None
        self._later = tuple(each_time.values())[len(begun) :]

    def lets_in(self, region: str) -> bool:
        """Whether the cap in force, if there is any, lets the region in."""
        return self._under(self._in_force, region)

    def ever_lets_in(self, region: str) -> bool:
        """Whether the cap in force or a later one lets the region in."""
        return self.lets_in(region) or any(self._under(cap, region) for cap in self._later)

    def again_at_seconds(self, regions: Sequence[str]) -> float | None:
        """The age at which a later cap lets in another choice of these regions than the one in force does."""
        for cap in self._later:
            if any(self._under(cap, region) != self.lets_in(region) for region in regions):
                return cap.after_seconds
        return None

    def reason(self, region: str) -> str:
        """Why the cap in force keeps the region out, and until when."""
        worst_ms = self._worst(region)
        if self._in_force is None or worst_ms is None:
            return "no player has measured a latency to it, so that it is over every latency cap"
        over = f"the worst player's {worst_ms:g} ms are over the latency cap of {self._in_force.max_ms:g} ms"
        looser = next((cap for cap in self._later if self._under(cap, region)), None)
        if looser is None:
            return f"{over}, and no later cap lets it in"
        return f"{over}; the cap of {looser.max_ms:g} ms after {looser.after_seconds:g} s lets it in"

    def _under(self, cap: LatencyCap | None, region: str) -> bool:
        if cap is None:
            return True
        worst_ms = self._worst(region)
        return worst_ms is not None and worst_ms <= cap.max_ms

    def _worst(self, region: str) -> float | None:
        if region not in self._worst_ms:
            latency = latency_of(region, self._players)
            self._worst_ms[region] = None if latency is None else latency.worst_ms
        return self._worst_ms[region]
