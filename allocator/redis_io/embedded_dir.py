"""What the users and the watcher of one embedded server share: the files of its directory.

    users.lock    held shared by every user; who gets it exclusively knows that there is none
    watch.lock    held by the one watcher
    data.lock     held by the server process itself, so that there is never a second one on the same data
    server.json   port and process of the server, once it answers
    server.log    what watcher and server had to say, since the last start

The locks are `flock`: they vanish with their process, however it ends. What is done with them is for `embedded`
(the users' side) and `embedded_watch` (the watcher's).
"""

from __future__ import annotations

import json
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":
    import fcntl

LOG_TAIL_BYTES = 400
ANSWER_TIMEOUT_SECONDS = 1.0


class Lock:
    """One opened lock file; closing it, or the end of the process, lets it go."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    @property
    def fd(self) -> int:
        """The open file, for a child that is to hold the lock as well."""
        return self._fd

    def try_shared(self) -> bool:
        """Hold it together with others, unless somebody holds it alone."""
        return self._try(exclusive=False)

    def try_exclusive(self) -> bool:
        """Hold it alone, unless somebody else holds it."""
        return self._try(exclusive=True)

    def close(self) -> None:
        """Let it go; closing twice is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _try(self, *, exclusive: bool) -> bool:
        if sys.platform == "win32":
            raise NotImplementedError("there is no embedded server on Windows")
        try:
            fcntl.flock(self._fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answered once, under this port and process id."""

    port: int
    process_id: int

    def answers(self) -> bool:
        """Whether the server on this port is that very process, and ready."""
        try:
            reply = ask(self.port, b"INFO server persistence")
        except OSError:
            return False
        return b"process_id:%d\r\n" % self.process_id in reply and b"\nloading:0\r\n" in reply


def ask(port: int, command: bytes) -> bytes:
    """Send one inline command and read what comes until the server has said it all; OSError where it does not."""
    with socket.create_connection(("127.0.0.1", port), ANSWER_TIMEOUT_SECONDS) as wire:
        wire.sendall(command + b"\r\nQUIT\r\n")
        pieces = []
        while piece := wire.recv(65536):
            pieces.append(piece)
        return b"".join(pieces)


@dataclass(frozen=True, slots=True)
class EmbeddedDir:
    """The directory of one embedded server."""

    path: Path

    @property
    def users_lock(self) -> Path:
        """Held shared by every user."""
        return self.path / "users.lock"

    @property
    def watch_lock(self) -> Path:
        """Held by the watcher."""
        return self.path / "watch.lock"

    @property
    def data_lock(self) -> Path:
        """Held by the server process."""
        return self.path / "data.lock"

    def is_watched(self) -> bool:
        """Whether a watcher lives."""
        return self._is_held(self.watch_lock)

    def is_served(self) -> bool:
        """Whether a watcher or a server of this directory lives."""
        return self._is_held(self.watch_lock) or self._is_held(self.data_lock)

    def running(self) -> Running | None:
        """The server as its watcher announced it, or None; it may have ended since."""
        try:
            facts = json.loads(self._record.read_bytes())
            return Running(int(facts["port"]), int(facts["process_id"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def announce(self, running: Running) -> None:
        """Let the users find this server; a reader sees the old record or the new, never half of one."""
        fresh = self._record.with_suffix(".new")
        fresh.write_text(json.dumps({"port": running.port, "process_id": running.process_id}), encoding="utf-8")
        fresh.replace(self._record)

    def withdraw(self) -> None:
        """Let nobody find a server here until the next is announced."""
        self._record.unlink(missing_ok=True)

    def open_log(self) -> BinaryIO:
        """The log, begun anew unless a watcher is writing to it."""
        fresh = 0 if self.is_watched() else os.O_TRUNC
        return os.fdopen(os.open(self.path / "server.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | fresh, 0o600), "ab")

    def last_words(self) -> str:
        """The end of the log, for an error message."""
        try:
            text = (self.path / "server.log").read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
        except OSError:
            text = ""
        return " | ".join(text.split("\n")[-4:]).strip(" |") or "its log is empty"

    @property
    def _record(self) -> Path:
        return self.path / "server.json"

    @staticmethod
    def _is_held(path: Path) -> bool:
        lock = Lock(path)
        try:
            return not lock.try_exclusive()
        finally:
            lock.close()
