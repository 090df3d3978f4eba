"""The cases of the crash matrix: at which step a worker dies, and in which scene that step comes.

A new step gets a line in `crashing_worker.STEPS`, and one in `CASES` with a scene in which it comes about.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

LATE_SECONDS = 1.5
LATENCY_MS = "100-150"

SIMULATOR: dict[str, Any] = {
    "regions": {
        "europe": {"latency_ms": LATENCY_MS},
        "lossy": {"latency_ms": LATENCY_MS},
        "full": {"closed": 420},
        "brisk": {"latency_ms": LATENCY_MS, "starts_per_second": 20},
    },
    "faults": [
        {"kind": "lost_reply", "probability": 0.1, "regions": ["europe"]},
        {"kind": "dropped", "probability": 0.2, "regions": ["lossy"]},
        {"kind": "lost_reply", "probability": 0.2, "regions": ["lossy"]},
        {"kind": "late", "probability": 0.2, "regions": ["lossy"], "after_seconds": LATE_SECONDS},
        {"kind": "slow", "probability": 1, "on": ["find", "stop"], "latency_ms": "50-60"},
    ],
}


@dataclass(frozen=True, slots=True)
class Scene:
    """What goes on around the step."""

    regions: tuple[str, ...] = ("europe", "lossy")
    timeout_seconds: float = 60.0
    ends: frozenset[str] = frozenset({"allocated"})
    """The last states that are right here."""
    settings: tuple[str, ...] = ()
    donor: str | None = None
    """At which step another worker dies first, so that there is something to take over."""
    drain: bool = False
    """The worker is told to end, and dies while it leaves."""
    refused: bool = False
    """Among the matches are some that are none."""
    cancelled: str | None = None
    """Some matches are cancelled: `early` (before they are asked for), `soon` (under way), `played` (allocated)."""


PLAIN = Scene()
LOSSY = Scene(regions=("lossy",))
TAKEN_OVER = Scene(donor="start:after:3")
STRAY = Scene(donor="take:after:1,wait:after:1")
"""Beside another worker a donor seldom finds anything at its first look."""
FULL = Scene(regions=("full", "europe"))
THROTTLED = Scene(regions=("brisk",), ends=frozenset({"allocated", "expired"}))
CROWDED = Scene(settings=("region_defaults.rate=10", "region_defaults.burst=1"))
"""More come than the regions give permits for: most of them are parked."""
TURNED_AWAY = Scene(regions=("full", "europe"), settings=CROWDED.settings)
"""Some have been refused once before they wait for their turn elsewhere."""
DRAIN = Scene(drain=True, settings=("region_defaults.rate=6", "region_defaults.burst=1"))
REFUSED = Scene(refused=True, ends=frozenset({"allocated", "failed"}))
_CANCELLED = frozenset({"allocated", "cancelled", "released"})
EARLY, SOON, PLAYED = (Scene(cancelled=stage, ends=_CANCELLED) for stage in ("early", "soon", "played"))


@dataclass(frozen=True, slots=True)
class Case:
    """A worker dies at `crash`; alone it is restarted, else the other one goes on."""

    crash: str
    scene: Scene = field(default=PLAIN)
    quick: bool = False
    """Also part of the quick run."""


CASES = (
    Case("take:after:1"),
    Case("wait:after:1"),
    Case("reserve:before:1"),
    Case("reserve:after:1", quick=True),
    Case("reserve:after:2"),
    Case("permits:before:2"),
    Case("permits:after:2"),
    Case("start:before:5"),
    Case("start:sent:5", quick=True),
    Case("start:after:5", quick=True),
    Case("commit:before:4"),
    Case("commit:after:4", quick=True),
    Case("renew:before:1"),
    Case("renew:after:1"),
    Case("find:before:1", LOSSY),
    Case("find:sent:2", LOSSY),
    Case("find:after:2", LOSSY),
    Case("next_generation:before:1", LOSSY),
    Case("next_generation:after:1", LOSSY, quick=True),
    Case("claim_condemned:before:1", LOSSY),
    Case("claim_condemned:after:1", LOSSY),
    Case("stop:before:1", LOSSY),
    Case("stop:sent:1", LOSSY, quick=True),
    Case("stop:after:1", LOSSY),
    Case("recheck:before:1", LOSSY),
    Case("recheck:after:1", LOSSY),
    Case("shut:before:1", FULL),
    Case("shut:after:1", FULL),
    Case("note:before:1", TURNED_AWAY),
    Case("note:after:1", TURNED_AWAY),
    Case("reclaim:before:1", TAKEN_OVER),
    Case("reclaim:after:1", TAKEN_OVER, quick=True),
    Case("begin:before:1", TAKEN_OVER),
    Case("begin:after:1", TAKEN_OVER, quick=True),
    Case("strays:before:1", STRAY),
    Case("strays:after:1", STRAY),
    Case("refuse:before:1", REFUSED),
    Case("refuse:after:1", REFUSED),
    Case("hand_back:before:3", DRAIN),
    Case("hand_back:after:3", DRAIN, quick=True),
    Case("close:before:1", DRAIN),
    Case("close:after:1", DRAIN),
    # cancel and release
    Case("orders:after:1", SOON),
    Case("seize:before:1", SOON),
    Case("seize:after:1", SOON, quick=True),
    Case("forestall:before:1", EARLY),
    Case("forestall:after:1", EARLY),
    Case("condemn:before:1", PLAYED),
    Case("condemn:after:1", PLAYED, quick=True),
    Case("release:before:1", PLAYED),
    Case("release:after:1", PLAYED),
    Case("settle:before:1", SOON),
    Case("settle:after:1", SOON),
    # what waits outside
    Case("park:before:1", CROWDED),
    Case("park:after:1", CROWDED, quick=True),
    Case("claim:before:5", CROWDED),
    Case("claim:after:1", CROWDED, quick=True),
    # what the gate is told
    Case("doubt:before:1", LOSSY),
    Case("doubt:after:1", LOSSY),
    Case("may_repeat:after:1", LOSSY),
    Case("verdict:after:1", THROTTLED),
    Case("offers:sent:1", THROTTLED),
    Case("judge:before:1", THROTTLED),
    Case("slow:after:1", THROTTLED),
    # the reconciler, and who samples for the metrics
    Case("lead:after:1"),
    Case("turn:after:1", LOSSY),
    Case("list:sent:1", LOSSY),
    Case("list:after:1", LOSSY),
    Case("keep:before:1", LOSSY),
    Case("keep:after:1", LOSSY),
)
