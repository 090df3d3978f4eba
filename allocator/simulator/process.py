"""A simulator as a process of its own: `allocator simulate`.

In: how a simulator is made of its settings, how these are loaded, its script. Out: one call that says where it serves,
then the API until SIGTERM or SIGINT. It promises to end cleanly on either, and to say each change of its script.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

from allocator.simulator.script import watch
from allocator.simulator.tables import Frozen

_S = TypeVar("_S", bound=Frozen)
_Taken_contra = TypeVar("_Taken_contra", bound=Frozen, contravariant=True)


class Simulator(Protocol[_Taken_contra]):
    """What serves while it is entered, and takes other settings meanwhile."""

    @property
    def base_url(self) -> str:
        """Where it serves."""

    def apply(self, settings: _Taken_contra) -> None:
        """Go by other settings from now on."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def run(
    make: Callable[[_S], Simulator[_S]],
    load: Callable[[], _S],
    *,
    script: Path | None,
    ready: Callable[[str], None],
    say: Callable[[str], None],
) -> None:
    """Serve until told to end; `ready` hears the base URL, `say` what becomes of the script."""
    settings = load()

    async def serve() -> None:
        ended = _ended_by_signal()
        async with make(settings) as simulator:
            ready(simulator.base_url)
            watching = None
            if script is not None:
                watching = asyncio.create_task(watch(script, load, apply=simulator.apply, say=say))
            await ended.wait()
            if watching is not None:
                watching.cancel()
                await asyncio.wait([watching])

    with asyncio.Runner(loop_factory=_loop_factory()) as runner, contextlib.suppress(KeyboardInterrupt):
        runner.run(serve())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - there is no wheel of it for every platform
    except ImportError:
        return None
    return uvloop.new_event_loop


def _ended_by_signal() -> asyncio.Event:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Where the loop takes no signals (Windows), Ctrl-C arrives as KeyboardInterrupt instead.
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
    return ended
