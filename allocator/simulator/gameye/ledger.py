"""All that was asked for and all that was started, for whoever checks a client against it.

In: sessions and their changes from `fleet`, every POST from `api`. Out: look-ups, counts, and the JSON of the control
door. It forgets nothing until it is reset; counts are kept as things happen, so that reading them costs the same at
100,000 sessions as at ten. It decides nothing: what may start and when a session ends is `fleet`'s.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from allocator.simulator.limits import RollingPeak


class Status(StrEnum):
    """The state of a session's container, as the vendor names it."""

    CREATED = "created"
    RUNNING = "running"
    RESTARTING = "restarting"
    EXITED = "exited"
    DEAD = "dead"
    DRAINING = "draining"
    SHUTTINGDOWN = "shuttingdown"
    SERVER_UNREACHABLE = "server_unreachable"

    # An enum's own hash is a Python call, and every start counts its session by status several times.
    __hash__ = str.__hash__


ENDED = frozenset({Status.EXITED, Status.DEAD})
"""Holds no place in its region any more."""
STOPPED = ENDED | {Status.SHUTTINGDOWN}
"""Takes no second stop."""

StartedBy = Literal["post", "warm_pool", "late"]


class PortMapping(NamedTuple):
    """One port: `container` inside, `host` where players reach it."""

    type: str
    container: int
    host: int


@dataclass(slots=True, eq=False)
class Session:
    """One session that was started; `asked_id` differs from `id` where a warm pool gave its own."""

    id: str
    location: str
    image: str
    tag: str
    host: str
    ports: tuple[PortMapping, ...]
    created_at_ms: int
    started_at_seconds: float
    started_by: StartedBy
    asked_id: str | None
    env: Mapping[str, str]
    args: tuple[str, ...]
    labels: Mapping[str, str]
    restart: bool
    ttl_seconds: int | None
    external_id: str | None
    status: Status = Status.CREATED
    ended_at_ms: int | None = None
    ended_why: str | None = None
    players: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Every field, as the control door shows it."""
        fields = {name: getattr(self, name) for name in Session.__slots__}
        return {**fields, "ports": [port._asdict() for port in self.ports]}


@dataclass(slots=True, eq=False)
class Post:
    """One POST /session; `status` is None until it is answered, and stays so where the answer was lost."""

    id: str | None
    location: str | None
    at_seconds: float
    at_ms: int
    status: int | None = None


class Ledger:
    """The sessions and the POSTs, in the order in which they came."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.posts: list[Post] = []
        self._by_id: dict[str, list[Session]] = {}
        self._statuses: dict[str, Counter[Status]] = defaultdict(Counter)
        self._answers: dict[str, Counter[int | None]] = defaultdict(Counter)
        self._starts: dict[str, RollingPeak] = defaultdict(RollingPeak)
        self._posts: dict[str, RollingPeak] = defaultdict(RollingPeak)

    def add_session(self, session: Session) -> None:
        """Enter a session that has just been started."""
        self.sessions.append(session)
        self._by_id.setdefault(session.id, []).append(session)
        self._statuses[session.location][session.status] += 1
        self._starts[session.location].add(session.started_at_seconds)

    def change(self, session: Session, status: Status) -> None:
        """Give a session another status."""
        counter = self._statuses[session.location]
        counter[session.status] -= 1
        counter[status] += 1
        session.status = status

    def add_post(self, post: Post) -> None:
        """Enter a POST when it arrives."""
        self.posts.append(post)
        self._answers[post.location or ""][None] += 1
        self._posts[post.location or ""].add(post.at_seconds)

    def answer(self, post: Post, status: int) -> None:
        """Enter what a POST was answered."""
        counter = self._answers[post.location or ""]
        counter[post.status] -= 1
        counter[status] += 1
        post.status = status

    def find(self, session_id: str) -> Session | None:
        """The session of this id; where ids were used again, one that is alive before the newest."""
        same = self._by_id.get(session_id)
        if not same:
            return None
        return next((session for session in reversed(same) if session.status not in ENDED), same[-1])

    def all_of(self, session_id: str) -> tuple[Session, ...]:
        """Every session that was ever started under this id, oldest first."""
        return tuple(self._by_id.get(session_id, ()))

    def alive(self, location: str) -> int:
        """How many sessions hold a place at a location."""
        counter = self._statuses.get(location)
        return 0 if counter is None else sum(n for status, n in counter.items() if status not in ENDED)

    def sessions_by_status(self) -> dict[str, dict[str, int]]:
        """How many sessions there are, by location and status."""
        return {place: _said(counter) for place, counter in self._statuses.items()}

    def posts_by_status(self) -> dict[str, dict[str, int]]:
        """How many POSTs came, by location ('' where none was named) and status (`none` where no answer went out)."""
        return {place: _said(counter) for place, counter in self._answers.items()}

    def starts_per_second_max(self) -> dict[str, int]:
        """The most sessions that came up in any rolling second, by location."""
        return {place: peak.per_second_max for place, peak in self._starts.items()}

    def posts_per_second_max(self) -> dict[str, int]:
        """The most POSTs, whatever their answer, that came in any rolling second, by location."""
        return {place: peak.per_second_max for place, peak in self._posts.items()}

    def to_json(self, *, rows: bool = True) -> dict[str, Any]:
        """What the control door shows; without `rows` only the counts, which is quick whatever was started."""
        shown: dict[str, Any] = {
            "sessions_total": len(self.sessions),
            "posts_total": len(self.posts),
            "sessions_by_status": self.sessions_by_status(),
            "posts_by_status": self.posts_by_status(),
            "starts_per_second_max": self.starts_per_second_max(),
            "posts_per_second_max": self.posts_per_second_max(),
        }
        if rows:
            shown["sessions"] = [session.to_json() for session in self.sessions]
        return shown


def _said(counter: Mapping[Any, int]) -> dict[str, int]:
    return {"none" if key is None else str(key): count for key, count in counter.items() if count}
