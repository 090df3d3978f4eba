"""Whatever the network does, the outcome is a value, and a start is sent once."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp.http_exceptions import HttpProcessingError

from allocator.providers import connections, exchange
from allocator.providers.credential import FixedToken
from allocator.providers.gameye.client import GameyeProvider
from allocator.providers.provider import (
    Absent,
    Created,
    LookupFailed,
    Provider,
    StartOutcome,
    StartSpec,
    StopFailed,
    Unknown,
    Unreachable,
)

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from tests.providers.conftest import Fault, RawHost

    Reply = Callable[..., bytes]

TOKEN = "token-of-the-account"
SPEC = StartSpec(image="my-game")
STARTED = {"id": "s-1", "host": "10.0.0.1", "ports": [{"type": "udp", "container": 7777, "host": 20113}]}


async def start(provider: Provider, timeout_seconds: float = 5.0) -> StartOutcome:
    return await provider.start("s-1", "europe", SPEC, timeout_seconds=timeout_seconds)


@pytest.mark.parametrize(
    "body",
    [
        "no json",
        "[]",
        "{}",
        '{"host": "", "ports": []}',
        '{"host": "h"}',
        '{"host": "h", "ports": [{"type": "udp", "container": 7777}]}',
        '{"host": "h", "ports": [{"type": "udp", "container": 7777, "host": 70000}]}',
    ],
)
async def test_a_201_that_cannot_be_read_is_unknown(
    gameye: GameyeProvider, host: RawHost, reply: Reply, body: str
) -> None:
    host.answer(reply(201, body))
    outcome = await start(gameye)
    assert isinstance(outcome, Unknown)
    assert outcome.status == 201


async def test_a_reply_over_its_limit_is_unknown(gameye: GameyeProvider, host: RawHost, reply: Reply) -> None:
    whole = reply(201, {**STARTED, "more": "x" * 2_000_000})
    endless = b"HTTP/1.1 201 Created\r\nContent-Length: 9000000000\r\n\r\n" + b"x" * 2_000_000
    host.answer(whole, endless)
    for _ in range(2):
        outcome = await start(gameye)
        assert isinstance(outcome, Unknown)
        assert "over 1048576 bytes" in outcome.message


async def test_a_reply_cut_off_in_its_body_is_unknown(gameye: GameyeProvider, host: RawHost) -> None:
    host.answer(b'HTTP/1.1 201 Created\r\nContent-Length: 500\r\n\r\n{"id":')
    host.close_after_answer = True
    outcome = await start(gameye)
    assert isinstance(outcome, Unknown)
    assert (outcome.status, "within the reply" in outcome.message) == (201, True)


@pytest.mark.parametrize(
    "wire",
    [
        b"SSH-2.0-server\r\n",
        b"\x16\x03\x01\x00\x05",
        b"\r\n\r\n\r\n",
        b"HTTP/1.1 abc Created\r\n\r\n",
        b"HTTP/1.1 20 Created\r\n\r\n",
        b"HTTP/9.9 201 Created\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\nxxxx",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nxx",
        b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nxx",
        b"HTTP/1.1 201 Created\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 201 Created\r\nContent-Encoding: br\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 201 Created\r\nContent-Encoding: deflate\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 201 Created\r\nSet-Cookie: \xff=;;;=\x01\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 201 Created\r\nContent-Type: ;;=\xff\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 201 Created\r\nLong: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nno colon\r\n\r\n",
        b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\n\xff\xfe\x00",
    ],
)
async def test_whatever_comes_over_the_wire_the_outcome_is_a_value(
    gameye: GameyeProvider, host: RawHost, wire: bytes
) -> None:
    host.answer(wire)
    host.close_after_answer = True
    assert isinstance(await start(gameye), Unknown)
    assert len(host.calls) == 1


async def test_a_connection_closed_after_the_start_was_read_never_sends_it_twice(
    gameye: GameyeProvider, host: RawHost, reply: Reply, hang_up: Fault
) -> None:
    host.answer(reply(201, STARTED), hang_up)
    assert isinstance(await start(gameye), Created)
    outcome = await start(gameye)  # on the kept connection, where a client library would be tempted to repeat
    assert isinstance(outcome, Unknown)
    assert len(host.calls) == 2
    assert host.connections == 1


async def test_a_refused_connection_is_unreachable_and_says_what_to_check(unused_tcp_port: int) -> None:
    provider = GameyeProvider(f"http://127.0.0.1:{unused_tcp_port}", "studio", FixedToken(TOKEN))
    outcome = await start(provider)
    assert isinstance(outcome, Unreachable)
    assert "gameye.base_url" in outcome.message
    found = await provider.find("s-1", timeout_seconds=5)
    assert isinstance(found, LookupFailed)
    assert isinstance(await provider.stop("s-1", timeout_seconds=5), StopFailed)
    await provider.close()


async def test_no_reply_by_the_deadline_is_unknown_and_leaves_the_caller_uncancelled(
    gameye: GameyeProvider, host: RawHost, hang: Fault
) -> None:
    host.answer(hang)
    assert isinstance(await start(gameye, timeout_seconds=0.02), Unknown)
    assert isinstance(await gameye.find("s-1", timeout_seconds=0.02), LookupFailed)
    assert isinstance(await gameye.stop("s-1", timeout_seconds=0.02), StopFailed)
    caller = asyncio.current_task()
    assert caller is not None
    assert caller.cancelling() == 0


async def test_a_cancellation_from_outside_passes_through(gameye: GameyeProvider, host: RawHost, hang: Fault) -> None:
    host.answer(hang)
    starting = asyncio.create_task(start(gameye))
    await asyncio.wait_for(host.received.wait(), 5)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting


@pytest.mark.parametrize("is_deadline_first", [True, False])
async def test_a_cancellation_at_the_moment_of_the_deadline_passes_through(
    gameye: GameyeProvider, host: RawHost, hang: Fault, monkeypatch: pytest.MonkeyPatch, *, is_deadline_first: bool
) -> None:
    deadlines = []

    class Seen(exchange._Deadline):
        def __init__(self, caller: asyncio.Task[object], due_at: float) -> None:
            super().__init__(caller, due_at)
            deadlines.append(self)

    monkeypatch.setattr(exchange, "_Deadline", Seen)
    host.answer(hang)
    starting = asyncio.create_task(start(gameye, timeout_seconds=30))
    await asyncio.wait_for(host.received.wait(), 5)
    (deadline,) = deadlines
    if is_deadline_first:
        deadline.expire()
    starting.cancel()
    if not is_deadline_first:
        deadline.expire()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert starting.cancelling() == 1


async def test_a_timeout_of_the_caller_is_not_taken_for_the_deadline(
    gameye: GameyeProvider, host: RawHost, hang: Fault
) -> None:
    host.answer(hang)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await start(gameye)


_KEY: Any = SimpleNamespace(host="host", port=443, ssl=True, is_ssl=True)


class FailingConnector:
    """Stands for aiohttp's where it fails in ways that a loopback address cannot: as it connects, or afterwards."""

    def __init__(self, error: Exception, *, connects: bool) -> None:
        self._error = error
        self._connects = connects
        self.protocol = self.transport = self
        self.closed = 0

    async def connect(self, *_args: object) -> FailingConnector:
        if self._connects:
            return self
        raise self._error

    def set_response_params(self, **_options: object) -> None:
        """As a protocol's."""

    def write(self, request: bytes) -> None:
        """As a transport's."""

    async def read(self) -> None:
        raise self._error

    def close(self) -> None:
        self.closed += 1


class SwallowingConnector(FailingConnector):
    async def read(self) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        raise self._error


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError("slow"),
        aiohttp.ConnectionTimeoutError("slow"),
        aiohttp.ClientConnectorDNSError(_KEY, OSError(-2, "no such name")),
        aiohttp.ClientConnectorSSLError(_KEY, OSError(1, "wrong version")),
        aiohttp.ClientConnectorCertificateError(_KEY, ssl.CertificateError("expired")),
        aiohttp.ClientConnectionError("Connector is closed."),
    ],
)
async def test_a_connection_that_was_never_made_is_unreachable(error: Exception) -> None:
    connector: Any = FailingConnector(error, connects=False)
    provider = GameyeProvider("https://host", "studio", FixedToken(TOKEN), connector=connector)
    assert isinstance(await start(provider), Unreachable)


@pytest.mark.parametrize(
    "error",
    [
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientConnectionResetError("Cannot write to closing transport"),
        aiohttp.ClientOSError(104, "reset"),
        aiohttp.SocketTimeoutError("read"),
        ConnectionResetError(104, "reset"),
        TimeoutError(),
        HttpProcessingError(message="no status"),
    ],
)
async def test_what_fails_once_a_connection_was_made_is_unknown(error: Exception) -> None:
    connector: Any = FailingConnector(error, connects=True)
    provider = GameyeProvider("https://host", "studio", FixedToken(TOKEN), connector=connector)
    assert isinstance(await start(provider), Unknown)
    assert connector.closed == 1, "the connection is of no more use"
    await provider.close()
    assert connector.closed == 1, "a connector that was handed in is its owner's to close"


async def test_a_deadline_that_came_out_as_another_error_leaves_the_caller_uncancelled() -> None:
    connector: Any = SwallowingConnector(aiohttp.ServerDisconnectedError(), connects=True)
    provider = GameyeProvider("https://host", "studio", FixedToken(TOKEN), connector=connector)
    assert isinstance(await start(provider, timeout_seconds=0.01), Unknown)
    caller = asyncio.current_task()
    assert caller is not None
    assert caller.cancelling() == 0


async def test_a_look_up_on_a_connection_that_had_died_is_sent_once_more(
    gameye: GameyeProvider, host: RawHost, reply: Reply, hang_up: Fault
) -> None:
    host.answer(reply(201, STARTED), hang_up, reply(404, {"message": "no such session"}))
    assert isinstance(await start(gameye), Created)
    assert isinstance(await gameye.find("s-1", timeout_seconds=5), Absent)
    assert (len(host.calls), host.connections) == (3, 2)


@pytest.mark.parametrize("comes_later", [False, True])
async def test_a_second_reply_to_one_call_is_no_answer_to_the_next(
    gameye: GameyeProvider, host: RawHost, reply: Reply, wait_until: WaitUntil, *, comes_later: bool
) -> None:
    ours, another = reply(201, STARTED), reply(201, {**STARTED, "id": "s-another"})
    host.answer(ours if comes_later else ours + another, ours)
    assert isinstance(await start(gameye), Created)
    if comes_later:
        ((connection, _),) = next(iter(gameye._exchange._connections._idle.values()))
        host.say(another)
        await wait_until(lambda: connection.protocol is None or connection.protocol.should_close)
    outcome = await start(gameye)
    assert isinstance(outcome, Created)
    assert outcome.session.id == "s-1"
    assert host.connections == 2


async def test_a_connection_that_was_idle_for_long_is_closed_and_not_used_again(
    gameye: GameyeProvider, host: RawHost, reply: Reply, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.answer(reply(201, STARTED))
    await asyncio.gather(*(start(gameye) for _ in range(3)))
    assert host.connections == 3
    await start(gameye)
    assert host.connections == 3, "the last one is used again"
    monkeypatch.setattr(connections, "KEEPALIVE_SECONDS", 0.0)
    await start(gameye)
    assert host.connections == 4
    kept = [each for idle in gameye._exchange._connections._idle.values() for each, _ in idle]
    assert [each.closed for each in kept] == [False]


async def test_a_connection_that_the_host_will_close_is_closed_and_not_kept(
    gameye: GameyeProvider, host: RawHost, reply: Reply
) -> None:
    host.answer(reply(201, STARTED, {"Connection": "close"}), reply(201, STARTED))
    assert isinstance(await start(gameye), Created)
    assert not any(gameye._exchange._connections._idle.values())
    assert isinstance(await start(gameye), Created)
    assert (len(host.calls), host.connections) == (2, 2)


async def test_a_connection_is_used_again_once_its_reply_came_whole_and_never_before(
    gameye: GameyeProvider, host: RawHost, reply: Reply
) -> None:
    host.answer(reply(201, STARTED), reply(201, {**STARTED, "more": "x" * 2_000_000}), reply(201, STARTED))
    assert isinstance(await start(gameye), Created)
    assert isinstance(await start(gameye), Unknown)
    assert host.connections == 1
    assert isinstance(await start(gameye), Created)
    assert host.connections == 2


@pytest.mark.parametrize(
    ("name", "trusts", "kind"),
    [("localhost", True, Created), ("127.0.0.1", True, Unreachable), ("localhost", False, Unreachable)],
)
async def test_calls_go_over_tls_and_only_to_a_host_that_proves_its_name(
    tls_host: RawHost, reply: Reply, tmp_path: Path, name: str, kind: type, *, trusts: bool
) -> None:
    tls_host.answer(reply(201, STARTED))
    ours = ssl.create_default_context(cafile=str(tmp_path / "cert.pem") if trusts else None)
    connector = aiohttp.TCPConnector(ssl=ours)
    base_url = tls_host.base_url.replace("http://127.0.0.1", f"https://{name}")
    provider = GameyeProvider(base_url, "studio", FixedToken(TOKEN), connector=connector)
    assert isinstance(await start(provider), kind)
    await provider.close()
    await connector.close()
