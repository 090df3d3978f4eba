"""What the simulated vendor does, without HTTP: starts, stops, finds and lists sessions.

In: calls already read and authorised, settings, a clock. Out: values of the unions below. It promises that a
session's id, place and permit are taken the moment a start is admitted; that a `Refused` start left nothing behind;
and that whatever falls due with time (a ttl, a late landing, the end of a stop) has happened before the next call
sees anything, at the time it was due. Faults, latency and shapes are others' (`delivery`, `shapes`).
"""

from __future__ import annotations

import heapq
import itertools
import random
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from allocator.simulator.clock import Clock
from allocator.simulator.dice import Dice
from allocator.simulator.gameye.ledger import ENDED, STOPPED, Ledger, Session, StartedBy, Status
from allocator.simulator.gameye.region import Region
from allocator.simulator.gameye.settings import ImageSettings, SimulatorSettings, WarmPool
from allocator.simulator.gameye.start_body import Asked

_ANY_IMAGE = ImageSettings()


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was done."""

    status: int
    message: str
    details: str = ""


@dataclass(frozen=True, slots=True)
class _Landing:
    asked: Asked
    region: Region


@dataclass(frozen=True, slots=True)
class _TtlEnd:
    session: Session


@dataclass(frozen=True, slots=True)
class _StopEnd:
    session: Session


class Fleet:
    """The sessions of one simulated account, in all its regions."""

    def __init__(self, settings: SimulatorSettings, clock: Clock) -> None:
        self.ledger = Ledger()
        self._clock = clock
        self._known: dict[str, Region] = {}  # also those the settings no longer name: their addresses stay in use
        self._regions: dict[str, Region] = {}
        self._due: list[tuple[float, int, _Landing | _TtlEnd | _StopEnd]] = []
        self._order = itertools.count()
        self._playing: dict[str, Session] = {}
        self._random = random.Random(f"{settings.seed}:ids")  # noqa: S311 - a simulation, repeatable by its seed
        self.apply(settings)

    def apply(self, settings: SimulatorSettings) -> None:
        """Go by other settings from now on; sessions, rates used and pools drawn on stay as they are."""
        for name, region_settings in settings.regions.items():
            if name not in self._known:
                self._known[name] = Region(len(self._known), region_settings, f"{settings.seed}:{name}")
            self._known[name].settings = region_settings
        self._regions = {name: self._known[name] for name in settings.regions}
        self.settings = settings
        self.dice = Dice(settings.faults, settings.seed)

    def region(self, name: str | None) -> Region | None:
        """The region of this name, if there is one."""
        return None if name is None else self._regions.get(name)

    def settle(self) -> None:
        """Let happen what has fallen due."""
        now = self._clock.monotonic()
        while self._due and self._due[0][0] <= now:
            due, _, event = heapq.heappop(self._due)
            match event:
                case _Landing(asked, region):
                    region.landing -= 1
                    if not self._taken(asked):
                        session = self._create(asked, region, due, started_by="late", pool=None)
                        self.ready(session)
                case _TtlEnd(session):
                    if session.status not in STOPPED:
                        self._end(session, Status.DEAD, "ttl", due)
                case _StopEnd(session):
                    if session.status is Status.SHUTTINGDOWN:
                        self.ledger.change(session, Status.EXITED)

    def start(self, asked: Asked) -> Session | Refused:
        """Start a session; it is `created` until `ready`."""
        region = self._admit(asked)
        if isinstance(region, Refused):
            return region
        now = self._clock.monotonic()
        pool = region.claim_warm(asked.image, now)
        return self._create(asked, region, now, started_by="warm_pool" if pool else "post", pool=pool)

    def start_late(self, asked: Asked, after_seconds: float) -> None:
        """Take a start, if it may be; its session appears so many seconds later, and nothing is seen of it before."""
        region = self._admit(asked)
        if isinstance(region, Region):
            region.landing += 1
            self._schedule(self._clock.monotonic() + after_seconds, _Landing(asked, region))

    def ready(self, session: Session) -> None:
        """Let a session's container run: its start is being answered."""
        if session.status is Status.CREATED:
            self.ledger.change(session, Status.RUNNING)

    def find(self, session_id: str) -> Session | Refused:
        """The session of this id, running or ended."""
        self.settle()
        return self.ledger.find(session_id) or Refused(404, "Session not found", f"no session has the id {session_id}")

    def stop(self, session_id: str) -> Session | Refused:
        """Stop the session of this id; a stop takes `stop_seconds` to end it."""
        session = self.find(session_id)
        if isinstance(session, Refused):
            return session
        if session.status in STOPPED:
            return Refused(409, "Session already terminated", f"{session_id} is {session.status}")
        now = self._clock.monotonic()
        stop_seconds = self.settings.stop_seconds
        if stop_seconds:
            self._end(session, Status.SHUTTINGDOWN, "stopped", now)
            self._schedule(now + stop_seconds, _StopEnd(session))
        else:
            self._end(session, Status.EXITED, "stopped", now)
        return session

    def set_status(self, session_id: str, status: Status) -> Session | Refused:
        """Put a session into any state, as its server or its container might."""
        session = self.find(session_id)
        if isinstance(session, Session):
            if status in STOPPED and session.status not in STOPPED:
                self._end(session, status, "set", self._clock.monotonic())
                return session
            if status not in STOPPED:
                session.ended_at_ms = session.ended_why = None
            self.ledger.change(session, status)
        return session

    def sessions(self) -> Iterable[Session]:
        """Every session there ever was, oldest first."""
        self.settle()
        return self.ledger.sessions

    def join(self, session_id: str, players: tuple[str, ...]) -> Session | Refused:
        """Let players join a session, out of whichever they were in."""
        session = self.find(session_id)
        if isinstance(session, Refused):
            return session
        if session.status in STOPPED:
            return Refused(404, "Session not found", f"{session_id} is {session.status}")
        for player in dict.fromkeys(players):
            self._remove(player)
            self._playing[player] = session
            session.players = (*session.players, player)
        return session

    def leave(self, players: tuple[str, ...]) -> int | Refused:
        """Let players leave wherever they are; the number of those who stay in the last of these sessions."""
        self.settle()
        left = [session for player in dict.fromkeys(players) if (session := self._remove(player)) is not None]
        if players and not left:
            return Refused(404, "Session not found", "none of these players is in a session")
        return len(left[-1].players) if left else 0

    def locations(self, image: str) -> dict[str, str] | Refused:
        """Each region that could take one more session of this image, with an address to ping."""
        self.settle()
        if self._image(image) is None:
            return Refused(404, "Image not found", f"no image is called {image}")
        return {
            name: region.host()
            for name, region in self._regions.items()
            if region.settings.closed is None and not self._full(name, region)
        }

    def has_tag(self, location: str, image: str, tag: str) -> bool | Refused:
        """Whether a region could run this tag of this image."""
        region, known = self._regions.get(location), self._image(image)
        if region is None or known is None:
            return Refused(404, "Region not found" if region is None else "Image not found")
        if region.settings.closed is not None:
            return Refused(region.settings.closed, f"{location} is closed")
        return not known.tags or tag in known.tags

    def _admit(self, asked: Asked) -> Region | Refused:
        """The region that takes this start, one of its permits used up; or why none does."""
        self.settle()
        region = self._regions.get(asked.location)
        if region is None:
            return Refused(404, "Region not found", f"no region is called {asked.location}")
        if region.settings.closed is not None:
            return Refused(region.settings.closed, f"{asked.location} is closed")
        return self._unknown(asked) or self._used_up(asked) or self._throttled(asked, region) or region

    def _unknown(self, asked: Asked) -> Refused | None:
        image = self._image(asked.image)
        if image is None:
            return Refused(404, "Application not found", f"no image is called {asked.image}")
        if asked.version is not None and image.tags and asked.version not in image.tags:
            return Refused(404, "Tag not found", f"{asked.image} has no tag {asked.version}")
        return None

    def _used_up(self, asked: Asked) -> Refused | None:
        quota = self.settings.quota
        if quota is not None and len(self.ledger.sessions) + self._landing() >= quota:
            return Refused(self.settings.quota_status, "Quota exhausted", f"all {quota} sessions have been started")
        if self._taken(asked):
            return Refused(409, "Cannot start a session with this id", f"{asked.id} is in use; use a unique id")
        return None

    def _throttled(self, asked: Asked, region: Region) -> Refused | None:
        status = region.settings.throttle_status or self.settings.throttle_status
        if self._full(asked.location, region):
            return Refused(status, "No capacity", f"{asked.location} is full")
        if not region.limit.admits(self._clock.monotonic(), region.settings):
            return Refused(status, "Too many starts", f"{asked.location} starts sessions slower than that")
        return None

    def _create(
        self, asked: Asked, region: Region, at: float, *, started_by: StartedBy, pool: WarmPool | None
    ) -> Session:
        image = self._image(asked.image) or _ANY_IMAGE
        host, ports = region.address(image.ports)
        preferred_tag = image.tags[0] if image.tags else "latest"
        own_id = asked.id if pool is None or not pool.own_ids else None
        session = Session(
            id=own_id or str(uuid.UUID(int=self._random.getrandbits(128), version=4)),
            location=asked.location,
            image=asked.image,
            tag=(asked.version if pool is None else pool.tag) or preferred_tag,
            host=host,
            ports=ports,
            created_at_ms=self._wall_ms(at),
            started_at_seconds=at,
            started_by=started_by,
            asked_id=asked.id,
            env=asked.env if pool is None else pool.env,
            args=asked.args if pool is None else pool.args,
            labels=asked.labels if pool is None else pool.labels,
            restart=asked.restart and pool is None,
            ttl_seconds=asked.ttl_seconds,
            external_id=asked.external_id,
        )
        self.ledger.add_session(session)
        if asked.ttl_seconds is not None:
            self._schedule(at + asked.ttl_seconds, _TtlEnd(session))
        return session

    def _end(self, session: Session, status: Status, why: str, at: float) -> None:
        self.ledger.change(session, status)
        session.ended_at_ms, session.ended_why = self._wall_ms(at), why
        for player in session.players:
            self._playing.pop(player, None)
        session.players = ()

    def _remove(self, player: str) -> Session | None:
        session = self._playing.pop(player, None)
        if session is not None:
            session.players = tuple(other for other in session.players if other != player)
        return session

    def _taken(self, asked: Asked) -> bool:
        if asked.id is None:
            return False
        return any(
            (self.settings.id_scope == "account" or session.location == asked.location)
            and (self.settings.id_reuse == "never" or session.status not in ENDED)
            for session in self.ledger.all_of(asked.id)
        )

    def _image(self, name: str) -> ImageSettings | None:
        return self.settings.images.get(name) if self.settings.images else _ANY_IMAGE

    def _full(self, name: str, region: Region) -> bool:
        capacity = region.settings.capacity
        return capacity is not None and self.ledger.alive(name) + region.landing >= capacity

    def _landing(self) -> int:
        return sum(region.landing for region in self._regions.values())

    def _schedule(self, due: float, event: _Landing | _TtlEnd | _StopEnd) -> None:
        heapq.heappush(self._due, (due, next(self._order), event))

    def _wall_ms(self, at: float) -> int:
        """Unix milliseconds of a moment of the monotonic clock."""
        return int((self._clock.wall() - (self._clock.monotonic() - at)) * 1000)
