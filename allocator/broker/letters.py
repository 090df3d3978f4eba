"""Dead letters: what could not be taken up, kept with its bytes for a person to look at, and to send again.

In: the stream `{N}:dead-letters`. Out: what is in it, and what becomes of one that is replayed. Every text of a letter
is as its sender wrote it: to be escaped before it reaches a terminal. The bytes may hold secrets of `env` and `args`.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter without its bytes. Where no id could be read, `request_id` is None."""

    entry_id: str
    code: str
    message: str
    request_id: str | None
    stream: str
    """The key of the stream that it came in on."""
    request_entry_id: str
    """Its entry there, settled long since."""
    size_bytes: int
    age_seconds: float


@dataclass(frozen=True, slots=True)
class Opened:
    """A letter with its bytes."""

    letter: Letter
    request: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Replayed:
    """The request is in its stream again, under this entry; the letter is gone."""

    entry_id: str


@dataclass(frozen=True, slots=True)
class Gone:
    """There is no such letter, or not any more."""


@dataclass(frozen=True, slots=True)
class Empty:
    """The letter holds no request; it stays."""


@dataclass(frozen=True, slots=True)
class Homeless:
    """The letter names no stream of requests of this namespace; it stays."""

    stream: str


@dataclass(frozen=True, slots=True)
class Unsent:
    """The letter is a cancellation that named no request: there is nothing to send again; it stays."""


@dataclass(frozen=True, slots=True)
class Known:
    """Its id is under way, or has ended otherwise than by a failure without a session; the letter stays."""

    request_id: str
    state: str


ReplayReply = Replayed | Gone | Empty | Homeless | Unsent | Known
