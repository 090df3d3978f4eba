"""The port to a game-server host: start, find, stop and list a session, ask where there is room.

In: a session id that this deployment alone can make, and what to run. Out: an outcome, always a value of one of
the unions below; a provider raises only for a fault of its own code. What an outcome promises:

    start   Created                    a session runs under this id
            NoRoom Rejected NotFound   definite: nothing was created; the same id may go to another destination
            CredentialRefused          definite: nothing was created, and nothing can be with this credential
            Broken                     definite: what was created under this id will not serve; leave it behind
            Unreachable                definite: the call never left this process
            Conflict                   the id is in use: look it up
            Unknown                    nobody knows: look the id up before anything else
    find    Found Absent LookupFailed
    stop    Stopped Gone StopFailed
    list    a tuple of sessions, or LookupFailed
    offers  Offered LookupFailed

Rates and retries are the callers'; a provider makes one call and says what came of it. A host that answers a start
before the session runs is followed inside `start`, which answers once it is known. `unsuited` asks nobody: it says
beforehand what a host cannot do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from allocator.contract.allocation import Port
from allocator.contract.request import Player
from allocator.contract.values import quick


@quick
@dataclass(frozen=True, slots=True, repr=False)
class StartSpec:
    """What to run; `env`, `args` may hold secrets, so nothing of them is ever printed.

    `image` and `version` as the provider calls them. `labels` already bear our mark; `ttl` is `2h30m` in form, and
    `own_ttl` says that the request itself named it; `port_names` maps `7777/udp` to a catalog name.
    """

    image: str
    version: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    restart: bool = False
    ttl: str | None = None
    own_ttl: bool = False
    players: tuple[Player, ...] = ()
    port_names: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"StartSpec(image={self.image!r}, version={self.version!r}, ...)"


LANDING_HORIZON_MS = 10 * 60 * 1000
"""How long after a call its session may still appear: nothing that is looked for so long later can come any more."""


class SessionState(Enum):
    """What a session's status means for us: one that plays, one that ends, or one we cannot read."""

    ALIVE = "alive"
    PENDING = "pending"
    """It is being made: it may come to life, or never."""
    ENDED = "ended"
    UNCLEAR = "unclear"


@quick
@dataclass(frozen=True, slots=True)
class Session:
    """A session at the provider. `host` is what players dial; `image` and `location` as the provider calls them.

    `id` is the one that we gave; `native_id` the provider's own, where it takes none of ours. `image` is empty where
    a list does not tell it.
    """

    id: str
    host: str
    ports: tuple[Port, ...]
    location: str
    image: str
    state: SessionState = SessionState.ALIVE
    mark: str | None = None
    """The deployment our mark names, where the provider kept it."""
    request_id: str | None = None
    """The request that our label names, and `namespace` the place of its record; None where there is no such label."""
    namespace: str | None = None
    created_at_ms: int | None = None
    native_id: str | None = None
    ttl_seconds: int | None = None
    """How long it lives, where that is not the `ttl` that was asked for."""

    @property
    def public_id(self) -> str:
        """What the provider calls it: told to users, and names it alone where two bear one id of ours."""
        return self.native_id or self.id


@quick
@dataclass(frozen=True, slots=True)
class Created:
    """The session runs. Its id differs from the one asked for where a warm pool chose its own."""

    session: Session
    status: int


@dataclass(frozen=True, slots=True)
class NoRoom:
    """Too fast or full (420, 429): nothing was created. `retry_after_seconds` where the provider named it."""

    status: int
    retry_after_seconds: float | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The provider will never take this body (400, 422); the message holds its violations."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class NotFound:
    """Image, version or location unknown here (404)."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class CredentialRefused:
    """401, 402 or 403: the token, its quota or its scope."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The call never left: name not resolved, connection refused, TLS failed."""

    message: str


@dataclass(frozen=True, slots=True)
class Broken:
    """Something was created under this id and will not serve: it failed, found no room, or was not ready in time.

    `is_full` where it found no room, and `closes` where that holds for whoever plays; `native_id` where the provider
    named what is left.
    """

    status: int | None
    message: str
    is_full: bool = False
    closes: bool = False
    native_id: str | None = None


@dataclass(frozen=True, slots=True)
class Conflict:
    """409: the id is in use."""

    status: int
    message: str = ""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Time-out, reset, 5xx, a redirect, a body that cannot be read. `closes` where the destination asks for rest."""

    status: int | None
    message: str
    closes: bool = False
    retry_after_seconds: float | None = None


StartOutcome = Created | NoRoom | Rejected | NotFound | CredentialRefused | Unreachable | Broken | Conflict | Unknown


@dataclass(frozen=True, slots=True)
class Found:
    """The session as the provider describes it."""

    session: Session


@dataclass(frozen=True, slots=True)
class Absent:
    """The provider knows no such session."""


@dataclass(frozen=True, slots=True)
class LookupFailed:
    """The provider did not say; ask again later."""

    message: str
    status: int | None = None


FindOutcome = Found | Absent | LookupFailed


@dataclass(frozen=True, slots=True)
class Stopped:
    """204: it ran and is being ended."""


@dataclass(frozen=True, slots=True)
class Gone:
    """404 or 409: nothing to stop."""


@dataclass(frozen=True, slots=True)
class StopFailed:
    """The provider did not say; ask again later."""

    message: str
    status: int | None = None


StopOutcome = Stopped | Gone | StopFailed


@dataclass(frozen=True, slots=True)
class Offered:
    """The locations that have room for an image now; None where the host refuses starts for their pace alone."""

    locations: frozenset[str] | None

    def has_room(self, location: str) -> bool:
        """Whether this location is among them."""
        return self.locations is None or location in self.locations


class Provider(Protocol):
    """One account at one game-server host."""

    @property
    def name(self) -> str:
        """As destinations call it: `gameye`."""
        ...

    @property
    def account(self) -> str:
        """Whose rates these are: destinations of one account share its limits."""
        ...

    def unsuited(self, location: str, spec: StartSpec) -> str | None:
        """Why this can never be served at this location, known without asking; None where it may be."""
        ...

    async def start(self, session_id: str, location: str, spec: StartSpec, *, timeout_seconds: float) -> StartOutcome:
        """Start one session under this id at this location; one call, answered within the timeout."""
        ...

    async def find(self, session_id: str, *, timeout_seconds: float) -> FindOutcome:
        """Describe one session, wherever it runs, by our id or the provider's own."""
        ...

    async def stop(self, session_id: str, *, timeout_seconds: float) -> StopOutcome:
        """End one session, by our id or the provider's own; harmless where it has ended.

        By our id all that bear it are ended. An end that is put off until the session runs has failed for now.
        """
        ...

    async def list(self, mark: str, *, timeout_seconds: float) -> tuple[Session, ...] | LookupFailed:
        """Every session that runs, or is being made, and bears this deployment's mark.

        Not those that have ended, which a host keeps for days and lists without pages.
        """
        ...

    async def offers(self, image: str, *, timeout_seconds: float) -> Offered | LookupFailed:
        """Where an image could start now: tells a location that is full from one that was asked too fast."""
        ...

    async def close(self) -> None:
        """Give the connections back."""
        ...
