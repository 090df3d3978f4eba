"""How a rate gives way to a host that says "too fast", and finds its way back.

In: the rate at which a call came too fast, and how long ago. Out: the rate now. It is CUBIC's curve (RFC 9438): quick
towards the rate that was too fast, flat about it, quick again beyond it, where more may be had by now. A pure function:
nothing is written while it climbs. `scripts/permits.lua` and `scripts/slow.lua` reckon the same; when a rate is
lowered is theirs and the twin's.
"""

from __future__ import annotations

DROP = 0.1
"""What a rate gives up at once. Of 0.05 to 0.15 it left the least of a hidden limit of 37 a second idle (3 to 7 %)."""

CLIMB_SECONDS = 10.0
"""How long it takes to be back at the rate that was too fast: with 4 s a percent more was used, but at a hidden limit
of 5 a second twice as many calls were pushed back (6 %)."""

RATE_MIN = 1.0
"""No lowering goes below this: the next answer would be too long in coming."""


def climbed(ceiling: float, seconds: float) -> float:
    """The rate so long after calls came too fast at the rate of `ceiling`."""
    left = 1 - seconds / CLIMB_SECONDS
    return max(RATE_MIN, ceiling * (1 - DROP * left**3))


def lowered(rate: float, whole: float) -> float:
    """The rate right after calls came too fast at `rate`; `whole` is the one that is configured."""
    return max(rate * (1 - DROP), min(whole, RATE_MIN))
