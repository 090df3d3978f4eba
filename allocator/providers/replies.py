"""What a reply says that is not good news, alike for every provider: its message, how long to wait, who speaks.

In: a `Reply` that was read whole. Out: a sentence, seconds, or whether the host itself speaks. A message is made of
the error body's own words, with every value of `env` and `args` and the token blotted out, since a host could echo
them. Pure. What a status means is each provider's to say.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from allocator.providers.exchange import Reply

RETRY_AFTER_SECONDS_MAX = 300.0
MESSAGE_LENGTH_MAX = 500
_VIOLATIONS_MAX = 8
_IDENTIFIER_LENGTH_MAX = 64
_BLOT = "***"
_SHORT = 4
_LONG = 8
_SECONDS = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)
_EXCERPT_BYTES = 4096
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)


def is_spoken_by_host(reply: Reply) -> bool:
    """Whether an error is the API's own: a JSON object. A proxy's 404 says nothing about a session."""
    return isinstance(_json(reply.body), dict)


def error_message(reply: Reply, secrets: Iterable[str]) -> str:
    """`message: details; field: description (identifier X)` in at most 500 printable characters."""
    error = _json(reply.body)
    if isinstance(error, dict):
        text, identifier = _told(error), error.get("identifier")
    else:
        text, identifier = _excerpt(reply), None
    forms = _forms(secrets)
    text = _printable(_blotted(text, forms)) or f"HTTP {reply.status} without a message"
    trace = ""
    if isinstance(identifier, str) and identifier:
        # The host's own word, and what its support asks for: only what cannot be there by chance is blotted.
        long_forms = [form for form in forms if len(form) >= _LONG]
        trace = f" (identifier {_printable(_blotted(identifier, long_forms))[:_IDENTIFIER_LENGTH_MAX]})"
    room = MESSAGE_LENGTH_MAX - len(trace)
    if len(text) > room:
        text = text[: room - 1] + "…"
    return text + trace


def retry_after_seconds(headers: Mapping[str, str], now_seconds: float) -> float | None:
    """Seconds to wait, 0 to 300, from either form of Retry-After; None where there is none that can be read.

    A date is measured against the reply's own Date where it has one, so that a host's clock need not agree with ours.
    """
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    if _SECONDS.fullmatch(value):
        return min(float(value), RETRY_AFTER_SECONDS_MAX)
    until = _unix_seconds(value)
    if until is None:
        return None
    sent = _unix_seconds(headers.get("Date", ""))
    return min(max(until - (now_seconds if sent is None else sent), 0.0), RETRY_AFTER_SECONDS_MAX)


def _unix_seconds(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return _as_utc(moment).timestamp()


def _as_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _told(error: Mapping[str, Any]) -> str:
    parts = [": ".join(_distinct(error.get("message"), error.get("details")))]
    violations = error.get("violations")
    if isinstance(violations, list):
        parts.extend(
            ": ".join(_distinct(violation.get("field"), violation.get("description")))
            for violation in violations[:_VIOLATIONS_MAX]
            if isinstance(violation, dict)
        )
        if len(violations) > _VIOLATIONS_MAX:
            parts.append(f"and {len(violations) - _VIOLATIONS_MAX} more")
    return "; ".join(part for part in parts if part)


def _distinct(*texts: object) -> list[str]:
    return list(dict.fromkeys(text for text in texts if isinstance(text, str) and text))


def _excerpt(reply: Reply) -> str:
    """What a proxy's page is called, or the first line of a plain text."""
    text = reply.body[:_EXCERPT_BYTES].decode("utf-8", "replace")
    title = _TITLE.search(text)
    if title:
        return f"HTTP {reply.status}: {html.unescape(title.group(1))}"
    if "<" in text:
        return ""
    line = text.strip().partition("\n")[0]
    return f"HTTP {reply.status}: {line}" if line else ""


def _forms(secrets: Iterable[str]) -> list[str]:
    """Each secret, its lines, what follows its first `=`, in the escapes of a reply; the longest first."""
    forms: set[str] = set()
    for secret in secrets:
        for piece in (secret, *secret.splitlines(), secret.partition("=")[2]):
            bare = piece.strip()
            if bare:
                forms.update((piece, bare, json.dumps(bare)[1:-1], html.escape(bare)))
                forms.add(quote(bare.encode("utf-8", "replace"), safe=""))
    return sorted(forms, key=len, reverse=True)


def _blotted(text: str, forms: Iterable[str]) -> str:
    for form in forms:
        if form not in text:
            continue
        if len(form) < _SHORT:
            # As a word of its own only: the value `8` must not blot every 8 of a trace identifier.
            text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(form)}(?![A-Za-z0-9])", _BLOT, text)
        else:
            text = text.replace(form, _BLOT)
    return text


def _printable(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
