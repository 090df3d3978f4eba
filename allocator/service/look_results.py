"""What the results streams tell: the latest ends, and how many came between two looks.

In: the replies of Redis to `Tail.commands`. Out: `Result`s, and the number of ends by state. A stream is read from
where the last look ended, its newest `entries_max` entries at most, so that a look costs the same beside any backlog.
Where fewer came, all of them were counted; where more came, how many is what the stream itself counts
(`entries-added`), and of what states is reckoned from the newest. An announcement that is repeated counts again, and a
refusal counts as `refused`. Anyone who may write to the stream may write anything: what cannot be read is passed over
field by field, and no text is longer than `TEXT_CHARS_MAX`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from allocator.contract.keys import Keys
from allocator.redis_io.errors import CommandFault
from allocator.redis_io.wire import Command

RECENT_MAX = 20
"""So many of the latest results are in a look."""
READ_MAX = 256
"""So many entries are read at most in one look, shared out over the partitions; of each `RECENT_MAX` at least."""
TEXT_CHARS_MAX = 256
AT_MS_MAX = 2**47
"""Past the year 6000: what says that it came later says nothing."""


@dataclass(frozen=True, slots=True)
class Result:
    """One announced end; `at_ms` is when it was announced, `took_ms` from its entry into Redis to its end."""

    at_ms: int
    request_id: str
    state: str
    region: str | None = None
    endpoint: str | None = None
    error_code: str | None = None
    took_ms: int | None = None

    def to_data(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "at": self.at_ms,
            "request_id": self.request_id,
            "state": self.state,
            "region": self.region,
            "endpoint": self.endpoint,
            "error_code": self.error_code,
            "took_ms": self.took_ms,
        }


@dataclass(frozen=True, slots=True)
class Ended:
    """What ended in so many seconds, by state; where not `is_exact`, the states are reckoned from the newest ends."""

    seconds: float
    by_state: Mapping[str, float]
    is_exact: bool

    @property
    def per_second(self) -> dict[str, float]:
        """The most frequent state first."""
        ordered = sorted(self.by_state.items(), key=lambda item: (-item[1], item[0]))
        return {state: number / self.seconds for state, number in ordered}

    def to_data(self) -> dict[str, Any]:
        """As JSON has it."""
        rates = {state: round(rate, 3) for state, rate in self.per_second.items()}
        return {"seconds": round(self.seconds, 3), "per_second": rates, "exact": self.is_exact}


@dataclass(frozen=True, slots=True)
class News:
    """What one stream got since the last look; `ended` is None where there was none before, or the stream was lost."""

    results: tuple[Result, ...]
    ended: Mapping[str, float] | None
    is_exact: bool = True
    was_lost: bool = False


@dataclass(slots=True)
class Tail:
    """The end of one partition's results stream."""

    keys: Keys
    entries_max: int
    _last: str | None = field(default=None, init=False)
    _added: int | None = field(default=None, init=False)

    def commands(self) -> tuple[Command, Command]:
        """What is to be asked; the replies are for `read`."""
        after = "-" if self._last is None else f"({self._last}"
        count = RECENT_MAX if self._last is None else self.entries_max
        stream = self.keys.results
        return ("XREVRANGE", stream, "+", after, "COUNT", count), ("XINFO", "STREAM", stream)

    def read(self, entries: Any, facts: Any) -> News:
        """Take the replies in; the second may be that there is no stream."""
        added_before, added = self._added, _added(facts)
        if added_before is not None and added < added_before:
            # What was seen is gone, by a flush or a promotion: begin again.
            self._added = self._last = None
            return News((), None, was_lost=True)
        self._added = added
        results = tuple(_result(entry_id.decode(), _pairs(words)) for entry_id, words in entries)
        if entries:
            self._last = entries[0][0].decode()
        if added_before is None:
            return News(results, None)
        states = Counter(each.state for each in results)
        if len(results) < self.entries_max:
            return News(results, dict(states))
        ended = max(len(results), added - added_before)
        shares = {state: number * ended / len(results) for state, number in states.items()}
        return News(results, shares, is_exact=ended == len(results))


def entries_max(partitions: int) -> int:
    """How many entries of each stream may be read in one look."""
    return max(RECENT_MAX, READ_MAX // partitions)


def latest(results: Sequence[Result]) -> tuple[Result, ...]:
    """The newest of these, the newest first."""
    return tuple(sorted(results, key=lambda each: each.at_ms, reverse=True)[:RECENT_MAX])


def summed(news: Sequence[News], seconds: float) -> Ended | None:
    """What ended in all partitions; None where one of them cannot say, or no time has passed."""
    if seconds <= 0 or any(each.ended is None for each in news):
        return None
    total: Counter[str] = Counter()
    for each in news:
        total.update(each.ended or {})
    return Ended(seconds, dict(total), all(each.is_exact for each in news))


def is_absent(reply: Any) -> bool:
    """Whether this is how Redis says that there is no stream."""
    return isinstance(reply, CommandFault) and "no such key" in str(reply)


def _added(facts: Any) -> int:
    """How many entries the stream ever got; 0 where it is not there."""
    return 0 if is_absent(facts) else int(_pairs(facts)[b"entries-added"])


def _result(entry_id: str, words: Mapping[Any, Any]) -> Result:
    data = _data(words.get(b"event", b""))
    ends = [value for name in ("allocated_at", "updated_at") if (value := _ms(data.get(name))) is not None]
    begins = _ms(data.get("enqueued_at"))
    return Result(
        at_ms=min(int(entry_id.partition("-")[0]), AT_MS_MAX),
        request_id=_word(words.get(b"request_id", b"")),
        state=_word(words.get(b"state", b"")),
        region=_text(data.get("region")),
        endpoint=_text(data.get("endpoint")),
        error_code=_text(data.get("error_code")),
        took_ms=ends[0] - begins if ends and begins is not None else None,
    )


def _data(event: bytes) -> Mapping[str, Any]:
    try:
        read = json.loads(event)
    except (ValueError, RecursionError):
        return {}
    data = read.get("data") if isinstance(read, dict) else None
    return data if isinstance(data, dict) else {}


def _word(raw: bytes) -> str:
    return raw[: 4 * TEXT_CHARS_MAX].decode(errors="replace")[:TEXT_CHARS_MAX]


def _text(value: Any) -> str | None:
    """A text that can be written down: half of a surrogate pair cannot."""
    return value[:TEXT_CHARS_MAX].encode(errors="replace").decode() if isinstance(value, str) else None


def _ms(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < AT_MS_MAX else None


def _pairs(words: Sequence[Any]) -> dict[Any, Any]:
    return dict(zip(words[::2], words[1::2], strict=True))
