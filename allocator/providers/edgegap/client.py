"""Edgegap as a `Provider`: a start is one POST and the wait until what it made is ready.

In: session ids, locations, what to run. Out: the outcomes of `allocator.providers.provider`. The host takes no ids of
ours: each deployment bears the session id as a tag, and is found by it; its own name, the `request_id`, is the
session's `native_id`. Promised: a start is sent at most once, and what it made is either told of as ready or named as
left behind; a stop ends all that bear the id; lists and statuses are asked for at the account's pace alone. Left to
others: rates of starts, retries, look-ups after an unknown outcome, and stopping what was left behind.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import aiohttp

from allocator.providers.credential import Credential
from allocator.providers.edgegap.calls import Calls
from allocator.providers.edgegap.follower import Follower, Ready
from allocator.providers.edgegap.lookout import By, Lookout
from allocator.providers.edgegap.pace import OwnPace, Pace
from allocator.providers.edgegap.refusal import refused_start
from allocator.providers.edgegap.tags import is_ours, key_tag, mark_tag
from allocator.providers.edgegap.versions import Lifetimes
from allocator.providers.edgegap.wire import (
    Place,
    Row,
    Status,
    Version,
    deploy_body,
    described_session,
    lifetime_seconds,
    listed_session,
    read_named,
    started_session,
    state_of,
    users_of,
)
from allocator.providers.exchange import Lost, NotSent, Reply
from allocator.providers.provider import (
    Absent,
    Broken,
    Created,
    FindOutcome,
    Found,
    Gone,
    LookupFailed,
    NotFound,
    Offered,
    Session,
    SessionState,
    StartOutcome,
    StartSpec,
    StopFailed,
    StopOutcome,
    Stopped,
    Unknown,
    Unreachable,
)
from allocator.providers.reading import Unreadable

T = TypeVar("T")

THROTTLE_STATUSES = frozenset({420, 429})
CALL_SECONDS = 8.0
SPARE_SECONDS = 0.2
"""How long a status that can as well be asked for later waits for leave."""
FOUND_SECONDS = 1.0
"""A stop acts on what a list showed so long ago, and on nothing older."""


class EdgegapProvider:
    """One organisation at Edgegap. `locations` and `timeout_seconds` may be set anew while calls are under way."""

    def __init__(
        self,
        base_url: str,
        account: str,
        credential: Credential,
        *,
        locations: Mapping[str, Place],
        timeout_seconds: float = CALL_SECONDS,
        throttle_statuses: frozenset[int] = THROTTLE_STATUSES,
        pace: Pace | None = None,
        hook_url: str | None = None,
        connector: aiohttp.BaseConnector | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Make the connections inside a running loop; a connector that is handed in stays its owner's to close.

        `timeout_seconds` bounds each single call; `hook_url` is where the host tells what has become of a start.
        """
        self.locations = locations
        self._account = account
        self._credential = credential
        self._throttle_statuses = throttle_statuses
        self._hook_url = hook_url
        self._now = now
        pace = pace or OwnPace()
        self._calls = calls = Calls(base_url, credential, pace, timeout_seconds=timeout_seconds, connector=connector)
        self._lookout = Lookout(calls.page, pace)
        self._follower = Follower(self._lookout, lambda request_id: calls.status(request_id, SPARE_SECONDS))
        self._lifetimes = Lifetimes(calls.version)

    def __repr__(self) -> str:
        return f"EdgegapProvider({self._calls.base!r}, account={self._account!r})"

    @property
    def name(self) -> str:
        """`edgegap`."""
        return "edgegap"

    @property
    def timeout_seconds(self) -> float:
        """What bounds each single call."""
        return self._calls.timeout_seconds

    @timeout_seconds.setter
    def timeout_seconds(self, seconds: float) -> None:
        self._calls.timeout_seconds = seconds

    @property
    def account(self) -> str:
        """Whose rates these are."""
        return self._account

    def hear(self, body: bytes) -> None:
        """A webhook has come: whoever it is from, what it names is looked at, and nothing it says is believed."""
        named = read_named(body)
        if not isinstance(named, Unreadable):
            self._follower.hint(named)

    def unsuited(self, location: str, spec: StartSpec) -> str | None:
        """The host takes no arguments and no lifetime; it needs a version, and to know where the players are."""
        if spec.args:
            return "Edgegap takes no args: set them in the version's image"
        if spec.own_ttl:
            return "Edgegap takes no ttl: a session's lifetime is its version's max_duration"
        if spec.version is None:
            return "Edgegap needs a version: name it in the request, or in [catalog] as edgegap.version"
        if location not in self.locations and not users_of(spec.players, None):
            return f"nobody knows where it is: set edgegap.locations.{location}, or give the players ip or lat and lon"
        return None

    async def start(self, session_id: str, location: str, spec: StartSpec, *, timeout_seconds: float) -> StartOutcome:
        """Send one `POST /v2/deployments`, and wait until what it made is ready, or never will be."""
        if (reason := self.unsuited(location, spec)) is not None:
            return NotFound(404, reason)
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_seconds
        users = users_of(spec.players, self.locations.get(location))
        answer = await self._calls.deploy(
            deploy_body(session_id, location, spec, users, self._hook_url), timeout_seconds
        )
        match answer:
            case Reply(status=202, body=body):
                request_id = read_named(body)
                if isinstance(request_id, Unreadable):
                    return Unknown(202, f"the reply to a start cannot be read ({request_id.fault})")
                return await self._started(request_id, session_id, location, spec, until - loop.time())
            case Reply():
                return refused_start(
                    answer,
                    throttle_statuses=self._throttle_statuses,
                    secrets=(*spec.env.values(), self._credential.token()),
                    now_seconds=self._now(),
                    by_players=bool(users_of(spec.players, None)),
                )
            case NotSent(message):
                return Unreachable(f"{message}; check edgegap.base_url and the network")
            case Lost(message, status):
                return Unknown(status, message, closes=status == 503)

    async def find(self, session_id: str, *, timeout_seconds: float) -> FindOutcome:
        """Describe one session; of several that bear its id one that is ready, and of those the oldest."""
        return await _within(timeout_seconds, self._find(session_id))

    async def stop(self, session_id: str, *, timeout_seconds: float) -> StopOutcome:
        """End all that bear the id; gone only where the host itself says so."""
        outcome = await _within(timeout_seconds, self._stop(session_id))
        return StopFailed(outcome.message, outcome.status) if isinstance(outcome, LookupFailed) else outcome

    async def list(self, mark: str, *, timeout_seconds: float) -> tuple[Session, ...] | LookupFailed:
        """Every session that bears the mark, ready or not; filtered here as well as there."""
        rows = await _within(timeout_seconds, self._lookout.every(mark_tag(mark), "created_at"))
        if isinstance(rows, LookupFailed):
            return rows
        return tuple(session for session in map(listed_session, rows) if session.mark == mark)

    async def offers(self, image: str, *, timeout_seconds: float) -> Offered | LookupFailed:
        """Everywhere: this host pushes a start back for its pace alone, and says of each that finds no room."""
        del image, timeout_seconds
        return Offered(None)

    async def version(self, application: str, version: str) -> Version | LookupFailed:
        """What the host knows of a version; a LookupFailed with 404 where there is none."""
        return await self._calls.version(application, version)

    async def close(self) -> None:
        """Give the connections back."""
        await self._lookout.close()
        await self._calls.close()

    async def _started(
        self, request_id: str, session_id: str, location: str, spec: StartSpec, seconds: float
    ) -> StartOutcome:
        """Wait for what was made; its lifetime is asked for meanwhile, and taken for the longest where nobody says."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        lifetime = loop.create_task(self._lifetimes.seconds(spec.image, spec.version or ""))
        try:
            followed = await self._follower.ready(request_id, seconds)
            if not isinstance(followed, Ready):
                return Broken(202, followed.message, native_id=request_id)
            await asyncio.wait([lifetime], timeout=max(0.0, until - loop.time()))
            lasts = lifetime.result() if lifetime.done() else lifetime_seconds(None)
            return Created(started_session(followed.found, session_id, location, spec, lasts), 202)
        finally:
            lifetime.cancel()

    async def _find(self, session_id: str) -> FindOutcome:
        request_id = session_id
        if is_ours(session_id):
            rows = await self._lookout.rows(By.TAG, key_tag(session_id))
            if isinstance(rows, LookupFailed):
                return rows
            if not rows:
                return Absent()
            request_id = min(rows, key=_rank).request_id
        status = await self._calls.status(request_id, self.timeout_seconds)
        match status:
            case Status():
                session = described_session(status)
                return session.failed() if isinstance(session, Unreadable) else Found(session)
            case LookupFailed():
                return Absent() if _is_unknown(status) else status
            case None:
                return LookupFailed("no leave to ask for a status: others come first")

    async def _stop(self, session_id: str) -> StopOutcome | LookupFailed:
        if not is_ours(session_id):
            return await self._stop_one(session_id)
        try:
            async with asyncio.timeout(FOUND_SECONDS):
                rows = await self._lookout.rows(By.TAG, key_tag(session_id))
        except TimeoutError:
            return StopFailed("what bears the id could not be listed in time: other lists come first")
        if isinstance(rows, LookupFailed):
            return rows
        outcomes = await asyncio.gather(*(self._stop_one(row.request_id, ready=row.ready) for row in rows))
        failed = next((each for each in outcomes if isinstance(each, StopFailed)), None)
        if failed is not None:
            return failed
        return Stopped() if any(isinstance(each, Stopped) for each in outcomes) else Gone()

    async def _stop_one(self, request_id: str, *, ready: bool = False) -> StopOutcome:
        """End one deployment. The host puts a stop off until it is ready or has failed: then it has failed for now."""
        standing = await self._calls.stop(request_id)
        if standing is None:
            if ready:
                return Stopped()
            standing = await self._calls.status(request_id, self.timeout_seconds)
        elif isinstance(standing, LookupFailed) and standing.status == 400:
            # an id that the host does not know, or anything else
            known = await self._calls.status(request_id, self.timeout_seconds)
            return Gone() if _is_unknown(known) else StopFailed(standing.message, standing.status)
        match standing:
            case Status() if state_of(standing) in {SessionState.ALIVE, SessionState.ENDED}:
                return Stopped()
            case LookupFailed(_, 404 | 410):
                return Gone()
            case LookupFailed(message, status):
                return StopFailed(message, status)
        return StopFailed("the host puts the stop off until the deployment is ready or has failed")


def _is_unknown(answer: Status | LookupFailed | None) -> bool:
    """Whether the host knows no such deployment: its description says 404, it has been seen to answer 400."""
    return isinstance(answer, LookupFailed) and answer.status in {400, 404}


def _rank(row: Row) -> tuple[bool, str, str]:
    """Ready ones first, then the oldest; the same row for whoever asks."""
    return not row.ready, str(row.start_time), row.request_id


async def _within(seconds: float, answer: Awaitable[T]) -> T | LookupFailed:
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except TimeoutError:
        return LookupFailed(f"no answer within {seconds:g} s")
