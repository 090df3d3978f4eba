"""The players' latencies and the caps that loosen with age, through the whole service."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from allocator.engine import worker as worker_module
from allocator.engine.lane import SHUT_ROOM
from allocator.engine.observer import FellBack, Finished
from allocator.simulator.gameye import RegionSettings, RetryAfter

if TYPE_CHECKING:
    from tests.engine.conftest import Fleet

LONG = os.environ.get("LONG_TESTS") == "1"
OPEN = RegionSettings()
SHUT = RegionSettings(closed=420, retry_after=RetryAfter(seconds=30))
PLAYERS = [{"id": "a", "latency_ms": {"europe": 40, "us-east": 150}}, {"latency_ms": {"europe": 60, "us-east": 170}}]
CAPS = [{"max_ms": 100, "after_seconds": 0}, {"max_ms": 200, "after_seconds": 1.5}]
LOOSER_MS = 1500
AT_ONCE_MS = 300 if LONG else 600
"""A machine that others use as well takes its own time."""


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops that look as often as in production, for what is promised to the tenth of a second."""
    monkeypatch.setattr(worker_module, "TICK_SECONDS", 1.0)


async def test_the_region_that_is_best_for_the_worst_player_is_tried_first(fleet: Fleet) -> None:
    await fleet.begin({"europe": OPEN, "us-east": OPEN})
    member = await fleet.worker()
    await fleet.send(id="m-1", regions=["us-east", "europe"], players=PLAYERS)
    (answer,) = await fleet.ended("m-1")
    assert answer["region"] == "europe"
    assert len(json.loads(answer["attempts"])) == 1
    assert member.seen(FellBack) == [], "it went where it was sent"
    assert [each.first_choice for each in member.seen(Finished)] == [False], "us-east was named first"


async def test_a_region_over_the_cap_is_tried_only_once_a_looser_cap_applies_and_then_at_once(
    fleet: Fleet, unhurried: None
) -> None:
    await fleet.begin({"europe": SHUT, "us-east": OPEN})
    await fleet.worker()
    await fleet.send(id="m-1", players=PLAYERS, latency_caps=CAPS)
    (answer,) = await fleet.ended("m-1")
    assert (answer["state"], answer["region"]) == ("allocated", "us-east")
    age_ms = int(answer["allocated_at"]) - int(answer["enqueued_at"])
    assert LOOSER_MS <= age_ms <= LOOSER_MS + AT_ONCE_MS
    assert [each["region"] for each in json.loads(answer["attempts"])] == ["europe", "us-east"]


async def test_many_who_are_parked_under_a_cap_go_at_once_when_it_loosens(fleet: Fleet, unhurried: None) -> None:
    await fleet.begin({"europe": SHUT, "us-east": OPEN})
    await fleet.worker()
    ids = await fleet.send_many(80, players=PLAYERS, latency_caps=CAPS)
    await fleet.waiting_outside(80 - 2 * SHUT_ROOM)
    answers = await fleet.ended(*ids)
    assert {(each["state"], each["region"]) for each in answers} == {("allocated", "us-east")}
    ages_ms = sorted(int(each["allocated_at"]) - int(each["enqueued_at"]) for each in answers)
    fleet.measured(
        f"parked under a cap: served {ages_ms[0] - LOOSER_MS} to {ages_ms[-1] - LOOSER_MS} ms after it loosened"
    )
    assert ages_ms[0] >= LOOSER_MS
    assert ages_ms[-1] <= LOOSER_MS + AT_ONCE_MS + 200
    await fleet.assert_one_session_each(ids)


async def test_a_match_that_no_region_is_open_to_yet_waits_for_the_cap_alone(fleet: Fleet, unhurried: None) -> None:
    await fleet.begin({"europe": OPEN, "us-east": OPEN})
    await fleet.worker()
    await fleet.send(id="m-1", regions=["us-east"], players=PLAYERS, latency_caps=CAPS)
    await fleet.waiting_outside(1)
    assert (await fleet.answer("m-1"))["state"] == "parked"
    (answer,) = await fleet.ended("m-1")
    assert (answer["state"], answer["region"]) == ("allocated", "us-east")
    age_ms = int(answer["allocated_at"]) - int(answer["enqueued_at"])
    assert LOOSER_MS <= age_ms <= LOOSER_MS + AT_ONCE_MS


async def test_those_whom_a_cap_keeps_out_hold_up_nobody_in_that_region(fleet: Fleet) -> None:
    await fleet.begin({"europe": SHUT, "us-east": OPEN})
    await fleet.worker(rates={"europe": 1000, "us-east": 30})
    later = [{"max_ms": 100, "after_seconds": 0}, {"max_ms": 200, "after_seconds": 8}]
    kept_out = await fleet.send_many(60, "kept-out", players=PLAYERS, latency_caps=later, timeout_seconds=15)
    await fleet.waiting_outside(60 - 2 * SHUT_ROOM)
    plain = await fleet.send_many(120, "plain", regions=["us-east"], timeout_seconds=60)
    answers = await fleet.ended(*plain, seconds=6)
    assert {each["state"] for each in answers} == {"allocated"}
    await fleet.ended(*kept_out)


async def test_a_match_whose_last_cap_no_region_meets_ends_as_no_region_and_is_never_tried(
    fleet: Fleet, wait_until: Any
) -> None:
    await fleet.begin({"europe": OPEN, "us-east": OPEN})
    await fleet.worker()
    await fleet.send(id="m-1", players=PLAYERS, latency_caps=[{"max_ms": 10, "after_seconds": 0}])
    (answer,) = await fleet.ended("m-1", seconds=2)
    assert (answer["state"], answer["error_code"]) == ("failed", "no_region")
    assert "60 ms" in answer["error_message"]
    assert fleet.posts() == 0
    await wait_until(fleet.nothing_is_left)
