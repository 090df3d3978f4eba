"""The ready check: what counts as an answer, how long is waited for it, and what is told of a session without one."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from allocator.contract.allocation import Port
from allocator.engine.readiness import ReadyCheck, external_port, tcp_answers, why_not_ready
from allocator.providers.provider import Session
from allocator.service.settings_tables import CatalogEntry

if TYPE_CHECKING:
    from tests.conftest import RunVirtually

HOST = "127.0.0.1"
GAME = Port("game", "udp", 7777, 20001)
HEALTH = Port("8080/tcp", "tcp", 8080, 20002)
CHECK = ReadyCheck("tcp", 8080, 30.0)


def session(*ports: Port) -> Session:
    return Session("s-1", HOST, ports, "europe", "my-game")


def held_port() -> socket.socket:
    """A port of this machine that is ours and that nobody listens on."""
    holder = socket.socket()
    holder.bind((HOST, 0))
    return holder


class Visitors:
    """A game that listens; counts who came and who is still there."""

    def __init__(self) -> None:
        self.came = 0
        self.there = 0
        self.left = asyncio.Event()

    async def listen(self, listener: socket.socket) -> asyncio.Server:
        return await asyncio.start_server(self._visit, sock=listener)

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came += 1
        self.there += 1
        await reader.read()
        writer.close()
        self.there -= 1
        self.left.set()


class Probe:
    """Remembers what it was asked."""

    def __init__(self, *, answers: bool) -> None:
        self.asked: list[tuple[str, int, float]] = []
        self._answers = answers

    async def __call__(self, host: str, port: int, timeout_seconds: float) -> bool:
        self.asked.append((host, port, timeout_seconds))
        return self._answers


async def test_a_game_that_listens_answers_and_is_left_alone_again() -> None:
    visitors = Visitors()
    with held_port() as listener:
        async with await visitors.listen(listener):
            assert await tcp_answers(HOST, listener.getsockname()[1], 5.0)
            async with asyncio.timeout(5):
                await visitors.left.wait()
    assert (visitors.came, visitors.there) == (1, 0)


async def test_a_game_that_begins_to_listen_late_is_waited_for() -> None:
    visitors = Visitors()
    with held_port() as holder:
        looking = asyncio.create_task(tcp_answers(HOST, holder.getsockname()[1], 10.0))
        refused = asyncio.create_task(tcp_answers(HOST, holder.getsockname()[1], 0.05))
        assert not await refused
        assert not looking.done()
        async with await visitors.listen(holder), asyncio.timeout(5):
            assert await looking
            await visitors.left.wait()


@pytest.mark.parametrize("host", [HOST, "", "a" * 70 + ".b", "nul\0"])
async def test_what_never_answers_is_not_ready_and_raises_nothing(host: str) -> None:
    with held_port() as holder:
        async with asyncio.timeout(5):
            assert not await tcp_answers(host, holder.getsockname()[1], 0.1)
            assert not await tcp_answers(HOST, 70_000, 0.1)


def test_tries_are_a_tenth_of_a_second_apart_at_first_and_a_second_at_last(
    run_virtually: RunVirtually, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []

    async def story() -> None:
        loop = asyncio.get_running_loop()

        async def refused(*_: object) -> None:
            tries.append(round(loop.time(), 3))
            raise ConnectionRefusedError

        monkeypatch.setattr(loop, "create_connection", refused)
        assert not await tcp_answers(HOST, 1, 4.0)
        assert loop.time() == pytest.approx(4.0)

    run_virtually(story)
    assert tries == [0.0, 0.1, 0.3, 0.7, 1.5, 2.5, 3.5]


def test_an_address_that_swallows_every_packet_is_tried_anew_and_costs_the_time_given(
    run_virtually: RunVirtually, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []

    async def story() -> None:
        loop = asyncio.get_running_loop()

        async def silence(*_: object) -> None:
            tries.append(round(loop.time(), 3))
            await loop.create_future()

        monkeypatch.setattr(loop, "create_connection", silence)
        assert not await tcp_answers(HOST, 1, 5.0)
        assert loop.time() == pytest.approx(5.0)

    run_virtually(story)
    assert tries == [0.0, 2.1, 4.3]


def test_a_cancelled_look_is_cancelled(
    run_virtually: RunVirtually,
) -> None:
    async def story() -> None:
        with held_port() as holder:
            looking = asyncio.create_task(tcp_answers(HOST, holder.getsockname()[1], 1e6))
            await asyncio.sleep(0)
            looking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await looking

    run_virtually(story)


def test_the_port_asked_is_the_one_outside_of_the_same_protocol() -> None:
    assert external_port(session(GAME, HEALTH), CHECK) == 20002
    assert external_port(session(GAME, Port("x", "udp", 8080, 20003)), CHECK) is None
    assert external_port(session(), CHECK) is None


async def test_a_session_that_answers_is_ready() -> None:
    probe = Probe(answers=True)
    assert await why_not_ready(session(GAME, HEALTH), CHECK, probe) is None
    assert probe.asked == [(HOST, 20002, 30.0)]


async def test_a_session_that_does_not_publish_the_port_is_not_ready_and_nobody_is_asked() -> None:
    probe = Probe(answers=True)
    reason = await why_not_ready(session(GAME), CHECK, probe)
    assert reason == ("the session does not publish 8080/tcp (its ports: 7777/udp); correct ready_check in [catalog]")
    assert await why_not_ready(session(), CHECK, probe) == (
        "the session does not publish 8080/tcp (its ports: none); correct ready_check in [catalog]"
    )
    assert probe.asked == []


@pytest.mark.parametrize(("seconds_max", "waited"), [(None, 30.0), (12.25, 12.25), (500.0, 30.0), (-1.0, 0.0)])
async def test_the_deadline_of_a_match_bounds_the_wait(seconds_max: float | None, waited: float) -> None:
    probe = Probe(answers=False)
    reason = await why_not_ready(session(HEALTH), CHECK, probe, seconds_max=seconds_max)
    assert probe.asked == [(HOST, 20002, waited)]
    assert reason is not None
    assert reason.startswith(f"8080/tcp did not answer within {waited:.3g} s")


def test_the_catalog_says_what_to_check() -> None:
    assert CatalogEntry().ready is None
    assert CatalogEntry(ready_check="tcp:8080").ready == CHECK
    assert CatalogEntry(ready_check="tcp:1", ready_timeout_seconds=300).ready == ReadyCheck("tcp", 1, 300.0)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"ready_check": "udp:7777"}, "let the game open a tcp port"),
        ({"ready_check": "8080"}, "must be like 'tcp:8080'"),
        ({"ready_check": "8080/tcp"}, "must be like 'tcp:8080'"),
        ({"ready_check": "tcp:0"}, "must be like 'tcp:8080'"),
        ({"ready_check": "tcp:65536"}, "must be like 'tcp:8080'"),
        ({"ready_check": "http:8080"}, "must be like 'tcp:8080'"),
        ({"ready_check": "tcp: 80"}, "must be like 'tcp:8080'"),
        ({"ready_timeout_seconds": 0.5}, "greater than or equal to 1"),
        ({"ready_timeout_seconds": 301}, "less than or equal to 300"),
    ],
)
def test_a_check_that_cannot_be_made_is_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        CatalogEntry.model_validate(given)
