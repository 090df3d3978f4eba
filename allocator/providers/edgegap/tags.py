"""The tags of a deployment: all that it can bear of ours, since the host takes no ids and no labels.

In: our session id, the location asked for, our labels. Out: tags of at most 40 characters, and the same read back.

    alloc-<32 hex>   the session id: what an unknown outcome is resolved by
    d0.<text>        the deployment that the label `allocator` names; likewise n0. the namespace, r0. the request
    l0.<text>        the location

A text that is too long for one tag goes on in the next (`r1.`, `r2.`). Pure.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from allocator.contract.request import MARK, NAMESPACE_MARK, REQUEST_MARK

TAG_LENGTH_MAX = 40
_KEY = re.compile(r"alloc-([0-9a-f]{32})")
_PART = re.compile(r"([dnrl])([0-9])\.(.+)", re.DOTALL)
_LABELS = {"d": MARK, "n": NAMESPACE_MARK, "r": REQUEST_MARK}
_PART_LENGTH_MAX = TAG_LENGTH_MAX - len("r0.")


@dataclass(frozen=True, slots=True)
class Marks:
    """What the tags of a deployment say; None where they say nothing of it."""

    session_id: str | None = None
    mark: str | None = None
    namespace: str | None = None
    request_id: str | None = None
    location: str | None = None


def is_ours(session_id: str) -> bool:
    """Whether an id is one that we gave, and none of the host's own."""
    try:
        return str(uuid.UUID(session_id)) == session_id
    except ValueError:
        return False


def key_tag(session_id: str) -> str:
    """The tag of a session id. Raises ValueError for one that we never gave."""
    return f"alloc-{uuid.UUID(session_id).hex}"


def mark_tag(mark: str) -> str:
    """A tag that every deployment of this mark bears, if not only those: a long mark goes on in the next tag."""
    return _parts("d", mark)[0]


def tags_of(session_id: str, location: str, labels: Mapping[str, str]) -> list[str]:
    """All tags of one deployment."""
    texts = {letter: labels.get(label, "") for letter, label in _LABELS.items()} | {"l": location}
    return [key_tag(session_id), *(tag for letter, text in texts.items() for tag in _parts(letter, text))]


def read_tags(tags: Iterable[str]) -> Marks:
    """What these tags say."""
    session_id: str | None = None
    parts: dict[str, dict[str, str]] = {}
    for tag in tags:
        if key := _KEY.fullmatch(tag):
            session_id = str(uuid.UUID(key[1]))
        elif part := _PART.fullmatch(tag):
            parts.setdefault(part[1], {})[part[2]] = part[3]

    def text(letter: str) -> str | None:
        found = parts.get(letter, {})
        return "".join(found[number] for number in sorted(found)) or None

    return Marks(session_id, mark=text("d"), namespace=text("n"), request_id=text("r"), location=text("l"))


def _parts(letter: str, text: str) -> list[str]:
    pieces = [text[start : start + _PART_LENGTH_MAX] for start in range(0, len(text), _PART_LENGTH_MAX)]
    return [f"{letter}{number}.{piece}" for number, piece in enumerate(pieces)]
