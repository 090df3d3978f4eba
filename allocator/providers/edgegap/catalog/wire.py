"""Calls of the catalogue: one that reads is tried a few times, one that has an effect is sent once.

In: a path in its parts, a body. Out: rows, or a `Fault`. Promised: a read that meets 429, 5xx or a broken connection is
tried again up to `TRIES` times, with jitter; a write is sent again after 429 alone, which says that nothing was done;
a listing is followed to its end, at most `PAGES_MAX` pages of it; what a body held in secret is in no message.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from pydantic import TypeAdapter, ValidationError
from yarl import URL

from allocator.providers.edgegap.catalog.faults import Done, Fault, Refused, Unclear, Unreachable
from allocator.providers.edgegap.catalog.rows import Row
from allocator.providers.edgegap.catalog.sent import Sent, body, secrets_of
from allocator.providers.exchange import Exchange, Lost, NotSent, Reply
from allocator.providers.replies import error_message

READ_SECONDS = 15.0
# `verify_image` lets the vendor try the image before it answers.
WRITE_SECONDS = 60.0
TRIES = 4
FIRST_PAUSE_SECONDS = 0.5
PAGE_ROWS = 50
PAGES_MAX = 1000
# A picture of 300 KB on each of a page's applications.
_REPLY_BYTES_MAX = 32 * 2**20
_NO_SUCH_SEGMENT = frozenset({"", ".", ".."})

RowT = TypeVar("RowT", bound=Row)
Pause = Callable[[float], Awaitable[None]]


class Wire:
    """The calls to one organisation."""

    def __init__(
        self, base_url: str, exchange: Exchange, token: Callable[[], str], *, pause: Pause, chance: random.Random
    ) -> None:
        self._base = base_url
        self._exchange = exchange
        self._token = token
        self._pause = pause
        self._chance = chance

    async def read(self, row: type[RowT], *path: str) -> RowT | Fault:
        """Read one thing."""
        found = await self._read(path, {})
        return found if isinstance(found, Fault) else _row(row, found)

    async def pages(
        self, row: type[RowT], key: str, *path: str, takes_limit: bool = True
    ) -> AsyncIterator[tuple[RowT, ...] | Fault]:
        """Every page of a listing, whose rows stand under `key`; a fault is the last that comes.

        `takes_limit`: whether the listing is described as taking the number of rows that are wanted.
        """
        rows_type = TypeAdapter(tuple[row, ...])  # type: ignore[valid-type]  # the type is known as this runs
        number, seen = 1, 0
        last: object = None
        for _ in range(PAGES_MAX):
            query = {"page": str(number)} if takes_limit or number > 1 else {}
            if takes_limit:
                query["limit"] = str(PAGE_ROWS)
            found = await self._read(path, query)
            if isinstance(found, Refused) and found.status == 404 and number > 1:
                return  # as some say that a page is beyond the last
            if isinstance(found, Fault):
                yield found
                return
            raw = found.get(key) or [] if isinstance(found, dict) else None
            try:
                rows = rows_type.validate_python(raw)
            except ValidationError as error:
                yield _unreadable(error)
                return
            if rows and raw == last:
                return  # a listing without pages that gives the same for each number
            last = raw
            yield rows
            seen += len(rows)
            following = _following(found, number, len(rows), seen)
            if following is None:
                return
            number = following
        yield Unclear(f"the listing has more than {PAGES_MAX} pages of {PAGE_ROWS}; delete what nobody uses")

    async def send(self, method: str, sent: Sent | None, *path: str) -> Reply | Fault:
        """Do what has an effect; the reply says that it is done."""
        secrets = secrets_of(sent)
        raw = None if sent is None else json.dumps(body(sent)).encode()
        for attempt in range(TRIES):
            reply = await self._call(method, path, WRITE_SECONDS, raw=raw)
            if isinstance(reply, Reply) and 200 <= reply.status < 300:
                return reply
            fault = self._fault(reply, secrets)
            if attempt + 1 == TRIES or not _is_throttled(fault):
                return fault
            await self._rest(attempt)
        raise AssertionError("the last try returns")

    async def close(self) -> None:
        """Give the connections back."""
        await self._exchange.close()

    async def _read(self, path: Sequence[str], query: Mapping[str, str]) -> Any:
        for attempt in range(TRIES):
            reply = await self._call("GET", path, READ_SECONDS, query=query)
            if isinstance(reply, Reply) and 200 <= reply.status < 300:
                found = _json(reply)
                return _unreadable(None) if found is None else found
            fault = self._fault(reply, ())
            if attempt + 1 == TRIES or (isinstance(fault, Refused) and not _is_throttled(fault)):
                return fault
            await self._rest(attempt)
        raise AssertionError("the last try returns")

    async def _call(
        self,
        method: str,
        path: Sequence[str],
        timeout_seconds: float,
        *,
        query: Mapping[str, str] | None = None,
        raw: bytes | None = None,
    ) -> Reply | NotSent | Lost | Refused:
        if any(part in _NO_SUCH_SEGMENT for part in path):
            return Refused(400, "a name is empty, '.' or '..', which no path can hold; write the name")
        text = "/".join((self._base, "v1", *(quote(part, safe="") for part in path)))
        if query:
            text += f"?{urlencode(query)}"
        return await self._exchange.send(
            method,
            URL(text, encoded=True),
            timeout_seconds=timeout_seconds,
            reply_bytes_max=_REPLY_BYTES_MAX,
            body=raw,
        )

    def _fault(self, reply: Reply | NotSent | Lost | Refused, secrets: Iterable[str]) -> Fault:
        """What a reply that is no success means."""
        match reply:
            case Reply(status=status) if status < 400:
                return Refused(status, "the API leads elsewhere; check edgegap.base_url")
            case Reply(status=status):
                message = error_message(reply, (self._token(), *secrets))
                return Refused(status, message) if status < 500 else Unclear(message, status)
            case NotSent(message):
                return Unreachable(f"{message}; check edgegap.base_url and the network")
            case Lost(message, status):
                return Unclear(message, status)
            case Refused():
                return reply

    async def _rest(self, attempt: int) -> None:
        await self._pause(FIRST_PAUSE_SECONDS * 2**attempt * self._chance.uniform(0.5, 1.5))


async def collected(pages: AsyncIterator[tuple[RowT, ...] | Fault]) -> tuple[RowT, ...] | Fault:
    """The rows of all pages in one, or the fault that ended them."""
    rows: list[RowT] = []
    async for page in pages:
        if isinstance(page, Fault):
            return page
        rows += page
    return tuple(rows)


def image_path(image: str) -> tuple[str, ...]:
    """An image's name in its parts: the slash between project and image stays a slash."""
    return tuple(image.split("/"))


def done(reply: Reply | Fault) -> Done | Fault:
    """A reply of which only that it is done matters."""
    return reply if isinstance(reply, Fault) else Done()


def read_reply(row: type[RowT], reply: Reply | Fault, *, within: str | None = None) -> RowT | Fault:
    """The row that a reply to an effect holds, under the key `within` where one is given."""
    if isinstance(reply, Fault):
        return reply
    found = _json(reply)
    answer = _row(row, found.get(within) if within is not None and isinstance(found, dict) else found)
    # It was done all the same; only what came of it cannot be read.
    return Unclear(f"done, but {answer.message}", reply.status) if isinstance(answer, Unclear) else answer


async def pause(seconds: float) -> None:
    """Let time pass, as the event loop counts it."""
    await asyncio.sleep(seconds)


def _following(found: object, number: int, count: int, seen: int) -> int | None:
    """The number of the next page; None where this was the last."""
    pagination = found.get("pagination") if isinstance(found, dict) else None
    if isinstance(pagination, dict) and "has_next" in pagination:
        following = pagination.get("next_page_number")
        if not pagination["has_next"]:
            return None
        return following if isinstance(following, int) and following > number else number + 1
    total = found.get("total_count") if isinstance(found, dict) else None
    if isinstance(total, int):
        return number + 1 if count and seen < total else None
    # Nothing says where it ends, and a short page may be the vendor's limit: an empty one ends it.
    return number + 1 if count else None


def _is_throttled(fault: Fault) -> bool:
    return isinstance(fault, Refused) and fault.status == 429


def _json(reply: Reply) -> Any:
    try:
        return json.loads(reply.body)
    except (ValueError, RecursionError):
        return None


def _row(row: type[RowT], found: object) -> RowT | Unclear:
    try:
        return row.model_validate(found)
    except ValidationError as error:
        return _unreadable(error)


def _unreadable(error: ValidationError | None) -> Unclear:
    """The fault of an answer that is not as described; of what stands in it only the name of a field is told."""
    fields = [] if error is None else [".".join(map(str, each["loc"])) for each in error.errors(include_input=False)]
    where = f" at {', '.join(sorted(set(fields))[:5])}" if any(fields) else ""
    return Unclear(f"the answer is not as the API describes it{where}; check edgegap.base_url")
