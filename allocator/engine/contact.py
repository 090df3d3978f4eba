"""Whether a lease that has ended says that its owner has: not where no owner can have renewed it.

In: when the broker was heard, and when our own leases were renewed. Out: leave to take over. Promises: after this
process could not reach the broker for a good part of a lease (an outage, or a pause of its own) it takes nothing over
for one lease more, in which every owner that lives renews; nor does it while its own renewals are behind, so that it
takes nothing from itself. Where the broker is always there, nobody waits for anything here.
"""

from __future__ import annotations

from collections.abc import Callable

SILENCE_SECONDS_MIN = 2.0
"""The loops that ask the broker look once a second: a shorter silence is none."""


class Contact:
    """One worker's with its broker. `now` is the loop's clock; `lease_seconds` may change while it runs."""

    def __init__(self, now: Callable[[], float], lease_seconds: Callable[[], float]) -> None:
        self._now = now
        self._lease_seconds = lease_seconds
        self._heard_at: float | None = None
        self._renewed_at: float | None = None
        self._grace_until = float("-inf")

    def begin(self) -> None:
        """It is about to be asked for the first time; until it is heard it may be away."""
        if self._heard_at is None:
            self._heard_at = self._now()

    def heard(self) -> None:
        """The broker has answered."""
        now, lease_seconds = self._now(), self._lease_seconds()
        silence = 0.0 if self._heard_at is None else now - self._heard_at
        # a lease is renewed thrice in its time: half of it without an answer, and those of the living may end
        if silence > max(lease_seconds / 2, SILENCE_SECONDS_MIN):
            self._grace_until = now + lease_seconds
        self._heard_at = now

    def renewed(self, count: int) -> None:
        """All our leases, so many, were renewed or found to be others'."""
        self._renewed_at = self._now()
        if count:
            self.heard()

    @property
    def may_take_over(self) -> bool:
        """Whether whose lease has ended now is nobody's who lives, as far as can be told here."""
        now = self._now()
        is_behind = self._renewed_at is not None and now - self._renewed_at >= self._lease_seconds()
        return now >= self._grace_until and not is_behind
