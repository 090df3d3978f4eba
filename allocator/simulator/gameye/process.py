"""The simulator as a process of its own: `allocator simulate gameye`.

In: an address, options, a script. Out: one line that says where it serves, then the API until SIGTERM or SIGINT. It
promises to end cleanly on either, and to say each change of its script.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from pathlib import Path

from allocator.simulator.gameye.script import Options, load, watch
from allocator.simulator.gameye.server import GameyeSimulator


def run(
    *,
    host: str,
    port: int,
    options: Options,
    script: Path | None,
    ready: Callable[[str], None],
    say: Callable[[str], None],
) -> None:
    """Serve until told to end; `ready` hears the base URL, `say` what becomes of the script."""
    settings = load(script, options)

    async def serve() -> None:
        ended = _ended_by_signal()
        async with GameyeSimulator(settings, host=host, port=port) as simulator:
            ready(simulator.base_url)
            watching = None
            if script is not None:
                watching = asyncio.create_task(watch(script, options, apply=simulator.apply, say=say))
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
