"""A request checked, then sent.

In: a request as a model, a mapping, or JSON. Out: `Submitted`, or `InvalidRequestError` before anything is sent.
Promises: requests enter their stream in the order in which they were given; what one turn of the loop gives goes out
in one round trip, each request in a step of its own; each is sent at most once. Whether to send again is its sender's
to say, who may always do so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from allocator.client.errors import InvalidRequestError
from allocator.contract.keys import Keys
from allocator.contract.request import AllocationRequest, Id, InvalidRequest, Priority, decode_request
from allocator.redis_io.batching import Batcher
from allocator.redis_io.connect import RedisConnection, Word
from allocator.redis_io.errors import NoScript, RedisFault, Unavailable
from allocator.redis_io.scripts import Script

AnyRequest = AllocationRequest | Mapping[str, Any] | str | bytes

BATCH_MAX = 256
QUEUED_TTL_MS = 2 * 3600 * 1000
"""The longest deadline there is, and an hour more to read how it went when no worker ever came."""

_SUBMIT = Script.load("allocator.client.scripts", "submit")
_ID: TypeAdapter[str] = TypeAdapter(Id)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request that is fit to be sent; `context` is its JSON text, or empty."""

    request_id: str
    priority: Priority
    body: bytes = field(repr=False)
    context: str = ""


@dataclass(frozen=True, slots=True)
class Submitted:
    """Where the request went; `known`: something was known of its id before."""

    stream: str
    entry_id: str
    known: bool
    priority: Priority = Priority.NORMAL


def outgoing(request: AnyRequest, priority: Priority) -> Outgoing:
    """Make a request fit to be sent; InvalidRequestError names the key that is wrong."""
    body = _body(request)
    decoded = decode_request(body)
    if isinstance(decoded, InvalidRequest):
        raise InvalidRequestError(decoded.message)
    return Outgoing(decoded.request.id, priority, body, decoded.context or "")


def checked_id(request_id: str) -> str:
    """The id, if a request can bear it: nobody would ever answer another."""
    try:
        return _ID.validate_python(request_id)
    except ValidationError:
        raise InvalidRequestError("id: must be 1 to 128 of A-Z a-z 0-9 . _ : -") from None


class Outbox:
    """Sends requests of one namespace."""

    def __init__(self, connection: RedisConnection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys
        # One call at a time: two would race over two connections, and the streams are read in order.
        self._calls = Batcher(self._send, items_max=BATCH_MAX, in_flight_max=1)

    async def submit(self, request: Outgoing) -> Submitted:
        """Send it once. Unavailable: whether it was sent is not known."""
        sent = await self._calls.submit(request)
        match sent:
            case Submitted():
                return sent
            case Unavailable() as fault:
                raise _in_doubt(request, fault) from fault
            case fault:
                raise fault

    async def aclose(self) -> None:
        """Take nothing more; what was given goes out first."""
        await self._calls.aclose()

    async def _send(self, requests: list[Outgoing]) -> Sequence[Submitted | RedisFault]:
        try:
            replies = await self._run(requests)
        except RedisFault as fault:
            return [fault] * len(requests)
        return [
            reply
            if isinstance(reply, RedisFault)
            else Submitted(self._keys.requests(request.priority), reply[0].decode(), reply[1] == 1, request.priority)
            for request, reply in zip(requests, replies, strict=True)
        ]

    async def _run(self, requests: list[Outgoing]) -> list[Any]:
        commands = [self._command(request) for request in requests]
        replies = await self._connection.execute_many(commands)
        # Those that met a server without the script did nothing, so they alone may go out again.
        again = [place for place, reply in enumerate(replies) if isinstance(reply, NoScript)]
        if again:
            whole = [("EVAL", _SUBMIT.source, *commands[place][2:]) for place in again]
            for place, reply in zip(again, await self._connection.execute_many(whole), strict=True):
                replies[place] = reply
        return replies

    def _command(self, request: Outgoing) -> tuple[Word, ...]:
        stream, hash_ = self._keys.requests(request.priority), self._keys.allocation(request.request_id)
        what = (request.body, request.request_id, request.priority.value, request.context, QUEUED_TTL_MS)
        return ("EVALSHA", _SUBMIT.sha, 2, stream, hash_, *what)


def _in_doubt(request: Outgoing, fault: Unavailable) -> Unavailable:
    return Unavailable(
        f"{fault}; whether {request.request_id} was sent is not known: "
        "send the same request again, which never makes a second server",
        kind=fault.kind,
    )


def _body(request: AnyRequest) -> bytes:
    """The bytes to send: JSON as it came; a model as it was written, so that it equals the mapping it was made of."""
    match request:
        case bytes():
            return request
        case AllocationRequest():
            request = request.model_dump(mode="json", exclude_unset=True)
        case str():
            return _encoded(request)
    return _encoded(_json(request))


def _json(body: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(body), separators=(",", ":"), ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        raise InvalidRequestError(f"{_culprit(body)}: cannot be written as JSON") from None


def _culprit(body: Mapping[str, Any]) -> str:
    """The first key whose value is no JSON."""
    for key, value in body.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError, RecursionError):
            return ascii(key)[1:-1][:64] if isinstance(key, str) else "request"
    return "request"


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidRequestError("request: holds half of a surrogate pair, which is no text") from None
