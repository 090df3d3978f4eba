"""The port to what becomes of a request beside its way: cancelled, released, its sessions stopped.

In: cancellations of matchmakers, sessions that must not live. Out: holds that can be ended, and what is in play. A
cancellation is an order that stays pending until everything it asks for is durable; each step may be repeated.
`BrokerUnavailable` is raised as by the broker.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from allocator.broker.broker import Condemned, Hold
from allocator.contract.codes import Code

_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


@dataclass(frozen=True, slots=True)
class Order:
    """One entry of the cancellations. `request_id` is None where it has no field `id` that one could bear."""

    entry_id: str
    request_id: str | None
    fields: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    """All that the entry holds, where it names no request."""

    @classmethod
    def read(cls, entry_id: str, words: Sequence[bytes]) -> Order:
        """Read an entry's `field, value, ...`; of a field that is there twice the last counts."""
        pairs = tuple(zip(words[::2], words[1::2], strict=True))
        given = dict(pairs).get(b"id", b"")
        return cls(entry_id, given.decode()) if _ID.fullmatch(given) else cls(entry_id, None, pairs)

    @property
    def at_ms(self) -> int:
        """When Redis took it."""
        return int(self.entry_id.partition("-")[0])

    def to_json(self) -> bytes:
        """Its fields for a dead letter: one JSON object in ASCII, in which bytes that are no UTF-8 are escaped."""
        texts = {_text(name): _text(value) for name, value in self.fields}
        return json.dumps(texts, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Over:
    """The request has ended: in this state, with this session as (provider, session id)."""

    state: str
    session: tuple[str, str] | None
    entry_id: str
    """The entry that owned the request."""


class Aftermath(Protocol):
    """One namespace."""

    async def orders(self, count: int) -> list[Order]:
        """Read up to `count` new cancellations, waiting at most 2 s for the first."""
        ...

    async def stray_orders(self, count: int, idle_ms: int) -> list[Order]:
        """Take over cancellations that were read so long ago and never settled."""
        ...

    async def settle(self, order: Order) -> None:
        """All that the order asks for is done, or durable."""
        ...

    async def bury(self, order: Order, code: Code, message: str) -> bool:
        """Settle an order that names no request and keep its fields as a dead letter; False where it was settled."""
        ...

    async def seize(self, request_id: str) -> Hold | Over | None:
        """Take a request over at once, under way as it is; its holder is told. None: nobody has asked for this id.

        The hold is `uncertain` unless the request was handed back with no call left unanswered.
        """
        ...

    async def forestall(self, order: Order, fields: Mapping[str, str], event: str) -> bool:
        """Keep an id that nobody has asked for as ended; False where someone has by now."""
        ...

    async def condemn(self, condemned: Condemned, request_id: str, *, release: bool) -> bool:
        """Mark a session for stopping; False where an allocated hash names it and it is not to be released."""
        ...

    async def release(self, request_id: str, session: tuple[str, str], event: str) -> bool:
        """Say that the session of an allocated request has been stopped; False where that was said before."""
        ...

    async def allocation(self, request_id: str) -> Mapping[str, str]:
        """Read the allocation hash; empty where there is none."""
        ...

    async def seized(self) -> list[str]:
        """The requests that were seized since the last call, waiting at most 2 s for the first."""
        ...


def _text(word: bytes) -> str:
    return word.decode(errors="backslashreplace")
