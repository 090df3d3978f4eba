"""What a matchmaker asks for, and how its bytes are read.

In: the bytes of the field `request`. Out: an `AllocationRequest` with its digest, or an `InvalidRequest` that names
the key and says what to do. Nothing here raises for a bad body, and no message repeats a value of `env` or `args`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    Strict,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    field_validator,
)

from allocator.contract.values import quick

REQUEST_BYTES_MAX = 64 * 1024
CONTEXT_BYTES_MAX = 4 * 1024
NESTING_MAX = 64
TTL_HOURS_MAX = 24 * 30
MARK = "allocator"
"""The label that says which deployment a session belongs to."""
REQUEST_MARK = "allocator_request"
"""The label that says which request a session was started for."""
NAMESPACE_MARK = "allocator_namespace"
"""The label that says in which namespace that request is: the two together name one record."""
_OUR_LABELS = (MARK, REQUEST_MARK, NAMESPACE_MARK)

_ID = r"^[A-Za-z0-9._:-]+$"
_TTL = re.compile(r"(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?")
_TRACEPARENT = r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"

Id = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=_ID)]
ReplyTo = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=_ID)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
NonEmpty = Annotated[str, StringConstraints(min_length=1)]
_LIST = Strict(strict=False)
"""A tuple that is read from a JSON list."""
Milliseconds = Annotated[float, Field(ge=0, le=60_000, allow_inf_nan=False)]


class Priority(StrEnum):
    """Which of the three streams a request came in on."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class Player(_Strict):
    """One player, as far as the placement asks: latency by region, or where they are."""

    id: str | None = None
    latency_ms: dict[Name, Milliseconds] = Field(default_factory=dict)
    ip: str | None = None
    lat: Annotated[float, Field(ge=-90, le=90)] | None = None
    lon: Annotated[float, Field(ge=-180, le=180)] | None = None


class LatencyCap(_Strict):
    """From `after_seconds` on, a region is tried only under `max_ms`."""

    max_ms: Milliseconds
    after_seconds: Annotated[float, Field(ge=0, le=3600)] = 0


class AllocationRequest(_Strict):
    """One match that wants a server: the public contract's section 1."""

    id: Id
    image: Name
    version: Name | None = None
    regions: Annotated[tuple[Name, ...], _LIST, Field(min_length=1, max_length=16)] | None = None
    players: Annotated[tuple[Player, ...], _LIST, Field(max_length=256)] = ()
    latency_caps: Annotated[tuple[LatencyCap, ...], _LIST, Field(max_length=16)] = ()
    env: dict[NonEmpty, NonEmpty] = Field(default_factory=dict, repr=False)
    args: Annotated[tuple[NonEmpty, ...], _LIST] = Field(default=(), repr=False)
    labels: dict[NonEmpty, str] = Field(default_factory=dict)
    restart: bool = False
    ttl: str | None = None
    timeout_seconds: Annotated[float, Field(ge=0.1, le=3600, allow_inf_nan=False)] | None = None
    context: JsonValue = None
    reply_to: ReplyTo | None = None
    traceparent: Annotated[str, StringConstraints(pattern=_TRACEPARENT)] | None = None

    @field_validator("regions")
    @classmethod
    def _distinct(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and len(set(value)) != len(value):
            raise ValueError("names a region twice; name each once")
        return value

    @field_validator("labels")
    @classmethod
    def _mark_is_ours(cls, value: dict[str, str]) -> dict[str, str]:
        for mark in _OUR_LABELS:
            if mark in value:
                raise ValueError(f"the label '{mark}' is set by the allocator itself; use another name")
        return value

    @field_validator("traceparent")
    @classmethod
    def _names_a_trace(cls, value: str | None) -> str | None:
        if value is not None and (value.startswith("ff") or set(value[3:35]) == {"0"} or set(value[36:52]) == {"0"}):
            raise ValueError("has a version or an id that W3C Trace Context forbids")
        return value

    @field_validator("ttl")
    @classmethod
    def _duration(cls, value: str | None) -> str | None:
        if value is not None:
            ttl_seconds(value)
        return value


@quick
@dataclass(frozen=True, slots=True)
class Decoded:
    """A good request. `digest` is equal for two bodies that ask for the same; `context` is its JSON text."""

    request: AllocationRequest
    digest: str
    context: str | None


@dataclass(frozen=True, slots=True)
class InvalidRequest:
    """A bad one: the sentence for its sender, and what could be read of who that is."""

    message: str
    request_id: str | None = None
    reply_to: str | None = None
    context: str | None = None
    """As JSON; None where there is none, or none that is handed back."""


@lru_cache(maxsize=256)
def ttl_seconds(text: str) -> int:
    """Seconds of `2h`, `90m` or `2h30m`; ValueError says what is allowed."""
    match = _TTL.fullmatch(text)
    hours, minutes = (int(part or 0) for part in match.groups()) if match else (0, 0)
    seconds = hours * 3600 + minutes * 60
    if not 0 < seconds <= TTL_HOURS_MAX * 3600:
        raise ValueError(f"must be like '2h', '90m' or '2h30m', at least 1m and at most {TTL_HOURS_MAX}h")
    return seconds


def decode_request(raw: bytes) -> Decoded | InvalidRequest:
    """Read one request; whatever the bytes are, the answer is a value."""
    if len(raw) > REQUEST_BYTES_MAX:
        return InvalidRequest(f"request: {len(raw)} bytes, at most {REQUEST_BYTES_MAX} are taken")
    try:
        body = _read(raw.decode())
    except UnicodeDecodeError:
        return InvalidRequest("request: not UTF-8")
    except RecursionError:
        return InvalidRequest("request: nested too deep")
    except ValueError as error:
        return InvalidRequest(f"request: not JSON: {error}")
    if not isinstance(body, dict):
        return InvalidRequest("request: must be a JSON object")
    context = None
    try:
        if body.get("context") is not None:
            # Everywhere else the shape itself bounds the depth.
            if _depth(body["context"]) > NESTING_MAX:
                return _invalid(body, "context: nested too deep")
            text = json.dumps(body["context"], separators=(",", ":"), ensure_ascii=False)
            if len(text.encode()) > CONTEXT_BYTES_MAX:
                return _invalid(body, f"context: over {CONTEXT_BYTES_MAX} bytes")
            context = text
        return Decoded(_validated(body), _digest(body), context)
    except ValidationError as error:
        return _invalid(body, _sentence(error), context)
    except UnicodeEncodeError:
        return _invalid(body, "request: holds half of a surrogate pair, which is no text")


def _number(text: str) -> float | int:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:32]} is too large a number")
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _depth(value: Any) -> int:
    deepest, stack = 0, [(value, 1)]
    while stack:
        item, depth = stack.pop()
        deepest = max(deepest, depth)
        if depth > NESTING_MAX:
            break
        if isinstance(item, dict):
            stack.extend((each, depth + 1) for each in item.values() if isinstance(each, dict | list))
        elif isinstance(item, list):
            stack.extend((each, depth + 1) for each in item if isinstance(each, dict | list))
    return deepest


def _read(text: str) -> Any:
    """The value that the text is JSON of. `JSONDecoder.decode` takes twice as long, to look for blanks around it."""
    text = text.strip(" \t\n\r")
    value, end = _DECODER.raw_decode(text)
    if end != len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    return value


# `json.loads` and `json.dumps` make a decoder or an encoder anew for each call that asks for something.
_DECODER = json.JSONDecoder(parse_float=_number, parse_constant=_no_constant)
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
# `model_validate` takes half as long again to come to the same.
_validated: Callable[[Any], AllocationRequest] = TypeAdapter(AllocationRequest).validator.validate_python
_NOT_IDENTITY = frozenset({"traceparent", "timeout_seconds", "reply_to"})


def _digest(body: dict[str, Any]) -> str:
    """Hash of the canonical JSON, without what may differ between two sendings of one request."""
    same = body
    if not _NOT_IDENTITY.isdisjoint(body):
        same = {key: value for key, value in body.items() if key not in _NOT_IDENTITY}
    return hashlib.blake2b(_canonical(same).encode(), digest_size=16).hexdigest()


def _invalid(body: dict[str, Any], message: str, context: str | None = None) -> InvalidRequest:
    request_id, reply_to = body.get("id"), body.get("reply_to")
    return InvalidRequest(message, _as_id(request_id, 128), _as_id(reply_to, 64), context)


def _as_id(value: Any, length_max: int) -> str | None:
    if isinstance(value, str) and len(value) <= length_max and re.fullmatch(r"[A-Za-z0-9._:-]+", value):
        return value
    return None


def _sentence(error: ValidationError) -> str:
    """Each fault as `key: what is wrong`, the first four; keys only, never a value."""
    faults = []
    for fault in error.errors(include_input=False, include_url=False)[:4]:
        key = ".".join(_printable(part) for part in fault["loc"] if part != "[key]")
        message = "unknown key" if fault["type"] == "extra_forbidden" else fault["msg"]
        faults.append(f"{key}: {message.removeprefix('Value error, ')}")
    more = error.error_count() - len(faults)
    return "; ".join(faults) + (f"; and {more} more" if more > 0 else "")


def _printable(part: object) -> str:
    text = str(part)[:64]
    return "".join(char if char.isprintable() else "?" for char in text)
