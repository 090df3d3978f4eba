"""A faulty wire to the provider: what is lost on it is looked up, never taken for a failure, never called twice."""

from __future__ import annotations

from tests.wires.proxy import Kind, Trouble
from tests.wires.wired import Wired

START = (b"POST /session",)
FIND = (b"GET /session",)
BROKEN = (Kind.LOST_REPLY, Kind.CUT_REPLY, Kind.CUT_REQUEST)


async def test_a_start_whose_answer_is_lost_leaves_one_server(wired: Wired) -> None:
    for kind in (*BROKEN, Kind.HELD):
        wired.gameye.troubles = [Trouble(kind, START, times=6)]
        await wired.fleet.submit(20)
        await wired.all_well()
        assert wired.gameye.struck[kind] == 6


async def test_while_a_look_up_is_not_answered_no_second_server_is_started(wired: Wired) -> None:
    for kind in BROKEN:
        wired.gameye.troubles = [Trouble(Kind.LOST_REPLY, START, times=4), Trouble(kind, FIND, times=10)]
        await wired.fleet.submit(10)
        await wired.all_well()
    assert len((await wired.fleet.account(wired.simulator)).started) == len(wired.fleet.asked)


async def test_a_slow_wire_to_the_provider_only_takes_longer(wired: Wired) -> None:
    for kind in (Kind.DRIP, Kind.DELAY):
        wired.gameye.troubles = [Trouble(kind, probability=0.5, delay_seconds=0.3)]
        await wired.fleet.submit(20)
        await wired.all_well()
        assert wired.gameye.struck[kind] > 0
    assert len((await wired.fleet.account(wired.simulator)).started) == len(wired.fleet.asked)


async def test_with_both_wires_faulty_each_match_is_served_once(wired: Wired) -> None:
    await wired.fleet.worker()
    wired.redis.troubles = [Trouble(kind, probability=0.02) for kind in BROKEN]
    wired.gameye.troubles = [Trouble(kind, probability=0.06) for kind in BROKEN]
    for _ in range(6):
        await wired.fleet.submit(15)
        await wired.fleet.finished(60)
    wired.redis.troubles = wired.gameye.troubles = []
    await wired.all_well()
