"""The vendor's JSON, for each answer its own shape.

In: sessions and refusals. Out: objects as the vendor's OpenAPI description has them: POST answers a list of ports, GET
a map; GET's labels are JSON in strings and show the container's environment, as the vendor's do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from allocator.simulator.bodies import Violation
from allocator.simulator.gameye.ledger import Session

_CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHORIZED",
    402: "QUOTA_EXCEEDED",
    403: "FORBIDDEN",
    404: "RESOURCE_NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    409: "CONFLICT",
    413: "PAYLOAD_TOO_LARGE",
    420: "CAPACITY_UNAVAILABLE",
    422: "UNPROCESSABLE_ENTITY",
    429: "TOO_MANY_REQUESTS",
    500: "INTERNAL_ERROR",
    503: "SERVICE_UNAVAILABLE",
    504: "GATEWAY_TIMEOUT",
}


def started(session: Session) -> dict[str, Any]:
    """`SessionRunOk`."""
    ports = [{"type": port.type, "container": port.container, "host": port.host} for port in session.ports]
    return {"id": session.id, "host": session.host, "ports": ports}


def described(session: Session) -> dict[str, Any]:
    """`DescribedSession`."""
    return {**_common(session), "players": {"joined": list(session.players), "joinedCount": len(session.players)}}


def listed(session: Session) -> dict[str, Any]:
    """`SessionListEntry`."""
    return {**_common(session), "playerCount": len(session.players)}


def locations(hosts: Mapping[str, str]) -> dict[str, Any]:
    """`AvailableLocationsOk`."""
    return {"locations": [{"id": name, "ips": [host]} for name, host in hosts.items()]}


def error(
    status: int,
    message: str,
    *,
    details: str,
    path: str,
    identifier: str,
    timestamp: str,
    violations: Sequence[Violation] = (),
) -> dict[str, Any]:
    """`ErrorResponse`."""
    shown: dict[str, Any] = {
        "statusCode": status,
        "code": _CODES.get(status, f"STATUS_{status}"),
        "message": message,
        "details": details or message,
        "path": path,
        "identifier": identifier,
        "timestamp": timestamp,
    }
    if violations:
        shown["violations"] = [{"field": each.field, "description": each.description} for each in violations]
    return shown


def log_text(session: Session) -> str:
    """What the container has written so far: made up, the same at each reading until it ends."""
    lines = [f"{session.image}:{session.tag} starts with {len(session.args)} arguments"]
    lines += [f"listening on {port.type} {port.container}" for port in session.ports]
    if session.ended_why is not None:
        lines.append(f"ends: {session.ended_why}")
    return "".join(f"{line}\n" for line in lines)


def _common(session: Session) -> dict[str, Any]:
    return {
        "id": session.id,
        "image": session.image,
        "tag": session.tag,
        "location": session.location,
        "host": session.host,
        "created": session.created_at_ms,
        "port": {f"{port.container}/{port.type}": port.host for port in session.ports},
        "status": session.status.value,
        "labels": _labels(session),
    }


def _labels(session: Session) -> dict[str, str]:
    env = {"GAMEYE_SESSION_ID": session.id, "GAMEYE_HOST": session.host}
    for port in session.ports:
        env[f"GAMEYE_PORT_{port.type.upper()}_{port.container}"] = str(port.host)
    gameye = {
        "org": "simulated",
        "session": session.id,
        "image": session.image,
        "region": session.location,
        "tag": session.tag,
    }
    return {"env": _json({**env, **session.env}), "tags": _json(session.labels), "gameye": _json(gameye)}


def _json(value: Mapping[str, str]) -> str:
    return json.dumps(dict(value), separators=(",", ":"))
