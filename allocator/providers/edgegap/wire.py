"""The JSON of Edgegap's deployment API: the body of a start, and the replies that are good news.

In: what to run and for whom, or the bytes of a 2xx reply. Out: bytes, or a `Row` or `Status`, or `Unreadable` with the
field that is at fault. Tolerant of fields that are new, strict on those we need. A list and a status differ (`ready`
here, `current_status` there): both lead to the same `Session`. Left to others: every other status.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import to_json

from allocator.contract.allocation import Port
from allocator.contract.request import Player
from allocator.providers.edgegap.tags import read_tags, tags_of
from allocator.providers.ports import named
from allocator.providers.provider import Session, SessionState, StartSpec
from allocator.providers.reading import PortNumber, Shape, Text, Unreadable, fields_of, unreadable

T = TypeVar("T", bound=BaseModel)

Place = tuple[float, float]
"""Latitude and longitude, in degrees."""

_STATES = {
    **dict.fromkeys(("INITIALIZING", "SEEKING", "SEEKED", "SCANNING", "DEPLOYING"), SessionState.PENDING),
    "READY": SessionState.ALIVE,
    **dict.fromkeys(("ERROR", "TERMINATING", "TERMINATED"), SessionState.ENDED),
}
_TRANSPORTS = {"udp": ("udp",), "tcp/udp": ("udp", "tcp")}
"""By protocol; every other one (WS, HTTPS, ...) is spoken over TCP."""


class _Mapped(Shape):
    external: PortNumber
    internal: PortNumber
    protocol: Text
    tls_upgrade: bool = False


class Described(Shape):
    """One deployment, as far as a list and a status say the same."""

    request_id: Text
    public_ip: str | None = None
    fqdn: str | None = None
    start_time: Any = None
    ports: dict[str, _Mapped] | None = None
    tags: list[str] | None = None


class Row(Described):
    """One deployment as a list shows it."""

    ready: bool = False


class Status(Described):
    """One deployment as its status shows it."""

    current_status: str
    app_name: str
    max_duration: int | None = None
    error_detail: str | None = None


class _Pagination(Shape):
    class _Paginator(Shape):
        num_pages: int = 1

    has_next: bool = False
    paginator: _Paginator = _Paginator()


class Page(Shape):
    """One page of a list."""

    data: list[Row] = Field(default_factory=list)
    pagination: _Pagination = _Pagination()


class Stopping(Shape):
    """The reply to a stop, which may say how the deployment stands."""

    deployment_summary: Status | None = None


class Version(Shape):
    """What is known of an application's version, as far as a start depends on it."""

    is_active: bool = True
    max_duration: int | None = None
    caching_percent: float | None = None


class _Named(Shape):
    request_id: Text


def deploy_body(
    session_id: str, location: str, spec: StartSpec, users: Sequence[Mapping[str, Any]], hook_url: str | None
) -> bytes:
    """The body of `POST /v2/deployments`; every variable is hidden, since any of them may be a secret."""
    body: dict[str, Any] = {
        "application": spec.image,
        "version": spec.version,
        "users": users,
        "tags": tags_of(session_id, location, spec.labels),
    }
    if spec.env:
        body["environment_variables"] = [
            {"key": name, "value": value, "is_hidden": True} for name, value in spec.env.items()
        ]
    if hook_url is not None:
        body |= {f"webhook_on_{what}": {"url": hook_url} for what in ("ready", "error", "terminated")}
    return to_json(body)


def users_of(players: Sequence[Player], place: Place | None) -> list[dict[str, Any]]:
    """Where the players are: by address, else by coordinates; the place's where nobody's is known."""
    users = [user for player in players if (user := _user(player)) is not None]
    if users or place is None:
        return users
    return [_at(*place)]


def read_named(body: bytes) -> str | Unreadable:
    """The `request_id` of a 202, or of a 422."""
    found = _read(_Named, body)
    return found if isinstance(found, Unreadable) else found.request_id


def read_page(body: bytes) -> Page | Unreadable:
    """One page of `GET /v1/deployments`."""
    return _read(Page, body)


def read_status(body: bytes) -> Status | Unreadable:
    """The reply of `GET /v1/status/{id}`."""
    return _read(Status, body)


def read_stopping(body: bytes) -> Status | None:
    """How a deployment stands that is being stopped, where the reply says so."""
    found = _read(Stopping, body)
    return None if isinstance(found, Unreadable) else found.deployment_summary


def read_version(body: bytes) -> Version | Unreadable:
    """The reply of `GET /v1/app/{application}/version/{version}`."""
    return _read(Version, body)


def state_of(status: Status) -> SessionState:
    """What `Status.READY` and the others mean; one that we do not know may be anything."""
    return _STATES.get(status.current_status.rpartition(".")[2].upper(), SessionState.UNCLEAR)


def is_reached(found: Described) -> bool:
    """Whether it says where players dial."""
    return _host(found) != ""


def listed_session(row: Row) -> Session:
    """The session of a row, which tells neither its image nor whether what is not ready ever will be."""
    return _session(row, "", SessionState.ALIVE if row.ready and is_reached(row) else SessionState.PENDING)


def described_session(status: Status) -> Session | Unreadable:
    """The session of a status; one that is alive must say where it is reached."""
    state = state_of(status)
    if state is SessionState.ALIVE and not is_reached(status):
        return Unreadable("public_ip: missing")
    return _session(status, status.app_name, state)


def started_session(found: Described, session_id: str, location: str, spec: StartSpec, ttl_seconds: int) -> Session:
    """The session that a start has made, with the catalog's names for its ports."""
    return Session(
        id=session_id,
        host=_host(found),
        ports=named(_ports(found), spec.port_names),
        location=location,
        image=spec.image,
        native_id=found.request_id,
        ttl_seconds=ttl_seconds,
    )


def _session(found: Described, image: str, state: SessionState) -> Session:
    marks = read_tags(found.tags or ())
    minutes = found.max_duration if isinstance(found, Status) else None
    return Session(
        id=marks.session_id or found.request_id,
        host=_host(found),
        ports=_ports(found),
        location=marks.location or "",
        image=image,
        state=state,
        mark=marks.mark,
        request_id=marks.request_id,
        namespace=marks.namespace,
        created_at_ms=_milliseconds(found.start_time),
        native_id=found.request_id,
        ttl_seconds=lifetime_seconds(minutes) if isinstance(found, Status) else None,
    )


def lifetime_seconds(max_minutes: int | None) -> int:
    """How long a deployment lives at most: a day, whatever its version says beyond that or leaves open."""
    day = 24 * 60
    return 60 * (min(max_minutes, day) if max_minutes is not None and max_minutes > 0 else day)


def _host(found: Described) -> str:
    """The address; the name where a port speaks TLS, whose certificate bears it."""
    needs_name = any(port.tls_upgrade or port.protocol.upper() in {"HTTPS", "WSS"} for port in _mapped(found))
    first, second = (found.fqdn, found.public_ip) if needs_name else (found.public_ip, found.fqdn)
    return first or second or ""


def _mapped(found: Described) -> list[_Mapped]:
    return list((found.ports or {}).values())


def _ports(found: Described) -> tuple[Port, ...]:
    ports = [
        Port(name, transport, port.internal, port.external)
        for name, port in (found.ports or {}).items()
        for transport in _TRANSPORTS.get(port.protocol.lower(), ("tcp",))
    ]
    return tuple(sorted(ports, key=lambda port: (port.container_port, port.protocol)))


def _user(player: Player) -> dict[str, Any] | None:
    if player.ip is not None and _is_address(player.ip):
        return {"user_type": "ip_address", "user_data": {"ip_address": player.ip}}
    if player.lat is not None and player.lon is not None:
        return _at(player.lat, player.lon)
    return None


def _at(latitude: float, longitude: float) -> dict[str, Any]:
    return {"user_type": "geo_coordinates", "user_data": {"latitude": latitude, "longitude": longitude}}


def _is_address(text: str) -> bool:
    """Whether it is one: a single bad one would have the whole body refused."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _milliseconds(text: object) -> int | None:
    """Unix milliseconds of `2026-04-22 12:00:46.444265`, which is UTC."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return int((moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _read(model: type[T], body: bytes) -> T | Unreadable:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        return unreadable(error, _FIELDS)


_FIELDS = fields_of(_Mapped, Row, Status, Page, Stopping, Version, _Named)
