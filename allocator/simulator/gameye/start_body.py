"""The body of a start, read as strictly as the vendor's description of it.

In: bytes. Out: an `Asked`, or the violations that a 422 lists. Written by hand because it runs once a start, thousands
a second, on the core that whoever is measured against the simulator also wants.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from allocator.simulator.bodies import Violation

_TTL = re.compile(r"(?=.)(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?", re.ASCII)
_TEXT_KEYS = ("id", "location", "image", "version", "ttl", "external_id")
_KEYS = frozenset({*_TEXT_KEYS, "env", "args", "restart", "labels"})
_NOT_EMPTY = frozenset({"id", "location", "image"})


@dataclass(frozen=True, slots=True)
class Asked:
    """A start as it was asked for."""

    location: str
    image: str
    id: str | None = None
    version: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    args: tuple[str, ...] = field(default=(), repr=False)
    labels: Mapping[str, str] = field(default_factory=dict)
    restart: bool = False
    ttl_seconds: int | None = None
    external_id: str | None = None


def read_start(body: Any) -> Asked | tuple[Violation, ...]:
    """Read what `read_json` gave; every violation is named, not only the first."""
    if isinstance(body, Violation):
        return (body,)
    if not isinstance(body, dict):
        return (Violation("body", "must be a JSON object"),)
    wrong = [Violation(key, "is not a known field") for key in body.keys() - _KEYS]
    wrong += [Violation(key, "is required") for key in ("location", "image") if key not in body]
    for key in _TEXT_KEYS:
        if key in body and not isinstance(body[key], str):
            wrong.append(Violation(key, "must be a string"))
        elif key in _NOT_EMPTY and body.get(key) == "":
            wrong.append(Violation(key, "must not be empty"))
    wrong += _wrong_map(body, "env", empty_allowed=False) + _wrong_map(body, "labels", empty_allowed=True)
    wrong += _wrong_texts(body, "args", empty_allowed=False)
    if not isinstance(body.get("restart", False), bool):
        wrong.append(Violation("restart", "must be true or false"))
    ttl = body.get("ttl")
    ttl_seconds = read_ttl(ttl) if isinstance(ttl, str) else None
    if isinstance(ttl, str) and ttl_seconds is None:
        wrong.append(Violation("ttl", "must be like 1m, 1h or 2h30m"))
    if wrong:
        return tuple(wrong)
    return Asked(
        location=body["location"],
        image=body["image"],
        id=body.get("id"),
        version=body.get("version") or None,
        env=body.get("env", {}),
        args=tuple(body.get("args", ())),
        labels=body.get("labels", {}),
        restart=body.get("restart", False),
        ttl_seconds=ttl_seconds,
        external_id=body.get("external_id"),
    )


def read_players(body: Any, *, with_session: bool) -> tuple[str, tuple[str, ...]] | tuple[Violation, ...]:
    """Read who joins or leaves: the session (empty where none is to be named) and the players."""
    if isinstance(body, Violation):
        return (body,)
    if not isinstance(body, dict):
        return (Violation("body", "must be a JSON object"),)
    keys = {"session", "players"} if with_session else {"players"}
    wrong = [Violation(key, "is not a known field") for key in body.keys() - keys]
    wrong += [Violation(key, "is required") for key in keys - body.keys()]
    if with_session and "session" in body and not isinstance(body["session"], str):
        wrong.append(Violation("session", "must be a string"))
    wrong += _wrong_texts(body, "players", empty_allowed=True)
    if wrong:
        return tuple(wrong)
    return body.get("session", ""), tuple(body["players"])


def read_ttl(text: str) -> int | None:
    """Seconds of `1h`, `90m` or `2h30m`, at least a minute; None where it is none of these."""
    match = _TTL.fullmatch(text)
    if match is None:
        return None
    hours, minutes = (int(part or 0) for part in match.groups())
    return max(60, hours * 3600 + minutes * 60)


def _wrong_map(body: dict[str, Any], key: str, *, empty_allowed: bool) -> list[Violation]:
    values = body.get(key)
    if key not in body:
        return []
    if not isinstance(values, dict):
        return [Violation(key, "must be an object of strings")]
    return _wrong_items(((f"{key}.{name}", value) for name, value in values.items()), empty_allowed=empty_allowed)


def _wrong_texts(body: dict[str, Any], key: str, *, empty_allowed: bool) -> list[Violation]:
    values = body.get(key)
    if key not in body:
        return []
    if not isinstance(values, list):
        return [Violation(key, "must be an array of strings")]
    return _wrong_items(((f"{key}[{place}]", value) for place, value in enumerate(values)), empty_allowed=empty_allowed)


def _wrong_items(items: Iterable[tuple[str, Any]], *, empty_allowed: bool) -> list[Violation]:
    wrong = []
    for name, value in items:
        if not isinstance(value, str):
            wrong.append(Violation(name, "must be a string"))
        elif not value and not empty_allowed:
            wrong.append(Violation(name, "must not be empty"))
    return wrong
