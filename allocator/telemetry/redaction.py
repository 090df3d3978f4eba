"""Takes out of a log event what must not be read there: secrets, control characters, endless texts.

In: an event's keys and values as structlog hands them on. Out: the same keys with values fit to be printed. Secrets
are exact values, such as a token; the set is looked at for every event, so that a token read anew is masked as well.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from structlog.typing import EventDict

MASK = "***"
TEXT_CHARS_MAX = 2_000
TRACEBACK_CHARS_MAX = 16_000
SECRET_CHARS_MIN = 4
"""A shorter value would be found in words that have nothing to do with it."""

_PLAIN = (bool, int, float, type(None))
_TRACEBACK = "exception"


class Redaction:
    """A structlog processor that masks `secrets` wherever they stand."""

    def __init__(self, secrets: Collection[str]) -> None:
        self._secrets = secrets

    def __call__(self, logger: object, method: str, event: EventDict) -> EventDict:
        """Mask and shorten every value; a traceback may be longer, and its end, which names the fault, is kept."""
        del logger, method
        for key, value in event.items():
            if key.startswith("_"):
                continue  # structlog's own, taken out before anything is written
            if key == _TRACEBACK and isinstance(value, str):
                event[key] = self._masked(value)[-TRACEBACK_CHARS_MAX:]
            else:
                event[key] = self._clean(value)
        return event

    def _clean(self, value: Any) -> Any:
        if isinstance(value, _PLAIN):
            return value
        if isinstance(value, Mapping):
            return {self._text(str(key)): self._clean(each) for key, each in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._clean(each) for each in value]
        return self._text(str(value))

    def _text(self, text: str) -> str:
        masked = self._masked(text)
        return masked if len(masked) <= TEXT_CHARS_MAX else f"{masked[:TEXT_CHARS_MAX]}..."

    def _masked(self, text: str) -> str:
        # The longest first: one secret may be part of another.
        for secret in sorted(self._secrets, key=len, reverse=True):
            if len(secret) >= SECRET_CHARS_MIN:
                text = text.replace(secret, MASK)
        return text


def escape_controls(logger: object, method: str, event: EventDict) -> EventDict:
    """Write what a terminal would obey as text, so that no value moves its cursor or begins a line of its own."""
    del logger, method
    for key, value in event.items():
        if key.startswith("_") or isinstance(value, _PLAIN):
            continue
        if key == _TRACEBACK and isinstance(value, str):
            event[key] = "\n".join(f"    {_escaped(line)}" for line in value.split("\n"))
        else:
            event[key] = _escaped(value if isinstance(value, str) else repr(value))
    return event


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
