"""Whose turn it is: the order of priorities at one lane, in which nobody is left out for good. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from allocator.contract.request import Priority

LOWER_SHARE = 10
"""Of so many permits one goes to the lowest priority."""
RANK = {priority: rank for rank, priority in enumerate((Priority.HIGH, Priority.NORMAL, Priority.LOW))}


_BEST_FIRST = (Priority.HIGH, Priority.NORMAL, Priority.LOW)
_NORMAL_FIRST = (Priority.NORMAL, Priority.HIGH, Priority.LOW)
_LOW_FIRST = (Priority.LOW, Priority.NORMAL, Priority.HIGH)
NOT_AFTER = {one: tuple(other for other, rank in RANK.items() if rank <= RANK[one]) for one in RANK}
"""Who is served before one of a priority that comes now."""


def before(one: Priority, other: Priority) -> bool:
    """Whether one is served first."""
    return RANK[one] < RANK[other]


def order_of(turn: int, *, low_waits: bool) -> tuple[Priority, Priority, Priority]:
    """The best first; in every tenth turn a low one, in another a normal one where low ones wait as well."""
    turn %= LOWER_SHARE
    if turn == 0:
        return _LOW_FIRST
    return _NORMAL_FIRST if turn == LOWER_SHARE // 2 and low_waits else _BEST_FIRST


def ahead(priority: Priority, counts: Mapping[Priority, int]) -> int:
    """How many of these are served before one of this priority who comes now."""
    served = 0
    for each in NOT_AFTER[priority]:
        served += counts.get(each, 0)
    return served
