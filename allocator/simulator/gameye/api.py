"""Gameye's ten paths over HTTP.

In: requests. Out: each one read, authorised and handed to `deliver` as a `Call` on the fleet. It promises the order
of checks: token (401), scope (403), body (422) or query (400), then whatever the fleet says; and that every POST
that arrives whole is in the ledger, whatever it is answered.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from aiohttp import web

from allocator.simulator.bodies import Violation, read_boolean, read_json
from allocator.simulator.clock import Clock
from allocator.simulator.delivery import Call, Reply, at_once, deliver
from allocator.simulator.gameye import shapes
from allocator.simulator.gameye.archive import tar_gz
from allocator.simulator.gameye.delivery import Refusals, coloured
from allocator.simulator.gameye.faults import Operation
from allocator.simulator.gameye.fleet import Fleet, Refused
from allocator.simulator.gameye.ledger import ENDED, Post, Session
from allocator.simulator.gameye.list_query import read_query
from allocator.simulator.gameye.settings import Scope
from allocator.simulator.gameye.start_body import Asked, read_players, read_start

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_FOLLOW_POLL_SECONDS = 0.1
_TEXT = {"Content-Type": "text/plain; charset=utf-8"}
_TAR = {"Content-Type": "application/x-tar"}
_WRONG_BODY = Refused(422, "The body is not valid", "see violations")


class VendorApi:
    """The vendor's API on whichever fleet is the current one."""

    def __init__(self, fleet: Callable[[], Fleet], clock: Clock) -> None:
        self._fleet = fleet
        self._clock = clock
        self._refusals = Refusals(clock)

    def routes(self) -> list[web.RouteDef]:
        """The ten paths."""
        return [
            web.post("/session", self._start),
            web.get("/session", self._list, allow_head=False),
            web.get("/session/{id}", self._find, allow_head=False),
            web.delete("/session/{id}", self._stop),
            web.put("/session/player/join", self._join),
            web.delete("/session/player/leave", self._leave),
            web.get("/available-location/{image}", self._locations, allow_head=False),
            web.get("/tag/{region}/{image}/{version}", self._tag, allow_head=False),
            web.get("/logs", self._logs, allow_head=False),
            web.get("/artifacts", self._artifacts, allow_head=False),
        ]

    def unrouted(self, request: web.Request, status: int, reason: str) -> web.Response:
        """The vendor's error body for what HTTP itself refuses: no such path, no such method, too large a body."""
        return self._refusals.reply(request, self._fleet(), Refused(status, reason)).to_response()

    async def _start(self, request: web.Request) -> web.StreamResponse:
        body = read_json(await request.read())
        fleet = self._fleet()
        post = Post(
            id=_text(body, "id"),
            location=_text(body, "location"),
            at_seconds=self._clock.monotonic(),
            at_ms=int(self._clock.wall() * 1000),
        )
        fleet.ledger.add_post(post)
        asked = read_start(body)
        refused = _unauthorised(request, fleet, Scope.SESSION_START)
        if refused is not None or not isinstance(asked, Asked):
            violations = asked if refused is None and not isinstance(asked, Asked) else ()
            reply = self._refusals.reply(request, fleet, refused or _WRONG_BODY, violations=violations)
            fleet.ledger.answer(post, reply.status)
            return reply.to_response()
        sessions: list[Session] = []

        def act() -> Reply:
            outcome = fleet.start(asked)
            if isinstance(outcome, Refused):
                return self._refuse(request, fleet, outcome, asked.location)
            sessions.append(outcome)
            return Reply(201, shapes.started(outcome))

        def answered(status: int | None) -> None:
            for session in sessions:
                fleet.ready(session)
            if status is not None:
                fleet.ledger.answer(post, status)

        fate = fleet.dice.cast(Operation.START, asked.location)
        region = fleet.region(asked.location)
        call = Call(
            act,
            partial(self._fail, request, fleet, asked.location),
            act_late=partial(fleet.start_late, asked),
            coloured=partial(coloured, fate=fate),
            latency_seconds=at_once if region is None else region.latency_seconds,
            answered=answered,
        )
        return await deliver(request, call, fate, self._clock)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        wanted = read_query(request.query.items())

        def act(fleet: Fleet) -> Any:
            if isinstance(wanted, Violation):
                return Refused(400, "The query is not valid", f"{wanted.field} {wanted.description}")
            return {"sessions": [shapes.listed(session) for session in fleet.sessions() if wanted(session)]}

        return await self._answer(request, Operation.LIST, Scope.SESSION_READ, act, request.query.get("location"))

    async def _find(self, request: web.Request) -> web.StreamResponse:
        session_id = request.match_info["id"]

        def act(fleet: Fleet) -> Any:
            found = fleet.find(session_id)
            return found if isinstance(found, Refused) else shapes.described(found)

        return await self._answer(request, Operation.FIND, Scope.SESSION_READ, act, self._whereabouts(session_id))

    async def _stop(self, request: web.Request) -> web.StreamResponse:
        session_id = request.match_info["id"]

        def act(fleet: Fleet) -> Any:
            stopped = fleet.stop(session_id)
            return stopped if isinstance(stopped, Refused) else Reply(204, headers={})

        return await self._answer(request, Operation.STOP, Scope.SESSION_STOP, act, self._whereabouts(session_id))

    async def _join(self, request: web.Request) -> web.StreamResponse:
        read = read_players(read_json(await request.read()), with_session=True)

        def act(fleet: Fleet) -> Any:
            match read:
                case (str(session_id), tuple(players)):
                    joined = fleet.join(session_id, players)
                    if isinstance(joined, Refused):
                        return joined
                    return {"count": len(joined.players), "players": list(players)}
                case violations:
                    return self._refusals.reply(request, fleet, _WRONG_BODY, violations=violations)

        return await self._answer(request, Operation.JOIN, None, act)

    async def _leave(self, request: web.Request) -> web.StreamResponse:
        read = read_players(read_json(await request.read()), with_session=False)

        def act(fleet: Fleet) -> Any:
            match read:
                case (str(), tuple(players)):
                    left = fleet.leave(players)
                    return left if isinstance(left, Refused) else {"count": left, "players": list(players)}
                case violations:
                    return self._refusals.reply(request, fleet, _WRONG_BODY, violations=violations)

        return await self._answer(request, Operation.LEAVE, None, act)

    async def _locations(self, request: web.Request) -> web.StreamResponse:
        image = request.match_info["image"]

        def act(fleet: Fleet) -> Any:
            hosts = fleet.locations(image)
            return hosts if isinstance(hosts, Refused) else shapes.locations(hosts)

        return await self._answer(request, Operation.LOCATIONS, Scope.REGIONS_READ, act)

    async def _tag(self, request: web.Request) -> web.StreamResponse:
        location, image, tag = (request.match_info[key] for key in ("region", "image", "version"))

        def act(fleet: Fleet) -> Any:
            if _TAG.fullmatch(tag) is None:
                return Refused(400, "The version is not valid", f"{tag} can be no tag of an image")
            exists = fleet.has_tag(location, image, tag)
            return exists if isinstance(exists, Refused) else {"exists": exists}

        return await self._answer(request, Operation.TAG, Scope.REGIONS_READ, act, location)

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        """Send the log so far, or with `follow` all of it until the session ends; faults strike the former only."""
        session_id = request.query.get("id", "")
        follow = read_boolean("follow", request.query.get("follow", "false"))
        fleet = self._fleet()
        if follow is True and _unauthorised(request, fleet, Scope.LOGS_READ) is None:
            session = fleet.find(session_id)
            if isinstance(session, Session):
                return await self._follow(request, fleet, session)

        def act(fleet: Fleet) -> Any:
            if isinstance(follow, Violation):
                return Refused(400, "The query is not valid", f"{follow.field} {follow.description}")
            found = fleet.find(session_id)
            if isinstance(found, Refused):
                return found
            return Reply(200, raw=shapes.log_text(found).encode(), headers=_TEXT)

        return await self._answer(request, Operation.LOGS, Scope.LOGS_READ, act, self._whereabouts(session_id))

    async def _artifacts(self, request: web.Request) -> web.StreamResponse:
        session_id, path = request.query.get("session", ""), request.query.get("path", "")

        def act(fleet: Fleet) -> Any:
            if not path.startswith("/"):
                return Refused(400, "The query is not valid", "path must be an absolute path")
            found = fleet.find(session_id)
            if isinstance(found, Refused):
                return found
            if found.status not in ENDED:
                return Refused(404, "No artifact yet", f"{session_id} is {found.status}; it can be read after its end")
            return Reply(200, raw=tar_gz(path, shapes.log_text(found)), headers=_TAR)

        return await self._answer(request, Operation.ARTIFACTS, Scope.ARTIFACT_READ, act, self._whereabouts(session_id))

    async def _answer(
        self,
        request: web.Request,
        operation: Operation,
        scope: Scope | None,
        act: Callable[[Fleet], Any],
        location: str | None = None,
    ) -> web.StreamResponse:
        """Authorise a call, then deliver what `act` gives: a reply, a refusal, or the JSON of a 200."""
        fleet = self._fleet()
        refused = _unauthorised(request, fleet, scope)
        if refused is not None:
            return self._refuse(request, fleet, refused).to_response()
        fate = fleet.dice.cast(operation, location)
        call = Call(
            partial(self._carry_out, request, fleet, act, location),
            partial(self._fail, request, fleet, location),
            coloured=partial(coloured, fate=fate),
        )
        return await deliver(request, call, fate, self._clock)

    def _carry_out(
        self, request: web.Request, fleet: Fleet, act: Callable[[Fleet], Any], location: str | None
    ) -> Reply:
        match act(fleet):
            case Reply() as reply:
                return reply
            case Refused() as refused:
                return self._refuse(request, fleet, refused, location)
            case data:
                return Reply(200, data)

    def _refuse(self, request: web.Request, fleet: Fleet, refused: Refused, location: str | None = None) -> Reply:
        return self._refusals.reply(request, fleet, refused, location=location)

    def _fail(self, request: web.Request, fleet: Fleet, location: str | None, status: int) -> Reply:
        return self._refuse(request, fleet, Refused(status, "A fault of the simulation"), location)

    def _whereabouts(self, session_id: str) -> str | None:
        """Where the session of a call is, for faults that strike one region only."""
        session = self._fleet().find(session_id)
        return session.location if isinstance(session, Session) else None

    async def _follow(self, request: web.Request, fleet: Fleet, session: Session) -> web.StreamResponse:
        response = web.StreamResponse(headers=_TEXT)
        await response.prepare(request)
        sent = 0
        while True:
            fleet.settle()
            text = shapes.log_text(session).encode()
            if len(text) > sent:
                await response.write(text[sent:])
                sent = len(text)
            if session.status in ENDED or request.transport is None or request.transport.is_closing():
                return response
            await self._clock.sleep(_FOLLOW_POLL_SECONDS)


def _unauthorised(request: web.Request, fleet: Fleet, scope: Scope | None) -> Refused | None:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    settings = fleet.settings
    if kind.lower() != "bearer" or not token or settings.token not in {None, token}:
        return Refused(401, "Not authorized", "send the header Authorization: Bearer <token>, with the right token")
    if scope is not None and scope not in settings.scopes:
        return Refused(403, "Not permitted", f"this token lacks the scope {scope}")
    return None


def _text(body: Any, key: str) -> str | None:
    value = body.get(key) if isinstance(body, dict) else None
    return value if isinstance(value, str) else None
