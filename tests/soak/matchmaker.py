"""A matchmaker that asks at an even rate, plays each match for a while and wants its server released.

In: a fleet whose Redis may be away at any moment. Out: what became of each match, as it was announced. Promises: what
was not acknowledged is sent again under its id until it is, so that no match is lost here.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from redis.exceptions import RedisError

from tests.crash.fleet import Fleet

REGIONS = ("europe", "us-east", "asia")
TTL = "5m"
AGAIN_SECONDS = 0.1
READ_MS = 500


@dataclass(slots=True)
class Match:
    """One match from being asked for to its end."""

    state: str = ""
    session_id: str = ""
    released_at_ms: float | None = None
    """When its release was first wanted."""


class Matchmaker:
    """Asks, listens, and releases what was played."""

    def __init__(self, fleet: Fleet, *, rate: float, play_seconds: float, timeout_seconds: float, seed: int) -> None:
        self.matches: dict[str, Match] = {}
        self.announced: list[dict[str, str]] = []
        """The announcements as `Account` wants them, without what they say besides."""
        self._fleet = fleet
        self._rate = rate
        self._play_seconds = play_seconds
        self._timeout_seconds = timeout_seconds
        self._chance = random.Random(seed)
        self._playing: deque[tuple[float, str]] = deque()
        self._last = "0-0"

    @property
    def open(self) -> int:
        """How many matches have no last state yet."""
        return sum(match.state == "" for match in self.matches.values())

    @property
    def in_play(self) -> int:
        """How many matches have a server."""
        return sum(match.state == "allocated" for match in self.matches.values())

    async def ask(self, until: float) -> None:
        """Ask for matches until that moment of the monotonic clock."""
        since = time.monotonic()
        while (now := time.monotonic()) < until:
            for _ in range(round((now - since) * self._rate) - len(self.matches)):
                await self._ask_for(f"soak-{len(self.matches)}")
            await asyncio.sleep(1 / self._rate)

    async def listen(self) -> None:
        """Read every announcement, for ever."""
        while True:
            try:
                found: Any = await self._fleet.redis.xread({self._fleet.keys.results: self._last}, 500, READ_MS)
            except RedisError:
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            for _, entries in found:
                for entry_id, fields in entries:
                    self._last = entry_id
                    self._heard(fields)

    async def release(self) -> None:
        """Want the server of each match released once it has been played, for ever."""
        while True:
            while self._playing and self._playing[0][0] <= time.monotonic():
                _, name = self._playing.popleft()
                match = self.matches[name]
                match.released_at_ms = time.time() * 1000
                await self._insist(partial(self._fleet.cancel, name))
            await asyncio.sleep(AGAIN_SECONDS)

    def end_play(self) -> None:
        """Let every match that is played have been played long enough."""
        self._playing = deque((0.0, name) for _, name in self._playing)
        self._play_seconds = 0.0

    async def _ask_for(self, name: str) -> None:
        self.matches[name] = Match()
        regions = self._chance.sample(REGIONS, len(REGIONS))
        stream, fields = self._fleet.entry(
            name, regions=regions, timeout_seconds=self._timeout_seconds, body={"ttl": TTL}
        )
        await self._insist(lambda: self._fleet.redis.xadd(stream, fields))

    async def _insist(self, send: Any) -> None:
        while True:
            try:
                await send()
            except RedisError:
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                return

    def _heard(self, fields: Mapping[str, str]) -> None:
        event = json.loads(fields["event"])
        name, state = fields["request_id"], fields["state"]
        slim = {"request_id": name, "state": state, "event": json.dumps({"id": event["id"]})}
        self.announced.append(slim)
        match = self.matches[name]
        if match.state == "" and state == "allocated":
            match.session_id = event["data"]["session_id"]
            self._playing.append((time.monotonic() + self._play_seconds, name))
        if match.state != "released":
            match.state = state
