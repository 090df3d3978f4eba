"""The twin under virtual time: hours pass in an instant, and what was sent lands though nobody waits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from allocator.contract.allocation import Port
from allocator.providers.memory import LateCreate, LostReply, MemoryProvider, NoAnswer, StartCall, Step
from allocator.providers.memory_host import MemoryLocation
from allocator.providers.ports import merged, named
from allocator.providers.provider import (
    Absent,
    Created,
    Found,
    Gone,
    LookupFailed,
    Session,
    SessionState,
    StartOutcome,
    StartSpec,
    Stopped,
    Unknown,
    Unreachable,
)

if TYPE_CHECKING:
    from tests.conftest import RunVirtually

SPEC = StartSpec(image="my-game", labels={"allocator": "ours"}, ttl="2h")
OPEN = {"europe": MemoryLocation()}


async def start(twin: MemoryProvider, session_id: str = "s-1") -> StartOutcome:
    return await twin.start(session_id, "europe", SPEC, timeout_seconds=8)


def test_time_is_the_loops_and_a_ttl_ends_its_session(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        twin = MemoryProvider(OPEN, latency_seconds=lambda: 0.5)
        loop = asyncio.get_running_loop()
        assert isinstance(await start(twin), Created)
        assert loop.time() == pytest.approx(0.5)
        await asyncio.sleep(7190)
        assert len(twin.alive()) == 1
        await asyncio.sleep(20)
        entry = twin.ledger["s-1"]
        assert entry.ended_by == "ttl"
        assert entry.ended_at_seconds == pytest.approx(7200.25)
        assert twin.alive() == ()
        assert await twin.stop("s-1", timeout_seconds=8) == Gone()

    run_virtually(story)


def test_a_reply_slower_than_the_timeout_is_unknown_and_its_session_lands(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        latencies = iter([20.0, 0.0, 0.0])
        twin = MemoryProvider(OPEN, latency_seconds=lambda: next(latencies))
        assert isinstance(await start(twin), Unknown)
        assert asyncio.get_running_loop().time() == pytest.approx(8)
        assert await twin.find("s-1", timeout_seconds=8) == Absent()
        await asyncio.sleep(3)
        assert isinstance(await twin.find("s-1", timeout_seconds=8), Found)

    run_virtually(story)


def test_a_late_session_lands_after_its_delay(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        twin = MemoryProvider(OPEN, script=lambda _call: LateCreate(600.0))
        assert await start(twin) == Unknown(504, "gateway time-out")
        await asyncio.sleep(599)
        assert twin.alive() == ()
        await asyncio.sleep(2)
        assert [session.id for session in twin.alive()] == ["s-1"]

    run_virtually(story)


def test_the_script_sees_every_start_and_the_ledger_keeps_the_calls(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        steps: list[Step | None] = [Unreachable("no route"), NoAnswer(), LostReply(), None]

        def script(call: StartCall) -> Step | None:
            return steps[call.number]

        twin = MemoryProvider(OPEN, script=script)
        outcomes = [await start(twin, f"s-{number}") for number in range(4)]
        kinds = [type(outcome) for outcome in outcomes]
        assert kinds == [Unreachable, Unknown, Unknown, Created]
        assert list(twin.ledger) == ["s-2", "s-3"]
        assert [(call.session_id, call.at_seconds) for call in twin.starts] == [
            ("s-0", 0.0),
            ("s-1", 0.0),
            ("s-2", 8.0),
            ("s-3", 16.0),
        ]
        assert await twin.stop("s-2", timeout_seconds=8) == Stopped()
        assert await twin.stop("s-2", timeout_seconds=8) == Gone()
        assert [stop.ended for stop in twin.stops] == [True, False]

    run_virtually(story)


def test_a_session_of_another_deployment_is_there_and_not_in_our_list(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        twin = MemoryProvider({"europe": MemoryLocation(capacity=1)})
        twin.put(Session("theirs", "127.0.0.1", (), "europe", "my-game", SessionState.ALIVE, "theirs"))
        assert not isinstance(await start(twin), Created)
        assert await twin.list("ours", timeout_seconds=8) == ()
        with pytest.raises(ValueError, match="another id"):
            twin.put(Session("theirs", "127.0.0.1", (), "europe", "my-game"))

    run_virtually(story)


def test_a_look_up_slower_than_the_timeout_has_failed(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        twin = MemoryProvider(OPEN, latency_seconds=lambda: 10.0)
        assert isinstance(await twin.find("s-1", timeout_seconds=8), LookupFailed)
        assert isinstance(await twin.list("ours", timeout_seconds=8), LookupFailed)

    run_virtually(story)


def test_ports_are_merged_ordered_and_named() -> None:
    udp, tcp = Port("7777/udp", "udp", 7777, 1), Port("80/tcp", "tcp", 80, 2)
    assert merged([udp, tcp, udp, Port("80/tcp", "tcp", 80, 3)]) == (tcp, udp)
    assert merged([]) == ()
    assert named((tcp, udp), {"7777/udp": "game", "1/udp": "x"}) == (tcp, Port("game", "udp", 7777, 1))
