"""The words of an answer: states, outcomes, ports, attempts, and the allocation hash itself.

In: what the engine decided, or the hash of strings that Redis holds. Out: the other one of the two, and the
typed `data` of an event. The shapes are the public contract's section 2; a reader ignores what it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from operator import attrgetter
from typing import Any, Self, TypeVar

from pydantic_core import to_json

from allocator.contract.values import quick

T = TypeVar("T")

ATTEMPTS_MAX = 64


class State(StrEnum):
    """Where a request is on its way; those in `FINAL` are ends."""

    QUEUED = "queued"
    ALLOCATING = "allocating"
    PARKED = "parked"
    ALLOCATED = "allocated"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    RELEASED = "released"
    ENDED = "ended"


FINAL = frozenset({State.ALLOCATED, State.FAILED, State.EXPIRED, State.CANCELLED, State.RELEASED, State.ENDED})


class Outcome(StrEnum):
    """What became of one attempt at one destination."""

    CREATED = "created"
    ADOPTED = "adopted"
    THROTTLED = "throttled"
    NO_CAPACITY = "no_capacity"
    REJECTED = "rejected"
    UNAVAILABLE = "unavailable"
    UNKNOWN = "unknown"
    UNSUITABLE = "unsuitable"


@quick
@dataclass(frozen=True, slots=True)
class Port:
    """One port of a session: `container_port` inside, `port` where players reach it."""

    name: str
    protocol: str
    container_port: int
    port: int

    def to_data(self) -> dict[str, Any]:
        """Its fields as an object: `to_json` takes three times as long to find them out itself."""
        return {"name": self.name, "protocol": self.protocol, "container_port": self.container_port, "port": self.port}


@quick
@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at one destination; `at` in Unix milliseconds, `status` the HTTP status or null."""

    region: str
    provider: str
    location: str
    outcome: Outcome | str
    """One of `Outcome`, or a word that a newer writer knows."""
    status: int | None
    at: int
    duration_ms: float
    waited_ms: float

    def to_data(self) -> dict[str, Any]:
        """See `Port.to_data`."""
        return {
            "region": self.region,
            "provider": self.provider,
            "location": self.location,
            "outcome": str(self.outcome),
            "status": self.status,
            "at": self.at,
            "duration_ms": self.duration_ms,
            "waited_ms": self.waited_ms,
        }


@quick
@dataclass(frozen=True, slots=True)
class Allocation:
    """What `HGETALL {N}:allocation:<id>` says, typed; times in Unix milliseconds."""

    state: State | str
    """One of `State`, or a word that a newer writer knows; then trust `final`."""
    request_id: str
    priority: str = "normal"
    context: Any = None
    enqueued_at: int | None = None
    updated_at: int | None = None
    allocated_at: int | None = None
    expires_at: int | None = None
    host: str | None = None
    ports: tuple[Port, ...] = ()
    endpoint: str | None = None
    region: str | None = None
    provider: str | None = None
    location: str | None = None
    session_id: str | None = None
    session_key: str | None = None
    """Our id of the session, where the provider calls it otherwise."""
    attempts: tuple[Attempt, ...] = ()
    error_code: str | None = None
    error_message: str | None = None
    retry_after_ms: int | None = None
    final: bool = field(default=False)

    @classmethod
    def from_hash(cls, fields_: Mapping[str, str]) -> Self:
        """Read the hash; an unknown field is passed over, a missing one is its default."""
        values: dict[str, Any] = {}
        for name in _TEXT_FIELDS & fields_.keys():
            values[name] = fields_[name]
        for name in _INTEGER_FIELDS & fields_.keys():
            values[name] = int(fields_[name])
        if "context" in fields_:
            values["context"] = json.loads(fields_["context"])
        if "ports" in fields_:
            values["ports"] = tuple(_known(Port, item) for item in json.loads(fields_["ports"]))
        if "attempts" in fields_:
            values["attempts"] = decode_attempts(fields_["attempts"])
        values["state"] = _word(State, fields_["state"])
        return cls(final=fields_.get("final") == "1", **values)

    def to_hash(self) -> dict[str, str]:
        """The fields as Redis keeps them: only those that say something."""
        return as_hash(self.to_data())

    def to_data(self) -> dict[str, Any]:
        """The same fields typed: the `data` of an event, for `compact`."""
        data = {name: value for name, value in zip(_PLAIN, _plain(self), strict=True) if value is not None}
        data["state"] = str(self.state)
        if self.ports:
            data["ports"] = [port.to_data() for port in self.ports]
        if self.attempts:
            data["attempts"] = attempts_data(self.attempts)
        if self.final:
            data["final"] = True
        return data


def as_hash(data: Mapping[str, Any]) -> dict[str, str]:
    """What `to_data` says, as Redis keeps it."""
    hashed: dict[str, str] = {}
    for name, value in data.items():
        if name in _JSON_FIELDS:
            hashed[name] = compact(value)
        else:
            hashed[name] = "1" if value is True else str(value)
    return hashed


def endpoint(host: str, ports: tuple[Port, ...]) -> str | None:
    """`host:port` of the port named `game`, else of the first; IPv6 in brackets; none without ports."""
    if not ports:
        return None
    chosen = ports[0]
    for port in ports:
        if port.name == "game":
            chosen = port
            break
    return f"[{host}]:{chosen.port}" if ":" in host else f"{host}:{chosen.port}"


def compact(value: Any) -> str:
    """JSON without blanks, in the characters it came in; dataclasses are objects, tuples lists."""
    return to_json(value, inf_nan_mode="null").decode()


def encode_attempts(attempts: tuple[Attempt, ...]) -> str:
    """The JSON list of the hash."""
    return compact(attempts_data(attempts))


def attempts_data(attempts: Sequence[Attempt]) -> list[dict[str, Any]]:
    """Those that an answer tells, oldest first: the first and the latest where there are over 64."""
    if len(attempts) > ATTEMPTS_MAX:
        attempts = [attempts[0], *attempts[-(ATTEMPTS_MAX - 1) :]]
    return [attempt.to_data() for attempt in attempts]


def decode_attempts(text: str) -> tuple[Attempt, ...]:
    """Read what `encode_attempts` wrote; unknown keys are passed over."""
    return tuple(_known(Attempt, {**item, "outcome": _word(Outcome, item["outcome"])}) for item in json.loads(text))


def _word(words: type[StrEnum], text: str) -> Any:
    """The member of that name, or the text itself: states and outcomes may be added."""
    return words(text) if text in words._value2member_map_ else text


def _known(cls: type[T], item: Mapping[str, Any]) -> T:
    names = {entry.name for entry in fields(cls)}  # type: ignore[arg-type]  # a dataclass, which no type can say
    return cls(**{key: value for key, value in item.items() if key in names})


_PLAIN = tuple(item.name for item in fields(Allocation) if item.name not in {"ports", "attempts", "final"})
_plain = attrgetter(*_PLAIN)
_TEXT_FIELDS = frozenset(
    {
        "state",
        "request_id",
        "priority",
        "host",
        "endpoint",
        "region",
        "provider",
        "location",
        "session_id",
        "session_key",
        "error_code",
        "error_message",
    }
)
_JSON_FIELDS = frozenset({"context", "ports", "attempts"})
_INTEGER_FIELDS = frozenset({"enqueued_at", "updated_at", "allocated_at", "expires_at", "retry_after_ms"})
