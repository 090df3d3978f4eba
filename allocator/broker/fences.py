"""The fences of the asks of one broker: a repeat of an ask bears the fence of the first.

In: asks. Out: a fence for each. What is promised: an ask whose reply was lost finds its own request when it is
repeated, as long as fewer than `REMEMBERED` others came between. Whether a fence holds is left to the broker.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from allocator.broker.broker import BATCH_MAX, Reservation
from allocator.contract.request import Priority

REMEMBERED = 4 * BATCH_MAX
"""A worker has at most two batches out at once; more only costs memory."""


class Fences:
    """Gives fences; `fence` gives a text that is never given twice by any process."""

    def __init__(self, fence: Callable[[], str]) -> None:
        self.new = fence
        self._given = OrderedDict[tuple[Priority, str, str], str]()

    def of(self, asks: Sequence[Reservation]) -> list[str]:
        """The fence of each ask."""
        given = self._given
        fences = []
        for ask in asks:
            entry = ask.entry
            # the priority is part of the name, for two streams may give two entries one id
            name = (entry.priority, entry.entry_id, ask.request_id)
            fence = given.get(name)
            if fence is None:
                fence = given[name] = self.new()
            fences.append(fence)
        while len(given) > REMEMBERED:
            given.popitem(last=False)
        return fences
