"""One connection to a server, on which any number of callers ask at once.

In: a connection of redis-py's that is made: TLS, name, password, database, role. Out: the replies to what is asked, in
the order in which it was. Promises: what is asked is sent at once and once; a caller that goes leaves its reply to
nobody else; where nothing comes for `timeout_seconds` while a reply is due, or the wire breaks, all who wait hear of it
and the link is of no more use. How much waits to be sent is bounded by the callers, who each wait for their replies.

redis-py makes the connection and is left behind then: a round trip through its own reading and writing takes five times
the CPU, and a connection of its own for each caller.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from hiredis import Reader
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

_INCOMPLETE = object()


class _Asked:
    """What one caller waits for: replies to so many commands, sent in one piece."""

    __slots__ = ("count", "future", "replies", "sent_at")

    def __init__(self, count: int, future: asyncio.Future[list[Any]], sent_at: float) -> None:
        self.count = count
        self.future = future
        self.replies: list[Any] = []
        self.sent_at = sent_at


class Link(asyncio.Protocol):
    """See the module; made by `open`."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._loop = asyncio.get_running_loop()
        self._reader = Reader(protocolError=InvalidResponse, replyError=ResponseError, notEnoughData=_INCOMPLETE)
        self._asked: deque[_Asked] = deque()
        self._heard_at = float("-inf")
        self._watch: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport
        self._stream: asyncio.StreamWriter
        """Kept, since it closes the transport as it goes."""
        self.is_open = True

    @classmethod
    async def open(cls, connection: AbstractConnection, timeout_seconds: float) -> Link:
        """Connect, and take the wire over. Raises what redis-py does where it cannot."""
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py's gap
        except BaseException as error:
            await connection.disconnect(nowait=True)  # half made, as a caller leaves or the server answers nonsense
            if isinstance(error, RuntimeError):  # uvloop's word for a transport that is closed already
                raise RedisConnectionError("the connection was lost as it was made") from error
            raise
        link = cls(timeout_seconds)
        writer = connection._writer  # noqa: SLF001 - redis-py has no other way to hand a connection over
        if writer is None:
            raise RedisConnectionError("the connection was lost as it was made")
        connection._writer = connection._reader = None  # noqa: SLF001 - as above: it is not to close it
        link._stream, link._transport = writer, writer.transport  # type: ignore[assignment]  # a stream's is a whole one
        link._transport.set_protocol(link)
        if link._transport.is_closing():
            raise RedisConnectionError("the connection was lost as it was made")
        return link

    async def ask(self, commands: Sequence[bytes]) -> list[Any]:
        """Send these packed commands; their replies, with `ResponseError` for those the server refused."""
        if not self.is_open:
            raise RedisConnectionError("the connection was lost")
        now = self._loop.time()
        asked = _Asked(len(commands), self._loop.create_future(), now)
        try:
            self._transport.write(commands[0] if len(commands) == 1 else b"".join(commands))
        except RuntimeError as error:  # as above, before anybody was told
            raise RedisConnectionError("the connection was lost") from error
        self._asked.append(asked)
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout_seconds, self._look)
        return await asked.future

    def close(self) -> None:
        """Break it off; who still waits hears that it was lost."""
        self._end(RedisConnectionError("the connection was closed"))

    def data_received(self, data: bytes) -> None:
        """Hand out the replies that are whole."""
        self._heard_at = self._loop.time()
        reader, asked = self._reader, self._asked
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not _INCOMPLETE:
                first = asked[0]
                first.replies.append(reply)
                if len(first.replies) == first.count:
                    asked.popleft()
                    if not first.future.done():
                        first.future.set_result(first.replies)
        except IndexError:
            self._end(InvalidResponse("a reply to nothing that was asked"))
        except InvalidResponse as error:
            self._end(error)

    def connection_lost(self, error: Exception | None) -> None:
        """The wire broke, or the server closed it."""
        self._end(RedisConnectionError(str(error) if error else "the server closed the connection"))

    def _look(self) -> None:
        """Give up where nothing came for too long while a reply is due."""
        self._watch = None
        if not self._asked:
            return
        left = max(self._heard_at, self._asked[0].sent_at) + self._timeout_seconds - self._loop.time()
        if left > 0:
            self._watch = self._loop.call_later(left, self._look)
        else:
            self._end(RedisTimeoutError(f"no reply within {self._timeout_seconds:g} s"))

    def _end(self, error: Exception) -> None:
        if not self.is_open:
            return
        self.is_open = False
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._transport.abort()
        while self._asked:
            if not (future := self._asked.popleft().future).done():
                future.set_exception(type(error)(*error.args))  # each his own, with his own traceback
