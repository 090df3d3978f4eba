"""What may go wrong on purpose: the faults of the settings, each with its probability, its seed and where it strikes.

In: tables of the script or of options. Out: frozen values. Two kinds: those that decide what becomes of a call
(the first that strikes wins) and those that only colour its answer (all that strike apply). When each strikes is
`dice`'s to say; what it does, `delivery`'s.

    status         an error before anything is done          html       a proxy's page, before anything is done
    dropped        no answer, and nothing is done            redirect   a 307 to elsewhere, before anything is done
    lost_reply     done, but the answer is lost              malformed  done, but half the body is missing
    late           no good answer; the session appears some seconds later, whatever is asked of its id before
    slow           the answer takes longer                   duplicated_ports, new_fields   as the vendor's do, or may
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


class Operation(StrEnum):
    """The ten calls of the vendor's API."""

    START = "start"
    LIST = "list"
    FIND = "find"
    STOP = "stop"
    JOIN = "join"
    LEAVE = "leave"
    LOCATIONS = "locations"
    TAG = "tag"
    LOGS = "logs"
    ARTIFACTS = "artifacts"

    # An enum's own hash is a Python call, and the dice look up every call's operation.
    __hash__ = str.__hash__


class How(StrEnum):
    """How an answer fails to come: the connection is reset, or nothing is said until the caller gives up."""

    RESET = "reset"
    HANG = "hang"


def _split(value: object) -> object:
    """Let a list be written `a+b`, as an option has to."""
    return tuple(value.split("+")) if isinstance(value, str) else value


def _span(value: object) -> object:
    """Let a range be written `50`, `50-150` or `[50, 150]`."""
    if isinstance(value, int | float):
        return (value, value)
    if isinstance(value, str):
        low, _, high = value.partition("-")
        return (low, high or low)
    return value


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError("the first number must not be above the second; write it as 50-150")
    return value


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
_Milliseconds = Annotated[float, Field(ge=0, le=600_000, allow_inf_nan=False)]
SpanMs = Annotated[tuple[_Milliseconds, _Milliseconds], BeforeValidator(_span), AfterValidator(_ordered)]
ErrorStatus = Annotated[int, Field(ge=400, le=599)]


class Frozen(BaseModel):
    """A table of the settings: unknown keys are refused, and nothing changes after it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Fault(Frozen):
    probability: Annotated[float, Field(ge=0, le=1)] = 1.0
    seed: int | None = None
    """Of this fault alone; without it, drawn from the seed of the settings and the fault's place in the list."""
    regions: Names = ()
    """Only there; empty means everywhere, also for calls that name no region."""
    on: Annotated[tuple[Operation, ...], BeforeValidator(_split)] = (Operation.START,)
    times: Annotated[int, Field(ge=0)] | None = None
    """Strikes at most so often; without it, for ever."""


class _StartFault(_Fault):
    on: Annotated[tuple[Literal[Operation.START], ...], BeforeValidator(_split)] = (Operation.START,)


class StatusFault(_Fault):
    """Answers this status before anything is done."""

    kind: Literal["status"] = "status"
    status: ErrorStatus = 500


class Dropped(_Fault):
    """Gives no answer, and does nothing."""

    kind: Literal["dropped"] = "dropped"
    how: How = How.RESET


class LostReply(_Fault):
    """Does what was asked, then loses the answer."""

    kind: Literal["lost_reply"] = "lost_reply"
    how: How = How.RESET


class Late(_StartFault):
    """Answers an error or nothing at once; the session appears `after_seconds` later."""

    kind: Literal["late"] = "late"
    after_seconds: Annotated[float, Field(gt=0, le=3600)] = 2.0
    how: How | Literal["answer"] = "answer"
    status: ErrorStatus = 504


class MalformedBody(_Fault):
    """Does what was asked; of the body only the first half arrives, well framed."""

    kind: Literal["malformed"] = "malformed"


class HtmlBody(_Fault):
    """Answers a proxy's HTML page, with any status, before anything is done."""

    kind: Literal["html"] = "html"
    status: Annotated[int, Field(ge=200, le=599)] = 502


class Redirect(_Fault):
    """Answers 307 to another address, before anything is done."""

    kind: Literal["redirect"] = "redirect"
    to: str = "https://elsewhere.invalid/session"


class Slow(_Fault):
    """Does what was asked, and answers later."""

    kind: Literal["slow"] = "slow"
    latency_ms: SpanMs = (1000.0, 3000.0)


class DuplicatedPorts(_StartFault):
    """Names the first port twice, as the vendor's own example does."""

    kind: Literal["duplicated_ports"] = "duplicated_ports"


class NewFields(_Fault):
    """Adds fields to the answer that its description does not have yet."""

    kind: Literal["new_fields"] = "new_fields"


Decisive = StatusFault | Dropped | LostReply | Late | MalformedBody | HtmlBody | Redirect
Fault = Annotated[Decisive | Slow | DuplicatedPorts | NewFields, Field(discriminator="kind")]
