"""The JSON of Gameye's session API: the body of a start, and the replies that are good news.

In: what to run, or the bytes of a 2xx reply. Out: bytes, or a `Session`, or `Unreadable` with the field that is at
fault. Tolerant of fields that are new, strict on those we need.

POST and GET differ (`ports` list, `port` map): both are read into the same ports. Left to others: every other status.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import StringConstraints, TypeAdapter, ValidationError
from pydantic_core import to_json

from allocator.contract.allocation import Port
from allocator.contract.request import MARK, NAMESPACE_MARK, REQUEST_MARK
from allocator.providers.ports import merged, port_key
from allocator.providers.provider import Session, SessionState, StartSpec
from allocator.providers.reading import PortNumber, Shape, Text, Unreadable, fields_of, unreadable

_STATES = {
    "created": SessionState.ALIVE,
    "running": SessionState.ALIVE,
    "restarting": SessionState.ALIVE,
    "exited": SessionState.ENDED,
    "dead": SessionState.ENDED,
    "draining": SessionState.ENDED,
    "shuttingdown": SessionState.ENDED,
}

_Protocol = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{1,8}$")]
_PortKey = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,5}/[A-Za-z]{1,8}$")]


class _Mapped(Shape):
    type: _Protocol
    container: PortNumber
    host: PortNumber


class _Started(Shape):
    id: str | None = None
    host: Text
    ports: list[_Mapped]


class _Described(Shape):
    """`host` and `port` may be missing where a session has ended; what is `Any` is read with care below."""

    id: Text
    image: str
    location: str
    host: str | None = None
    port: dict[_PortKey, PortNumber] | None = None
    created: Any = None
    status: Any = None
    labels: Any = None


class _Listed(Shape):
    sessions: list[_Described]


class _Location(Shape):
    id: Text


class _Locations(Shape):
    locations: list[_Location]


# The way of every match: a validator's own method takes a third less than its adapter's.
_read_started = TypeAdapter(_Started).validator.validate_json
_DESCRIBED = TypeAdapter(_Described)


def start_body(session_id: str, location: str, spec: StartSpec) -> bytes:
    """The body of `POST /session`; what is not asked for is left out, since the API refuses keys it does not know."""
    body: dict[str, Any] = {"id": session_id, "location": location, "image": spec.image}
    if spec.version is not None:
        body["version"] = spec.version
    if spec.env:
        body["env"] = spec.env
    if spec.args:
        body["args"] = spec.args
    if spec.labels:
        body["labels"] = spec.labels
    if spec.restart:
        body["restart"] = True
    if spec.ttl is not None:
        body["ttl"] = spec.ttl
    return to_json(body)


def read_started(body: bytes, session_id: str, location: str, spec: StartSpec) -> Session | Unreadable:
    """The session of a 201; the id we sent where the reply has none."""
    try:
        started: _Started = _read_started(body)
    except ValidationError as error:
        return _unreadable(error)
    # Named as they are made: making each port twice costs as much as reading the JSON.
    ports = merged([_port(entry.type, entry.container, entry.host, spec.port_names) for entry in started.ports])
    return Session(started.id or session_id, started.host, ports, location, spec.image)


def read_described(body: bytes) -> Session | Unreadable:
    """The session of `GET /session/{id}`; one that is alive must say where it is reached."""
    try:
        described = _DESCRIBED.validate_json(body)
    except ValidationError as error:
        return _unreadable(error)
    session = _session(described, SessionState.UNCLEAR)
    if session.state is SessionState.ALIVE:
        if not session.host:
            return Unreadable("host: missing")
        if described.port is None:
            return Unreadable("port: missing")
    return session


def read_listed(body: bytes) -> tuple[Session, ...] | Unreadable:
    """The sessions of `GET /session`; an entry without a status is alive, since lists show those unless asked."""
    try:
        listed = _Listed.model_validate_json(body)
    except ValidationError as error:
        return _unreadable(error)
    return tuple(_session(entry, SessionState.ALIVE) for entry in listed.sessions)


def read_locations(body: bytes) -> tuple[str, ...] | Unreadable:
    """The ids of `GET /available-location/{image}`, in the order of the reply."""
    try:
        return tuple(location.id for location in _Locations.model_validate_json(body).locations)
    except ValidationError as error:
        return _unreadable(error)


def _session(described: _Described, without_status: SessionState) -> Session:
    status = described.status
    if status is None:
        state = without_status
    else:
        state = _STATES.get(status, SessionState.UNCLEAR) if isinstance(status, str) else SessionState.UNCLEAR
    labels = _own_labels(described.labels)
    return Session(
        id=described.id,
        host=described.host or "",
        ports=_mapped_ports(described.port or {}),
        location=described.location,
        image=described.image,
        state=state,
        mark=labels.get(MARK),
        request_id=labels.get(REQUEST_MARK),
        namespace=labels.get(NAMESPACE_MARK),
        created_at_ms=_milliseconds(described.created),
    )


def _mapped_ports(ports: Mapping[str, int]) -> tuple[Port, ...]:
    found = []
    for key, host_port in ports.items():
        container_port, _, protocol = key.partition("/")
        found.append(_port(protocol, int(container_port), host_port, {}))
    return merged(found)


def _port(protocol: str, container_port: int, host_port: int, port_names: Mapping[str, str]) -> Port:
    protocol = protocol.lower()
    key = port_key(protocol, container_port)
    return Port(port_names.get(key, key), protocol, container_port, host_port)


def _own_labels(labels: object) -> dict[str, str]:
    """The session's own labels, which come as JSON inside the label `tags`; those that are text."""
    tags = labels.get("tags") if isinstance(labels, dict) else None
    if isinstance(tags, str):
        try:
            tags = json.loads(tags)
        except (ValueError, RecursionError):
            return {}
    found = tags if isinstance(tags, dict) else {}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _milliseconds(created: object) -> int | None:
    if isinstance(created, bool):
        return None
    if isinstance(created, int):
        return created  # however long it is: only a float can be infinite
    if isinstance(created, float) and math.isfinite(created):
        return int(created)
    return None


def _unreadable(error: ValidationError) -> Unreadable:
    return unreadable(error, _FIELDS)


_FIELDS = fields_of(_Mapped, _Started, _Described, _Listed, _Location, _Locations)
