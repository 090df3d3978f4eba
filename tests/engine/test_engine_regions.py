"""Busy, broken and shut regions: the match goes on to the next, waits its turn, or ends with the right word."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from allocator.engine import attempt as attempt_module
from allocator.engine.lane import SHUT_ROOM
from allocator.engine.observer import FellBack, Finished, GateOpened, GateShut
from allocator.simulator.gameye import RegionSettings, RetryAfter, StatusFault

if TYPE_CHECKING:
    from tests.engine.conftest import Fleet

OPEN = RegionSettings()


@pytest.mark.parametrize(("status", "seconds"), [(420, 3.0), (429, 3.0), (503, 6.0)])
async def test_a_region_that_answers_busy_costs_a_burst_next_to_nothing(
    fleet: Fleet, status: int, seconds: float
) -> None:
    await fleet.begin({"europe": RegionSettings(closed=status), "us-east": OPEN})
    member = await fleet.worker()
    ids = await fleet.send_many(200)
    answers = await fleet.ended(*ids, seconds=seconds)
    assert {(answer["state"], answer["region"]) for answer in answers} == {("allocated", "us-east")}
    assert 0 < fleet.posts("europe") < 60
    await fleet.assert_one_session_each(ids)
    fallbacks = member.seen(FellBack)
    assert {(each.from_region, each.to_region) for each in fallbacks} == {("europe", "us-east")}
    assert len(fallbacks) == 200
    # what a push-back meant is known a moment later: by then some have gone on and ended elsewhere
    outcomes = {420: {"no_capacity"}, 429: {"no_capacity", "throttled"}, 503: {"unknown"}}[status]
    tried = [json.loads(answer["attempts"]) for answer in answers]
    assert {each["outcome"] for attempts in tried for each in attempts[:-1]} <= outcomes


async def test_four_workers_together_make_few_calls_to_a_busy_region(fleet: Fleet) -> None:
    await fleet.begin({"europe": RegionSettings(closed=420), "us-east": OPEN})
    for _ in range(4):
        await fleet.worker()
    ids = await fleet.send_many(200)
    await fleet.ended(*ids, seconds=3)
    assert 0 < fleet.posts("europe") < 60
    await fleet.assert_one_session_each(ids)


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_a_region_stays_shut_for_as_long_as_it_asks(fleet: Fleet, wait_until: Any, form: Any) -> None:
    full = RegionSettings(closed=420, retry_after=RetryAfter(seconds=2, form=form))
    await fleet.begin({"europe": full})
    member = await fleet.worker(rates={"europe": 1000})
    await fleet.send(id="m-1")
    await wait_until(lambda: member.seen(GateShut))
    fleet.apply({"europe": OPEN})
    await fleet.ended("m-1", seconds=5)
    first, second = fleet.simulator.ledger.posts
    # a date has whole seconds, so that up to one of them is lost
    assert (0.9 if form == "date" else 1.9) < second.at_seconds - first.at_seconds < 3.2


async def test_a_region_that_asks_for_no_rest_is_not_called_without_one(fleet: Fleet) -> None:
    await fleet.begin({"europe": RegionSettings(closed=420, retry_after=RetryAfter(seconds=0))})
    await fleet.worker(rates={"europe": 1000})
    await fleet.send(id="m-1", timeout_seconds=1)
    await fleet.ended("m-1")
    assert fleet.posts() <= 10


async def test_a_match_waits_for_the_first_region_that_opens_and_says_why(fleet: Fleet, wait_until: Any) -> None:
    busy = RegionSettings(closed=420)
    await fleet.begin({"europe": busy, "us-east": busy, "asia": busy})
    member = await fleet.worker(rates={"europe": 1000, "us-east": 1000, "asia": 1000})
    await fleet.send(id="m-1")

    async def noted() -> bool:
        return "error_code" in await fleet.answer("m-1")

    await wait_until(noted)
    answer = await fleet.answer("m-1")
    assert (answer["state"], answer["error_code"]) == ("allocating", "no_capacity")
    assert "final" not in answer
    assert "gameye/" in answer["error_message"]
    assert [each["region"] for each in json.loads(answer["attempts"])] == ["europe", "us-east", "asia"]
    fleet.apply({"europe": busy, "us-east": busy, "asia": OPEN})
    (answer,) = await fleet.ended("m-1")
    assert (answer["state"], answer["region"]) == ("allocated", "asia")
    assert not {"error_code", "error_message"} & answer.keys()
    assert [each.destination.location for each in member.seen(GateOpened)] == ["asia"]


async def test_one_probe_opens_a_region_for_all_who_wait_at_once(fleet: Fleet, wait_until: Any) -> None:
    await fleet.begin({"europe": RegionSettings(closed=420)})
    member = await fleet.worker(rates={"europe": 1000})
    other = await fleet.worker(rates={"europe": 1000})
    ids = await fleet.send_many(150)
    await wait_until(lambda: member.seen(GateShut) + other.seen(GateShut))
    # those who find out when it opens, and nobody else, are held in a process
    await fleet.waiting_outside(150 - 2 * SHUT_ROOM)
    fleet.apply({"europe": OPEN})
    await wait_until(lambda: member.seen(GateOpened) + other.seen(GateOpened))
    # far below the time a probe may be out: the others must not sleep through it
    answers = await fleet.ended(*ids, seconds=2.5)
    assert {answer["state"] for answer in answers} == {"allocated"}
    assert len(member.seen(GateOpened) + other.seen(GateOpened)) == 1
    await fleet.assert_one_session_each(ids)


@pytest.mark.parametrize(
    ("status", "code"),
    [(420, "no_capacity"), (429, "no_capacity"), (503, "unavailable"), (500, "unavailable")],
)
async def test_the_end_at_the_deadline_names_what_the_regions_said(
    fleet: Fleet, wait_until: Any, status: int, code: str
) -> None:
    refusing = RegionSettings(closed=status)
    await fleet.begin({"europe": refusing, "us-east": refusing})
    await fleet.worker()
    await fleet.send(id="m-1", timeout_seconds=0.6, reply_to="mm", context=[1])
    (answer,) = await fleet.ended("m-1", seconds=3)
    assert (answer["state"], answer["error_code"]) == ("expired", code)
    assert int(answer["retry_after_ms"]) >= 2000
    assert int(answer["updated_at"]) - int(answer["enqueued_at"]) < 1500
    assert answer["context"] == "[1]"
    (reply,) = await fleet.stream(fleet.keys.results_for("mm"))
    event = json.loads(reply["event"])
    assert event["type"] == "allocator.allocation.expired.v1"
    assert event["data"]["error_code"] == code
    assert not fleet.alive()
    await wait_until(fleet.nothing_is_left)


async def test_a_match_that_waits_only_for_its_turn_ends_with_deadline(fleet: Fleet) -> None:
    await fleet.begin({"europe": OPEN})
    await fleet.worker(rates={"europe": 1})
    await fleet.send(id="m-0")
    await fleet.ended("m-0")
    await fleet.send(id="m-1", timeout_seconds=0.3)
    (answer,) = await fleet.ended("m-1")
    assert (answer["state"], answer["error_code"]) == ("expired", "deadline")
    assert "retry_after_ms" not in answer


async def test_an_image_unknown_everywhere_is_not_found(fleet: Fleet) -> None:
    await fleet.begin(images={"other": {}})
    await fleet.worker()
    await fleet.send(id="m-1")
    (answer,) = await fleet.ended("m-1")
    assert (answer["state"], answer["error_code"]) == ("failed", "not_found")
    assert {each["status"] for each in json.loads(answer["attempts"])} == {404}
    assert "gameye/europe" in answer["error_message"]
    assert "gameye/us-east" in answer["error_message"]


async def test_a_region_nobody_knows_is_told_and_a_known_one_beside_it_serves(fleet: Fleet) -> None:
    await fleet.begin()
    await fleet.worker()
    await fleet.send(id="m-1", regions=["moon", "mars"])
    await fleet.send(id="m-2", regions=["moon", "europe"])
    first, second = await fleet.ended("m-1", "m-2")
    assert (first["state"], first["error_code"]) == ("failed", "no_region")
    assert "moon" in first["error_message"]
    assert (second["state"], second["region"]) == ("allocated", "europe")


@pytest.mark.parametrize("status", [400, 422])
async def test_a_body_the_provider_refuses_ends_at_once_and_goes_nowhere_else(fleet: Fleet, status: int) -> None:
    await fleet.begin(faults=(StatusFault(status=status),))
    await fleet.worker()
    await fleet.send(id="m-1")
    (answer,) = await fleet.ended("m-1")
    assert (answer["state"], answer["error_code"]) == ("failed", "rejected")
    assert fleet.posts() == 1


async def test_the_violations_of_a_refused_body_reach_its_sender(fleet: Fleet) -> None:
    await fleet.begin()
    await fleet.worker(session_ttl="1m")
    await fleet.send(id="m-1", ttl="2h", version="", regions=["europe"])
    await fleet.send(id="m-2", ttl="2h", regions=["europe"], labels={"a": "b"})
    first, second = await fleet.ended("m-1", "m-2")
    assert (first["error_code"], second["state"]) == ("invalid_request", "allocated")


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_a_refused_credential_burns_nothing_and_serves_once_it_is_good(
    fleet: Fleet, wait_until: Any, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(attempt_module, "CREDENTIAL_PROBE_SECONDS", 0.6)
    await fleet.begin(faults=(StatusFault(status=status),))
    member = await fleet.worker()
    ids = await fleet.send_many(60)

    async def all_wait() -> bool:
        return member.worker.held + await fleet.parked() >= 60 and bool(member.seen(GateShut))

    await wait_until(all_wait)
    first = fleet.simulator.ledger.posts[0].at_seconds

    def probes() -> list[float]:
        return [post.at_seconds for post in fleet.simulator.ledger.posts if post.at_seconds > first + 0.5]

    await wait_until(lambda: len(probes()) == 3)
    assert fleet.posts() <= 64
    assert all(later - earlier > 0.55 for earlier, later in itertools.pairwise(probes()))
    assert all(answer.get("final") is None for answer in await fleet.answers(ids))
    shut = member.seen(GateShut)[0]
    assert (shut.destination.location, shut.cause.value) == ("*", "credential")
    fleet.apply()
    answers = await fleet.ended(*ids)
    assert {answer["state"] for answer in answers} == {"allocated"}
    await fleet.assert_one_session_each(ids)


async def test_a_match_that_was_pushed_back_says_why_while_it_waits_elsewhere(fleet: Fleet, wait_until: Any) -> None:
    await fleet.begin({"europe": RegionSettings(closed=420), "us-east": OPEN})
    await fleet.worker(rates={"europe": 1000, "us-east": 0.5})
    await fleet.send(id="first", regions=["us-east"])
    await fleet.ended("first")
    await fleet.send(id="m-1")

    async def noted() -> bool:
        answer = await fleet.answer("m-1")
        return answer.get("final") == "1" or "error_code" in answer

    await wait_until(noted)
    assert "final" not in await fleet.answer("m-1")
    assert (await fleet.ended("m-1"))[0]["region"] == "us-east"


async def test_a_credential_that_stays_refused_ends_as_unauthorized_at_the_deadline(fleet: Fleet) -> None:
    await fleet.begin(token="another")
    await fleet.worker()
    await fleet.send(id="m-1", timeout_seconds=0.4)
    await fleet.send(id="m-2", timeout_seconds=0.5)
    for answer in await fleet.ended("m-1", "m-2"):
        assert (answer["state"], answer["error_code"]) == ("expired", "unauthorized")
    assert fleet.posts() <= 2


@pytest.mark.parametrize("where", ["called", "waiting"])
async def test_a_match_whose_default_regions_are_taken_away_under_way_is_served_all_the_same(
    fleet: Fleet, wait_until: Any, where: str
) -> None:
    await fleet.begin({"europe": RegionSettings(latency_ms=(200, 200))})
    member = await fleet.worker(rates={"europe": 4})
    ids = await fleet.send_many(1 if where == "called" else 3)
    (lane,) = await wait_until(member.lanes)
    await wait_until(lambda: lane._out if where == "called" else lane.waiting)
    member.parts.policy = replace(member.parts.policy, default_regions=())
    answers = await fleet.ended(*ids)
    assert {(answer["state"], answer["region"]) for answer in answers} == {("allocated", "europe")}
    await wait_until(lambda: len(member.seen(Finished)) == len(ids))
    assert {each.first_choice for each in member.seen(Finished)} == {None}, "nobody knows what was first"


@pytest.mark.parametrize("made_up", ["*", "*look-ups", "europe\nx", "europe~guests", "e" * 65])
async def test_a_made_up_name_that_is_none_of_a_region_shuts_and_delays_nothing(fleet: Fleet, made_up: str) -> None:
    await fleet.begin({"europe": OPEN, made_up: RegionSettings(closed=420)})
    member = await fleet.worker(rates={"europe": 100}, unknown_regions="default", gameye={"rate": 200})
    await fleet.send(id="made-up", regions=[made_up])
    (answer,) = await fleet.ended("made-up")
    assert (answer["state"], answer["error_code"]) == ("failed", "no_region")
    ids = await fleet.send_many(5, regions=[made_up, "europe"])
    answers = await fleet.ended(*ids)
    assert {(answer["state"], answer["region"]) for answer in answers} == {("allocated", "europe")}
    assert member.seen(GateShut) == []
    assert fleet.posts() == 5


async def test_a_wait_longer_than_allowed_tries_the_next_region(fleet: Fleet) -> None:
    await fleet.begin()
    member = await fleet.worker(rates={"europe": 2, "us-east": 1000}, worker={"max_gate_wait_seconds": 0.2})
    ids = await fleet.send_many(4)
    answers = await fleet.ended(*ids, seconds=1.0)
    regions = [answer["region"] for answer in answers]
    assert regions.count("europe") <= 2
    assert regions.count("us-east") >= 2
    assert {each.reason for each in member.seen(FellBack)} == {"shut_or_busy"}


async def test_a_lane_longer_than_two_seconds_of_its_rate_sends_the_rest_on_at_once(fleet: Fleet) -> None:
    await fleet.begin()
    await fleet.worker(rates={"europe": 5, "us-east": 1000}, worker={"max_gate_wait_seconds": 60})
    ids = await fleet.send_many(100)
    answers = await fleet.ended(*ids, seconds=3.5)
    regions = [answer["region"] for answer in answers]
    assert 8 <= regions.count("europe") <= 20
