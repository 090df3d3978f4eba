"""How long a start takes at one destination, of late: a call with less time left than that comes to nothing.

In: what calls took that were answered, and what those had that were cut off by the deadline of their own request. Out:
how much time a request should have left, and how much a call must have had before its silence says something of the
destination. Nobody is refused for what is not known: after a while without a call all of it is forgotten.
"""

from __future__ import annotations

import asyncio

GROWS, SHRINKS = 0.25, 0.05
"""Of the difference, for each call that took longer or shorter: it stays near what four in five calls stay under."""
MARGIN = 1.25
FORGOTTEN_SECONDS = 10.0
FAIR_SECONDS = 1.0
"""Who had so long, and twice what is usual, was not answered; who had less was cut off."""


class Usual:
    """Of one destination, as this process has seen it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._took = self._cut = 0.0
        self._heard_at = float("-inf")

    @property
    def needs_seconds(self) -> float:
        """How much time a request should have left when it is called for; 0 where nobody knows."""
        self._forget()
        return MARGIN * max(self._took, self._cut)

    def took(self, seconds: float) -> None:
        """A call was answered after so long."""
        self._forget()
        share = GROWS if seconds > self._took else SHRINKS
        self._took = self._took + share * (seconds - self._took) if self._took else seconds
        self._cut, self._heard_at = 0.0, self._loop.time()

    def was_cut(self, seconds: float) -> bool:
        """A call was given up after so long, for its request's sake; whether that was too soon to say anything."""
        self._forget()
        if seconds >= max(FAIR_SECONDS, 2 * self._took):
            return False
        self._cut, self._heard_at = max(self._cut, seconds), self._loop.time()
        return True

    def _forget(self) -> None:
        if self._loop.time() - self._heard_at > FORGOTTEN_SECONDS:
            self._took = self._cut = 0.0
