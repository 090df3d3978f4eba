"""One wait for the end of one request, and what answers it.

In: events and hashes. Out: the wait's answer, once. Promises: a plain wait is answered by any end of its id and passes
refusals over, since they leave an allocation as it is. The wait of one who submitted is answered for that submission:
by the refusal of its own entry, and by an end only when that entry cannot be refused any more, so that the same id
with another body never gets the other's server. Reading what answers is left to the listener.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from allocator.client.errors import RefusedError, UnreadableAnswerError
from allocator.client.outbox import Submitted
from allocator.contract.allocation import Allocation, compact

REFUSED = "allocator.request.refused.v1"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal that was announced: of which entry, and why."""

    entry_id: str
    code: str
    message: str
    retry_after_ms: int | None = None
    priority: str | None = None
    """Of the entry's stream; None where an older worker does not say it."""

    def is_of(self, submitted: Submitted) -> bool:
        """Whether this entry was refused: two streams may give two entries the same id."""
        return self.entry_id == submitted.entry_id and self.priority in {None, submitted.priority}


@dataclass(eq=False, slots=True)
class Waiter:
    """One wait. While it is `in_doubt` no end answers it: it may be the end of another body under the same id."""

    request_id: str
    answer: asyncio.Future[Allocation]
    in_doubt: bool = False
    submitted: Submitted | None = None
    _refusals: list[Refusal] = field(default_factory=list)

    @property
    def own(self) -> Submitted:
        """What was submitted for this wait; only after `sent`."""
        if self.submitted is None:
            raise RuntimeError("nothing was submitted for this wait")
        return self.submitted

    def sent(self, submitted: Submitted) -> None:
        """Say which entry is ours; a refusal of it may have come before this."""
        self.submitted = submitted
        self.in_doubt = submitted.known
        for refusal in self._refusals:
            self.refuse(refusal)
        self._refusals.clear()

    def end(self, allocation: Allocation) -> None:
        """Answer with this end, unless it may be another's."""
        if not self.in_doubt and not self.answer.done():
            self.answer.set_result(allocation)

    def refuse(self, refusal: Refusal) -> None:
        """Answer with this refusal if it is of our own entry; keep it while we do not know which that is."""
        if self.submitted is None and self.in_doubt:
            self._refusals.append(refusal)
        elif self.submitted is not None and refusal.is_of(self.submitted):
            self.fail(RefusedError(refusal.code, refusal.message, refusal.retry_after_ms))

    def fail(self, error: BaseException) -> None:
        """Answer with an error."""
        if not self.answer.done():
            self.answer.set_exception(error)

    def forget(self) -> None:
        """Nobody waits any more: what was answered meanwhile is nobody's error."""
        if not self.answer.cancel() and not self.answer.cancelled():
            self.answer.exception()


def read_event(text: bytes) -> Allocation | Refusal | None:
    """Read an announcement; None where this version cannot, and the hash has to tell."""
    try:
        event = json.loads(text)
        data = event["data"]
        if event["type"] == REFUSED:
            retry_after_ms = None if data.get("retry_after_ms") is None else int(data["retry_after_ms"])
            message = str(data.get("error_message", ""))
            priority = data.get("priority")
            return Refusal(str(data["entry_id"]), str(data["error_code"]), message, retry_after_ms, priority)
        return Allocation.from_hash({name: _hashed(name, value) for name, value in data.items()})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def read_hash(request_id: str, reply: list[bytes]) -> Allocation | None:
    """Read a reply to HGETALL; None where there is no hash, UnreadableAnswerError where it is none of ours."""
    if not reply:
        return None
    try:
        words = [word.decode() for word in reply]
        return Allocation.from_hash(dict(zip(words[::2], words[1::2], strict=True)))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UnreadableAnswerError(request_id) from error


def _hashed(name: str, value: Any) -> str:
    """A field of an event's data as the hash has it."""
    if name == "final":
        return "1" if value else "0"
    if isinstance(value, Mapping | list) or name == "context":
        return compact(value)
    return str(value)
