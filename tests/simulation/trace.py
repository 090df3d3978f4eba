"""What happened, line by line, for who replays a seed; and what went wrong.

In: events of any kind. Out: lines with the virtual second and the process. Nothing here depends on the order of a set
or on an address in memory, so that two runs of one seed give the same lines.
"""

from __future__ import annotations

import asyncio

from tests.simulation.virtual_loop import current_process


class Trace:
    """The lines of one world and its violations."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.violations: list[str] = []
        self.muted: set[str] = set()
        """Processes that are dead: what is ended of them says nothing."""

    def say(self, what: str) -> None:
        """Write one line."""
        process = current_process()
        if process not in self.muted:
            self.lines.append(f"{_now():9.3f} {process:<8} {what}")

    def violated(self, promise: str) -> None:
        """Write down a broken promise."""
        line = f"{_now():9.3f} VIOLATED {promise}"
        self.lines.append(line)
        self.violations.append(line)


def _now() -> float:
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return float("nan")
