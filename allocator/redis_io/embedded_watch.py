"""The process that owns an embedded server: `python -m allocator.redis_io.embedded_watch DIR BINARY PORT`.

In: the directory, the server's binary, a port (0: any). Out: a running server, announced in the directory, for as long
as anybody holds the users' lock. Promises: one watcher and one server for a directory; a server that falls is started
again on its port; after the last user, and on SIGTERM, the server is asked to end and has ten seconds to write what
it has; what it has written reaches the disk before much gathers. Should the watcher itself be killed, the server ends
with it (Linux) or the next watcher ends it (elsewhere).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from allocator.redis_io.embedded_dir import EmbeddedDir, Lock, Running

STOP_TIMEOUT_SECONDS = 10.0
START_TIMEOUT_SECONDS = 20.0
RESTART_PAUSE_SECONDS = 0.5
PORTS_TRIED_MAX = 5
WRITTEN_BYTES_MAX = 1 << 18
"""So much may wait in the server's file for the disk. Of what gathers in a second (the server's own pace) the writing
keeps a core for milliseconds on end: of 6,500 matches a second one in a hundred waited for it."""
_POLL_SECONDS = 0.05
_PR_SET_PDEATHSIG = 1
_sync = getattr(os, "fdatasync", os.fsync)  # macOS has the latter alone


class Watcher:
    """One server and its reason to run."""

    def __init__(self, home: EmbeddedDir, binary: Path, port: int) -> None:
        self._home = home
        self._binary = binary
        self._port = port
        self._data = Lock(home.data_lock)
        self._users = Lock(home.users_lock)
        self._is_told_to_stop = False
        self._on_disk: dict[str, int] = {}
        """By its file, how much of what the server has written was brought to the disk."""
        self._last = home.running()
        home.withdraw()

    def tell_to_stop(self, *_signal: object) -> None:
        """End the server at the next look, whoever uses it."""
        self._is_told_to_stop = True

    def run(self) -> int:
        """Serve until there are no users; the exit code says whether the server could be run."""
        if not self._clear_of_orphan():
            _say("another server holds the data of this directory; end it and try again")
            return 1
        child = self._start_on_some_port()
        while child is not None:
            self._home.announce(Running(self._port, child.pid))
            while child.poll() is None:
                if self._is_told_to_stop or self._users.try_exclusive():
                    _stop(child)
                    return 0
                self.write_through()
                time.sleep(_POLL_SECONDS)
            _say(f"the server ended by itself with {child.returncode}; starting it again")
            time.sleep(RESTART_PAUSE_SECONDS)
            child = self._start(self._port)
        return 1

    def write_through(self) -> None:
        """Bring what the server has written to the disk, where much has gathered."""
        found: dict[str, int] = {}
        for path in self._home.path.glob("appendonlydir/*.incr.aof"):
            with contextlib.suppress(OSError), path.open("rb") as file:  # a file of before goes at any moment
                size = os.fstat(file.fileno()).st_size
                before = self._on_disk.get(path.name, 0)
                if size - before > WRITTEN_BYTES_MAX:
                    _sync(file.fileno())
                    before = size
                found[path.name] = before
        self._on_disk = found

    def _clear_of_orphan(self) -> bool:
        """Take the data for ourselves; a server whose watcher was killed is told to end first."""
        if self._data.try_exclusive():
            return True
        if self._last is not None and self._last.answers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._last.process_id, signal.SIGTERM)
        return _take(self._data, STOP_TIMEOUT_SECONDS)

    def _start_on_some_port(self) -> subprocess.Popen[bytes] | None:
        """The server on the port asked for; or on that of the last time, or on any that is free."""
        if self._port:
            return self._start(self._port)
        candidates = [self._last.port] if self._last is not None and _is_free(self._last.port) else []
        while len(candidates) < PORTS_TRIED_MAX:
            candidates.append(_free_port())
        for port in candidates:
            child = self._start(port)
            if child is not None:
                self._port = port
                return child
        return None

    def _start(self, port: int) -> subprocess.Popen[bytes] | None:
        """A server that answers on this port, or None."""
        child = subprocess.Popen(  # noqa: S603 - the package's own binary, and no shell
            [str(self._binary), *_options(port)],
            cwd=self._home.path,
            stdin=subprocess.DEVNULL,
            pass_fds=(self._data.fd,),  # so that the data stays locked as long as the server lives
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - no threads here
        )
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while child.poll() is None and time.monotonic() < deadline:
            if Running(port, child.pid).answers():
                return child
            time.sleep(_POLL_SECONDS)
        _stop(child)
        return None


def main(arguments: list[str]) -> int:
    """Watch over one directory; a second watcher of the same one leaves at once with 0."""
    directory, binary, port = arguments
    home = EmbeddedDir(Path(directory))
    os.umask(0o077)
    watch = Lock(home.watch_lock)
    if not _take(watch, 0.3):  # a user who only looks holds it for a moment
        return 0
    watcher = Watcher(home, Path(binary), int(port))
    signal.signal(signal.SIGTERM, watcher.tell_to_stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return watcher.run()


def _say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")  # the directory's log
    sys.stdout.flush()


def _options(port: int) -> list[str]:
    """The directory is the current one, so that no path has to be quoted."""
    return [
        *("--bind", "127.0.0.1", "--port", str(port), "--protected-mode", "yes", "--daemonize", "no"),
        *("--dir", ".", "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        *("--maxmemory-policy", "noeviction"),
        # Rewriting the file takes a core for a second, and machines that embed a server may have two.
        *("--auto-aof-rewrite-min-size", "256mb"),
    ]


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _take(lock: Lock, timeout_seconds: float) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while not lock.try_exclusive():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
