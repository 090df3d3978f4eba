"""A faulty wire to Redis: whatever is lost on it, each match is recorded once, and calls resume once it is good."""

from __future__ import annotations

import time

import pytest

from allocator.redis_io.scripts import Script
from tests.conftest import WaitUntil
from tests.wires.proxy import Kind, Trouble
from tests.wires.wired import Wired

SOCKET_TIMEOUT_SECONDS = 5.0
READ = b"XREADGROUP"
BROKEN = (Kind.LOST_REPLY, Kind.CUT_REPLY, Kind.CUT_REQUEST)


def script(name: str, room: str = "broker") -> bytes:
    """What marks a request that runs this script."""
    return Script.load(f"allocator.{room}.scripts", name).sha.encode()


async def test_a_commit_whose_answer_is_lost_is_recorded_and_announced_once(wired: Wired) -> None:
    for kind in BROKEN:
        wired.redis.troubles = [Trouble(kind, (script("commit"),), times=3)]
        await wired.fleet.submit(20)
        await wired.all_well()
        assert wired.redis.struck[kind] == 3


async def test_entries_of_a_read_whose_answer_was_lost_come_back(wired: Wired) -> None:
    for kind in (Kind.LOST_REPLY, Kind.CUT_REPLY):
        for mark in (script("take"), READ):
            wired.redis.struck.clear()
            wired.redis.troubles = [Trouble(kind, (mark,), times=2)]
            # the streams are read by priority only where many have gathered
            await wired.asked_until_struck(2, at_once=40)
            await wired.all_well()


@pytest.mark.parametrize("name", ["reserve", "renew", "permits"])
async def test_a_step_cut_off_on_its_way_there_or_back_does_no_harm(wired: Wired, name: str) -> None:
    for kind in BROKEN:
        wired.redis.struck.clear()
        mark = script(name, "gate" if name == "permits" else "broker")
        wired.redis.troubles = [Trouble(kind, (mark,), times=2)]
        await wired.asked_until_struck(2)
        await wired.all_well()


async def test_a_half_open_connection_is_noticed_within_the_socket_timeout(wired: Wired) -> None:
    await wired.fleet.submit(10)
    await wired.all_well()
    wired.redis.freeze()
    since = time.monotonic()
    await wired.fleet.submit(20)
    await wired.fleet.finished(30)
    assert time.monotonic() - since < SOCKET_TIMEOUT_SECONDS + 5
    await wired.all_well()


async def test_a_commit_that_is_never_answered_is_sent_again_and_announces_nothing_twice(
    wired: Wired, wait_until: WaitUntil
) -> None:
    repeats = [Trouble(Kind.DELAY, (script("commit"),), delay_seconds=0.0)]
    wired.redis.troubles = [Trouble(Kind.HELD, (script("commit"),), times=2), *repeats]
    await wired.fleet.submit(1)
    await wait_until(lambda: wired.redis.struck[Kind.HELD] >= 2, timeout_seconds=30)
    await wait_until(lambda: wired.redis.struck[Kind.DELAY] >= 1, timeout_seconds=30)
    await wired.all_well()


async def test_a_slow_wire_only_takes_longer(wired: Wired) -> None:
    for kind in (Kind.DRIP, Kind.DELAY):
        wired.redis.troubles = [Trouble(kind, probability=0.3, delay_seconds=0.2)]
        await wired.fleet.submit(30)
        await wired.all_well()
        assert wired.redis.struck[kind] > 0


async def test_on_a_wire_that_spoils_one_in_seven_requests_each_match_is_served_once(wired: Wired) -> None:
    await wired.fleet.worker()
    kinds = (*BROKEN, Kind.DRIP, Kind.DELAY)
    wired.redis.troubles = [Trouble(kind, probability=0.03) for kind in kinds]
    for _ in range(8):
        await wired.fleet.submit(15)
        await wired.fleet.finished(60)
    wired.redis.troubles = []
    await wired.all_well()
    assert all(wired.redis.struck[kind] > 0 for kind in kinds)
