"""One deployment: what was asked for, where it is, and every state it has been in.

In: what `fleet` says of it. Out: the record that answers, the ledger and the webhooks are written from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NamedTuple


class State(StrEnum):
    """Where a deployment stands, as the vendor names it; answers put `Status.` before it."""

    INITIALIZING = "INITIALIZING"
    SEEKING = "SEEKING"
    SEEKED = "SEEKED"
    SCANNING = "SCANNING"
    DEPLOYING = "DEPLOYING"
    READY = "READY"
    ERROR = "ERROR"
    TERMINATING = "TERMINATING"
    TERMINATED = "TERMINATED"

    # An enum's own hash is a Python call, and the ledger counts by state.
    __hash__ = str.__hash__


PENDING = frozenset({State.INITIALIZING, State.SEEKING, State.SEEKED, State.SCANNING, State.DEPLOYING})
"""On the way to READY or ERROR: a stop waits until one of them is reached."""
HELD = PENDING | {State.READY, State.TERMINATING}
"""Takes a place at its location."""


class Event(StrEnum):
    """What a webhook tells of."""

    READY = "ready"
    ERROR = "error"
    TERMINATED = "terminated"


class PortMapping(NamedTuple):
    """One port: `internal` in the container, `external` where players reach it."""

    name: str
    internal: int
    external: int
    protocol: str
    tls_upgrade: bool


StartedBy = Literal["post", "late", "doubled"]


@dataclass(slots=True, eq=False)
class Deployment:
    """One deployment that was made; without a `location` where none was found for it."""

    request_id: str
    application: str
    version: str
    tags: tuple[str, ...]
    users: int
    env: Mapping[str, str] = field(repr=False)
    webhooks: Mapping[Event, str] = field(repr=False)
    location: str | None
    host: str
    ports: tuple[PortMapping, ...]
    max_duration_minutes: int
    started_by: StartedBy
    created_at_ms: int
    created_at_seconds: float
    ready_due_seconds: float
    state: State = State.INITIALIZING
    last_state: State | None = None
    ready_at_ms: int | None = None
    ready_at_seconds: float | None = None
    stop_asked_at_ms: int | None = None
    terminated_at_ms: int | None = None
    ended_why: str | None = None
    error_detail: str | None = None
    silenced: bool = False
    """One webhook was not taken in time, so no further one is sent."""

    @property
    def fqdn(self) -> str:
        """The name under which it is reached."""
        return f"{self.request_id}.pr.edgegap.net"

    @property
    def placed(self) -> bool:
        """Whether its host and ports are known: from DEPLOYING on."""
        return self.location is not None and self.state not in PENDING - {State.DEPLOYING}

    @property
    def serves(self) -> bool:
        """Whether players could be on it: READY, and nobody has asked to stop it."""
        return self.state is State.READY and self.stop_asked_at_ms is None

    def to_json(self) -> dict[str, Any]:
        """Every field, as the control door shows it."""
        fields = {name: getattr(self, name) for name in Deployment.__slots__}
        return {**fields, "ports": [port._asdict() for port in self.ports]}
