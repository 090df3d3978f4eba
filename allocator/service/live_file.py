"""Whether a file has changed: by its identity and time, also where a symbolic link on the way was turned elsewhere.

In: a path. Out: yes or no, at most one look at the file a second. Promises: a file that is being written is not said to
have changed before it has stood still for a look, so that half of it is not read; a file that goes away has changed.
Reading it is left to others.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

LOOK_SECONDS = 1.0

_Signature = tuple[int, int, int, int, int]


class WatchedFile:
    """One file, or none; `monotonic` is the clock that spaces the looks."""

    def __init__(self, path: Path | None, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._monotonic = monotonic
        self._looked_at = monotonic()
        self._known = self._last = self._signature()

    def changed(self) -> bool:
        """Whether it is another than it was; said once for each change."""
        now = self._monotonic()
        if self._path is None or now - self._looked_at < LOOK_SECONDS:
            return False
        self._looked_at = now
        before, self._last = self._last, self._signature()
        if self._last == self._known or self._last != before:
            return False
        self._known = self._last
        return True

    def seen(self) -> None:
        """Take it as it is now for known: it is about to be read."""
        self._known = self._last = self._signature()

    def _signature(self) -> _Signature | None:
        """What tells one state of the file from another, followed through every link; None: it is not there."""
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev
