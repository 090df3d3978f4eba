"""The wire between a worker and a server, Redis or the host: latency, and everything that can go wrong on it.

In: a step of the server. Out: its reply, or `Broken`. What is promised: a step that was sent happens at the server
whatever becomes of its sender; one that is refused never happens; one whose reply is lost has happened, or happens
later. A dead sender's wire is cut: it hears nothing and its steps do not leave.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from tests.simulation.trace import Trace
from tests.simulation.virtual_loop import context_of

T = TypeVar("T")


class Broken(Exception):  # noqa: N818 - a state of the simulated world
    """The wire gave no reply."""


@dataclass(slots=True)
class WireFaults:
    """How often a step goes wrong, and how; the shares of all steps."""

    refused: float = 0.0
    lost_reply: float = 0.0
    late: float = 0.0
    """The sender gives up, and the step happens afterwards."""
    late_seconds_max: float = 0.0
    latency_seconds_max: float = 0.002
    timeout_seconds: float = 1.0


class Wire:
    """One process's way to one server."""

    def __init__(self, server: str, faults: WireFaults, chance: random.Random, trace: Trace) -> None:
        self._context = context_of(server)
        self._server = server
        self._trace = trace
        self._chance = chance
        self.faults = faults
        self.cut = False
        """A partition: nothing passes, either way."""
        self.dead = False
        self.landings: list[float] = []
        """When its late steps happen, on the loop's clock."""
        self._served: set[asyncio.Task[None]] = set()

    async def ask(self, what: str, act: Callable[[], Awaitable[T]]) -> T:
        """Let the server act, and give its reply. Raises Broken, or what the act raises."""
        loop, chance, faults = asyncio.get_running_loop(), self._chance, self.faults
        if self.dead:
            raise asyncio.CancelledError
        there = chance.random() * faults.latency_seconds_max
        drawn = chance.random()
        if self.cut or drawn < faults.refused:
            self._trace.say(f"{self._server}: {what} refused")
            await asyncio.sleep(faults.timeout_seconds if self.cut else there)
            raise Broken(what)
        lost = drawn < faults.refused + faults.lost_reply
        late = not lost and drawn < faults.refused + faults.lost_reply + faults.late
        if late:
            there += chance.random() * faults.late_seconds_max
            self.landings.append(loop.time() + there)
        reply: asyncio.Future[T] = loop.create_future()
        loop.call_later(there, self._arrive, act, reply, lost or late, context=self._context.copy())
        if late or lost:
            self._trace.say(f"{self._server}: {what} {'comes late' if late else 'loses its reply'}")
            await asyncio.sleep(faults.timeout_seconds)
            raise Broken(what)
        return await reply

    def _arrive(self, act: Callable[[], Awaitable[T]], reply: asyncio.Future[T], lost: bool) -> None:  # noqa: FBT001 - call_later passes by position
        loop = asyncio.get_running_loop()

        async def serve() -> None:
            try:
                value = await act()
            except Exception as error:  # noqa: BLE001 - whatever the server says is its sender's to hear
                self._answer(reply, lost, None, error)
            else:
                self._answer(reply, lost, value, None)

        task = loop.create_task(serve())
        self._served.add(task)
        task.add_done_callback(self._served.discard)

    def _answer(self, reply: asyncio.Future[T], lost: bool, value: T | None, error: Exception | None) -> None:  # noqa: FBT001 - as above
        if lost or self.dead:
            return
        if self.cut:
            error = Broken("cut off while it waited")

        def settle() -> None:
            if reply.done():
                return
            if error is not None:
                reply.set_exception(error)
                reply.exception()  # a sender that is paused or dead may never look
            else:
                reply.set_result(value)  # type: ignore[arg-type]  # None only where T is

        back = self._chance.random() * self.faults.latency_seconds_max
        asyncio.get_running_loop().call_later(back, settle)
