"""An event loop whose time passes in an instant, and that runs several simulated processes at once.

In: a seeded chance. Out: `time()` that jumps to the next timer whenever nothing is ready. What is promised: one seed,
one course of events; within one process callbacks run in the order asyncio gives them, between processes in any order
that the seed picks. A process can be paused (nothing of it runs, time goes on), and killed after any number of its
steps, which is at any await. Which process a callback belongs to is its context's to say.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

WORLD = "world"
_process: contextvars.ContextVar[str] = contextvars.ContextVar("process", default=WORLD)


def current_process() -> str:
    """The simulated process that runs now."""
    return _process.get()


def context_of(process: str) -> contextvars.Context:
    """A context whose tasks and timers belong to this process."""
    context = contextvars.Context()
    context.run(_process.set, process)
    return context


class VirtualLoop(asyncio.SelectorEventLoop):
    """A selector loop that never selects: no threads, no sockets, no signals."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance
        self._now = 0.0
        self._queues: dict[str, deque[asyncio.Handle]] = {}
        self._paused: set[str] = set()
        self._buried: list[asyncio.Handle] = []
        self._dead: set[str] = set()
        self._tasks: dict[str, list[asyncio.Task[Any]]] = {}
        self._countdowns: dict[str, tuple[int, Callable[[], None]]] = {}
        self.steps = 0
        self.after_step: Callable[[str], None] = lambda _process: None
        self.set_task_factory(self._make_task)  # type: ignore[arg-type]  # options differ from 3.11 to 3.14

    def time(self) -> float:
        """Seconds since the world began."""
        return self._now

    def pause(self, process: str) -> None:
        """Run nothing of it until it is resumed."""
        self._paused.add(process)

    def resume(self, process: str) -> None:
        """Let it go on, as late as it is."""
        self._paused.discard(process)

    def kill(self, process: str) -> None:
        """Run nothing of it ever again; what it holds in memory is kept until `bury`, so that no cleanup runs."""
        self._dead.add(process)
        self._countdowns.pop(process, None)
        self._buried += self._queues.pop(process, ())

    def after_steps(self, process: str, steps: int, act: Callable[[], None]) -> None:
        """Call `act` once this process has run so many more callbacks."""
        self._countdowns[process] = (steps, act)

    def bury(self, processes: list[str]) -> None:
        """End everything that is left of them: each task is cancelled, until it is done."""
        self._dead.difference_update(processes)
        self._paused.difference_update(processes)
        for _ in range(100):
            left = [task for each in processes for task in self._tasks.get(each, ()) if not task.done()]
            if not left:
                return
            for task in left:
                task.cancel()
            self._ready.extend(self._buried)
            self._buried.clear()
            self.run_until_complete(asyncio.wait(left, timeout=1.0))
        raise AssertionError(f"tasks that cannot be ended: {left}")

    def _make_task(
        self, _loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=self, **options)
        context = options.get("context")
        process = _process.get() if context is None else context.get(_process, WORLD)
        tasks = self._tasks.setdefault(process, [])
        tasks.append(task)
        if len(tasks) > 256:
            self._tasks[process] = [each for each in tasks if not each.done()]
        return task

    def _run_once(self) -> None:
        """Run one callback; called by `run_forever` again and again."""
        self._sort_ready()
        while not (runnable := [name for name, queue in self._queues.items() if queue and name not in self._paused]):
            self._jump()
            self._sort_ready()
        process = runnable[0] if len(runnable) == 1 else self._chance.choice(runnable)
        handle = self._queues[process].popleft()
        if handle.cancelled():
            return
        self.steps += 1
        handle._run()
        self.after_step(process)
        if process in self._countdowns:
            left, act = self._countdowns[process]
            if left > 1:
                self._countdowns[process] = (left - 1, act)
            else:
                del self._countdowns[process]
                act()

    def _sort_ready(self) -> None:
        while self._scheduled and (self._scheduled[0].when() <= self._now or self._scheduled[0].cancelled()):
            timer = heapq.heappop(self._scheduled)
            timer._scheduled = False  # type: ignore[attr-defined]  # as the base class does
            self._enqueue(timer)
        while self._ready:
            self._enqueue(self._ready.popleft())

    def _enqueue(self, handle: asyncio.Handle) -> None:
        if handle.cancelled():
            return
        process = handle._context.get(_process, WORLD)  # type: ignore[attr-defined]  # there in 3.11 to 3.14
        if process in self._dead:
            self._buried.append(handle)
            return
        queue = self._queues.get(process)
        if queue is None:
            queue = self._queues[process] = deque()
        queue.append(handle)

    def _jump(self) -> None:
        if not self._scheduled:
            raise RuntimeError("nothing will ever happen again: every process waits without a timer")
        self._now = max(self._now, self._scheduled[0].when())

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is passed over when its time comes."""
