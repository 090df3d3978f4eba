"""What may go wrong on purpose at any vendor; each vendor's room says on which of its calls, and adds its own.

In: tables of the script or of options. Out: frozen values. Two kinds: those that decide what becomes of a call (the
first that strikes wins: `Decisive`) and those that only colour its answer (all that strike apply). When each strikes
is `dice`'s to say; what it does, `delivery`'s.

    status         an error before anything is done          html       a proxy's page, before anything is done
    dropped        no answer, and nothing is done            redirect   a 307 to elsewhere, before anything is done
    lost_reply     done, but the answer is lost              malformed  done, but half the body is missing
    late           no good answer; what was asked for appears some seconds later, whatever is asked about it before
    slow           the answer takes longer                   new_fields the answer has fields nobody described
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from allocator.simulator.tables import ErrorStatus, Frozen, SpanMs


class Calls(StrEnum):
    """The calls of one vendor's API; each vendor's room names its own."""

    # An enum's own hash is a Python call, and the dice look up every call's operation.
    __hash__ = str.__hash__


class How(StrEnum):
    """How an answer fails to come: the connection is reset, or nothing is said until the caller gives up."""

    RESET = "reset"
    HANG = "hang"


class Strike(Frozen):
    """How often a fault strikes, and where."""

    probability: Annotated[float, Field(ge=0, le=1)] = 1.0
    seed: int | None = None
    """Of this fault alone; without it, drawn from the seed of the settings and the fault's place in the list."""
    on: tuple[str, ...] = ()
    """The vendor's calls that it strikes."""
    times: Annotated[int, Field(ge=0)] | None = None
    """Strikes at most so often; without it, for ever."""

    @property
    def places(self) -> tuple[str, ...]:
        """The only places where it strikes; empty means everywhere, also for calls that name none."""
        return ()


class Decisive(Strike):
    """A fault that decides what becomes of a call."""


class AnswersStatus(Decisive):
    """Answers this status before anything is done."""

    kind: Literal["status"] = "status"
    status: ErrorStatus = 500


class Drops(Decisive):
    """Gives no answer, and does nothing."""

    kind: Literal["dropped"] = "dropped"
    how: How = How.RESET


class LosesReply(Decisive):
    """Does what was asked, then loses the answer."""

    kind: Literal["lost_reply"] = "lost_reply"
    how: How = How.RESET


class LandsLate(Decisive):
    """Answers an error or nothing at once; what was asked for appears `after_seconds` later."""

    kind: Literal["late"] = "late"
    after_seconds: Annotated[float, Field(gt=0, le=3600)] = 2.0
    how: How | Literal["answer"] = "answer"
    status: ErrorStatus = 504


class HalvesBody(Decisive):
    """Does what was asked; of the body only the first half arrives, well framed."""

    kind: Literal["malformed"] = "malformed"


class AnswersHtml(Decisive):
    """Answers a proxy's HTML page, with any status, before anything is done."""

    kind: Literal["html"] = "html"
    status: Annotated[int, Field(ge=200, le=599)] = 502


class Redirects(Decisive):
    """Answers 307 to another address, before anything is done."""

    kind: Literal["redirect"] = "redirect"
    to: str = "https://elsewhere.invalid/"


class Slows(Strike):
    """Does what was asked, and answers later."""

    kind: Literal["slow"] = "slow"
    latency_ms: SpanMs = (1000.0, 3000.0)


class AddsFields(Strike):
    """Adds fields to the answer that its description does not have yet."""

    kind: Literal["new_fields"] = "new_fields"
