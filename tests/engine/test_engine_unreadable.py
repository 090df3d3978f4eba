"""A record that a newer version has written: left to others until its deadline, cancelled at any time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from allocator.simulator.gameye import RegionSettings, RetryAfter

if TYPE_CHECKING:
    from tests.engine.conftest import Fleet

SHUT = RegionSettings(closed=420, retry_after=RetryAfter(seconds=0.5))
NEWER = json.dumps({"id": "m-newer", "image": "game", "a_key_of_tomorrow": 1}).encode()


async def with_one_of_a_newer_version(fleet: Fleet, wait_until: Any, timeout_seconds: float) -> None:
    """A few matches are parked, one of them with a body that nobody here can read, and then served."""
    await fleet.begin({"europe": SHUT})
    await fleet.worker(rates={"europe": 1000})
    await fleet.send_many(20, timeout_seconds=60)
    await fleet.waiting_outside(1)
    await fleet.send(id="m-newer", timeout_seconds=timeout_seconds)
    await wait_until(lambda: fleet.connection.execute("SISMEMBER", fleet.keys.parked, "m-newer"))
    await fleet.connection.execute("HSET", fleet.keys.record("m-newer"), "body", NEWER)
    fleet.apply({"europe": RegionSettings()})
    answers = await fleet.ended(*(f"m-{number}" for number in range(20)))
    assert {each["state"] for each in answers} == {"allocated"}
    assert (await fleet.answer("m-newer")).get("final") != "1"


async def test_one_that_cannot_be_read_ends_at_its_deadline_with_its_bytes_kept(fleet: Fleet, wait_until: Any) -> None:
    await with_one_of_a_newer_version(fleet, wait_until, timeout_seconds=6)
    (answer,) = await fleet.ended("m-newer")
    assert (answer["state"], answer["error_code"]) == ("failed", "invalid_request")
    assert int(answer["updated_at"]) - int(answer["enqueued_at"]) >= 6000
    assert "a_key_of_tomorrow" in answer["error_message"]
    (letter,) = await fleet.stream(fleet.keys.dead_letters)
    assert letter["request"].encode() == NEWER
    await wait_until(fleet.nothing_is_left)
    fleet.members[0].events.clear()  # each time it was met was told as a fault


async def test_one_that_cannot_be_read_can_be_cancelled(fleet: Fleet, wait_until: Any) -> None:
    await with_one_of_a_newer_version(fleet, wait_until, timeout_seconds=3600)
    await fleet.connection.execute("XADD", fleet.keys.cancellations, "*", "id", "m-newer")
    (answer,) = await fleet.ended("m-newer")
    assert answer["state"] == "cancelled"
    await wait_until(fleet.nothing_is_left)
    fleet.members[0].events.clear()
