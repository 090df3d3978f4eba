"""Those who wait in one lane, in the order in which they are served: by priority, then deadline, then arrival.

In: tickets as they join and leave. Out: whose turn it is; every tenth one is of a lower priority, and none whose call
would end after its deadline while there is another. A ticket that has left stays in its heap until it comes up, or
until such are the larger part and are swept out.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from allocator.contract.request import Priority
from allocator.engine.ticket import Ticket
from allocator.engine.turns import RANK, order_of

if TYPE_CHECKING:
    from allocator.engine.lane import Lane

SWEPT_FROM = 64


class Line:
    """One lane's."""

    def __init__(self) -> None:
        self.waiting = 0
        self._waiting_by = dict.fromkeys(Priority, 0)
        self._heaps: dict[Priority, list[tuple[tuple[int, int], Ticket]]] = {priority: [] for priority in Priority}
        self._stored = 0
        self._turns = 0

    @property
    def waiting_by(self) -> Mapping[Priority, int]:
        """How many of each priority wait."""
        return self._waiting_by

    def join(self, ticket: Ticket) -> None:
        """Wait here from now on."""
        heapq.heappush(self._heaps[ticket.priority], (ticket.rank, ticket))
        self._waiting_by[ticket.priority] += 1
        self.waiting += 1
        self._stored += 1

    def leave(self, priority: Priority) -> None:
        """One who had joined waits no more."""
        self._waiting_by[priority] -= 1
        self.waiting -= 1
        if self._stored > SWEPT_FROM + 2 * self.waiting:
            for each, heap in self._heaps.items():
                self._heaps[each] = [place for place in heap if place[1].live]
                heapq.heapify(self._heaps[each])
            self._stored = sum(map(len, self._heaps.values()))

    def count(self) -> int:
        """How many wait, but for those at the head whose wait has ended this very turn."""
        for heap in self._heaps.values():
            while heap and not heap[0][1].live:
                heapq.heappop(heap)
                self._stored -= 1
        return self.waiting if self._stored else 0

    def next(self, lane: Lane, ends_at: float) -> Ticket | None:
        """The one who waits and whose turn it is, for a call that is likely to end by then on the loop's clock.

        Those who come up and have less time are told that it is too late for them at this lane: served all the same,
        they would be served in vain, and after them nobody in time. Where there is nobody else, one is tried.
        """
        self._turns += 1
        late: list[Ticket] = []
        for ticket in self._in_turn():
            if ticket.deadline_at >= ends_at:
                break
            late.append(ticket)
        else:
            if not late:
                return None
            ticket = max(late, key=_patience)
            late.remove(ticket)
        for each in late:
            each.too_late(lane)
        return ticket

    def most_patient(self) -> Ticket | None:
        """The one who has most time left."""
        return max((ticket for ticket in self if ticket.live), key=_patience, default=None)

    def _in_turn(self) -> Iterator[Ticket]:
        """Take out one after the other of those who still wait."""
        for priority in order_of(self._turns, low_waits=bool(self._heaps[Priority.LOW])):
            heap = self._heaps[priority]
            while heap:
                _, ticket = heapq.heappop(heap)
                self._stored -= 1
                if ticket.live:
                    yield ticket

    def __iter__(self) -> Iterator[Ticket]:
        """All of them, in any order; also such as have left and were not swept out yet."""
        return (ticket for heap in list(self._heaps.values()) for _, ticket in list(heap))

    def from_the_last(self) -> list[Ticket]:
        """All of them, the last one first."""
        return sorted(self, key=_order, reverse=True)


def _patience(ticket: Ticket) -> float:
    return ticket.deadline_at


def _order(ticket: Ticket) -> tuple[int, tuple[int, int]]:
    return RANK[ticket.priority], ticket.rank
