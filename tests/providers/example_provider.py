"""A provider of another package, as deploy/docs/writing-a-provider.md walks through it: Acme, a made-up host.

In: session ids, sites, what to run. Out: the outcomes of `allocator.providers.provider`. Acme takes a caller's key for
each server, answers a start once it runs, and says 429 where a site is full or asked too fast.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from yarl import URL

from allocator.contract.allocation import Port
from allocator.contract.request import MARK, NAMESPACE_MARK, REQUEST_MARK
from allocator.providers.asking import ask
from allocator.providers.exchange import Exchange, Lost, NotSent, Reply
from allocator.providers.ports import merged, named, port_key
from allocator.providers.provider import (
    Absent,
    Conflict,
    Created,
    CredentialRefused,
    FindOutcome,
    Found,
    Gone,
    LookupFailed,
    NoRoom,
    NotFound,
    Offered,
    Rejected,
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
from allocator.providers.replies import error_message, is_spoken_by_host

REPLY_BYTES_MAX = 4 * 2**20
STATES = {"up": SessionState.ALIVE, "down": SessionState.ENDED}


def make(table: Mapping[str, Any], *, learn: Callable[[str], None]) -> Acme:
    """Make the provider of the table `[acme]`: what its entry point leads to."""
    for name in ("base_url", "key"):
        if not isinstance(table.get(name), str):
            raise ValueError(f"set acme.{name}")  # noqa: TRY004 - the settings are at fault, not a caller
    learn(table["key"])
    return Acme(table["base_url"], table["key"], table["account"])


class Acme:
    """One account at Acme."""

    def __init__(self, base_url: str, key: str, account: str) -> None:
        self._base = base_url.rstrip("/")
        self._key = key
        self._account = account
        self._exchange = Exchange(lambda: key, scheme="Key")

    @property
    def name(self) -> str:
        """As its table and its entry point."""
        return "acme"

    @property
    def account(self) -> str:
        """Whose rates these are."""
        return self._account

    def unsuited(self, location: str, spec: StartSpec) -> str | None:
        """Acme restarts nothing by itself."""
        del location
        return "acme restarts no container by itself" if spec.restart else None

    async def start(self, session_id: str, location: str, spec: StartSpec, *, timeout_seconds: float) -> StartOutcome:
        """Ask for one server, once."""
        body = {
            "key": session_id,
            "site": location,
            "image": spec.image,
            "version": spec.version,
            "env": dict(spec.env),
            "labels": dict(spec.labels),
        }
        answer = await self._exchange.send(
            "POST",
            URL(f"{self._base}/servers"),
            body=json.dumps(body).encode(),
            timeout_seconds=timeout_seconds,
            reply_bytes_max=REPLY_BYTES_MAX,
        )
        match answer:
            case Reply(status=201):
                session = _session(_json(answer))
                if session is None:
                    return Unknown(201, "the reply to a start cannot be read")
                return Created(_named(session, spec.port_names), 201)
            case Reply():
                return self._refused(answer, spec)
            case NotSent(message):
                return Unreachable(message)
            case Lost(message, status):
                return Unknown(status, message)

    async def find(self, session_id: str, *, timeout_seconds: float) -> FindOutcome:
        """Describe one server; absent only where Acme itself says so, not a proxy before it."""
        answer = await self._ask("GET", "servers", session_id, timeout_seconds=timeout_seconds)
        match answer:
            case Reply(status=200):
                session = _session(_json(answer))
                return LookupFailed("the reply cannot be read", 200) if session is None else Found(session)
            case Reply(status=404) if is_spoken_by_host(answer):
                return Absent()
        return self._failed(answer)

    async def stop(self, session_id: str, *, timeout_seconds: float) -> StopOutcome:
        """End one server."""
        answer = await self._ask("DELETE", "servers", session_id, timeout_seconds=timeout_seconds)
        match answer:
            case Reply(status=204):
                return Stopped()
            case Reply(status=404) if is_spoken_by_host(answer):
                return Gone()
        failed = self._failed(answer)
        return StopFailed(failed.message, failed.status)

    async def list(self, mark: str, *, timeout_seconds: float) -> tuple[Session, ...] | LookupFailed:
        """Every server that is up and bears the mark."""
        answer = await self._ask("GET", "servers", query=f"owner={quote(mark)}", timeout_seconds=timeout_seconds)
        if isinstance(answer, LookupFailed) or answer.status != 200:
            return self._failed(answer)
        sessions = [_session(each) for each in _json(answer).get("servers", [])]
        if None in sessions:
            return LookupFailed("the reply cannot be read", 200)
        return tuple(session for session in sessions if session is not None and session.mark == mark)

    async def offers(self, image: str, *, timeout_seconds: float) -> Offered | LookupFailed:
        """The sites with room for an image: tells a full one from one that was asked too fast."""
        answer = await self._ask("GET", "rooms", image, timeout_seconds=timeout_seconds)
        if isinstance(answer, LookupFailed) or answer.status != 200:
            return self._failed(answer)
        return Offered(frozenset(_json(answer)["sites"]))

    async def close(self) -> None:
        """Give the connections back."""
        await self._exchange.close()

    async def _ask(self, method: str, *segments: str, timeout_seconds: float, query: str = "") -> Reply | LookupFailed:
        return await ask(
            self._exchange,
            method,
            self._base,
            *segments,
            query=query,
            timeout_seconds=timeout_seconds,
            reply_bytes_max=REPLY_BYTES_MAX,
        )

    def _refused(self, reply: Reply, spec: StartSpec) -> StartOutcome:
        """Definite is only what Acme documents as having made nothing; all else is unknown."""
        status, message = reply.status, error_message(reply, (self._key, *spec.env.values()))
        match status:
            case 400:
                return Rejected(status, message)
            case 401 | 403:
                return CredentialRefused(status, message)
            case 404:
                return NotFound(status, message)
            case 409:
                return Conflict(status, message)
            case 429:
                return NoRoom(status, message=message)
            case _:
                return Unknown(status, message, closes=status == 503)

    def _failed(self, answer: Reply | LookupFailed) -> LookupFailed:
        if isinstance(answer, LookupFailed):
            return answer
        return LookupFailed(error_message(answer, (self._key,)), answer.status)


def _json(reply: Reply) -> Any:
    try:
        return json.loads(reply.body)
    except ValueError:
        return {}


def _session(told: Any) -> Session | None:
    """The session that Acme describes; None where it cannot be read."""
    try:
        ports = merged(
            Port(port_key(each["protocol"], each["inner"]), each["protocol"], each["inner"], each["outer"])
            for each in told["ports"]
        )
        labels = told["labels"]
        return Session(
            id=told["key"],
            host=told["address"],
            ports=ports,
            location=told["site"],
            image=told["image"],
            state=STATES.get(told["state"], SessionState.UNCLEAR),
            mark=labels.get(MARK),
            request_id=labels.get(REQUEST_MARK),
            namespace=labels.get(NAMESPACE_MARK),
            created_at_ms=int(told["since"] * 1000),
        )
    except (KeyError, TypeError):
        return None


def _named(session: Session, port_names: Mapping[str, str]) -> Session:
    """The session of a reply to a start: with the catalog's names, and without what only a look-up tells."""
    return Session(session.id, session.host, named(session.ports, port_names), session.location, session.image)
