"""Too fast or full: found out once for the fleet, said in the attempts, and answered by a lower rate or a rest.

LONG_TESTS=1 holds a hidden limit of 37 a second as issue 4 promises it; without it there is a smaller play of it.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from allocator.contract.destination import Destination
from allocator.engine.lane import FIRST_WINDOW
from allocator.engine.observer import Attempted, GateShut, Slowed
from allocator.gate.gate import Cause
from allocator.simulator.gameye import RegionSettings, RetryAfter

if TYPE_CHECKING:
    from tests.engine.conftest import Fleet, Member

LONG = os.environ.get("LONG_TESTS") == "1"
OPEN = RegionSettings()
EUROPE = Destination("gameye", "europe")


@pytest.fixture
def questions(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the simulated Gameye is asked of its locations from its beginning on."""
    asked: list[str] = []
    begin = fleet.begin

    async def begin_and_count(*args: Any, **options: Any) -> None:
        await begin(*args, **options)
        locations = fleet.simulator.fleet.locations

        def counted(image: str) -> Any:
            asked.append(image)
            return locations(image)

        monkeypatch.setattr(fleet.simulator.fleet, "locations", counted)

    monkeypatch.setattr(fleet, "begin", begin_and_count)
    return asked


def outcomes(answers: list[dict[str, str]], region: str = "europe") -> Counter[str]:
    tried = [attempt for each in answers for attempt in json.loads(each["attempts"])]
    return Counter(attempt["outcome"] for attempt in tried if attempt["region"] == region)


async def rate_now(member: Member) -> float:
    (limit, _) = member.parts.lanes.of(EUROPE).limits
    (state,) = await member.parts.gate.states([limit])
    assert state.rate is not None
    assert state.cause is None
    return state.rate


async def test_starts_that_come_too_fast_lower_the_rate_and_the_region_stays_in_use(
    fleet: Fleet, questions: list[str]
) -> None:
    await fleet.begin({"europe": RegionSettings(starts_per_second=12)})
    members = [await fleet.worker(rates={"europe": 30}) for _ in range(2)]
    ids = await fleet.send_many(70, timeout_seconds=60)
    answers = await fleet.ended(*ids, seconds=12)
    assert {each["state"] for each in answers} == {"allocated"}
    told = outcomes(answers)
    assert told["throttled"] > 0
    assert told["no_capacity"] == 0
    slowed = [event for member in members for event in member.seen(Slowed)]
    assert slowed
    assert not any(member.seen(GateShut) for member in members)
    assert min(event.rate for event in slowed) < 20
    assert 1 <= await rate_now(members[0]) < 30
    # what was found out holds for three seconds, for all of them together
    moments = [post.at_seconds for post in fleet.simulator.ledger.posts]
    assert len(questions) <= (moments[-1] - moments[0]) / 3 + 2
    await fleet.assert_one_session_each(ids)


async def test_a_region_that_is_full_shuts_and_says_no_capacity_and_is_asked_about_once(
    fleet: Fleet, questions: list[str], wait_until: Any
) -> None:
    await fleet.begin({"europe": RegionSettings(capacity=10), "us-east": OPEN})
    # each holds few, so that all of them take part
    members = [await fleet.worker(worker={"backlog": 30}) for _ in range(4)]
    ids = await fleet.send_many(120)
    answers = await fleet.ended(*ids)
    assert sum(bool(member.seen(Attempted)) for member in members) >= 2
    assert Counter(each["region"] for each in answers) == {"europe": 10, "us-east": 110}
    assert len(questions) == 1
    await wait_until(lambda: any(member.seen(GateShut) for member in members))
    shut = [event for member in members for event in member.seen(GateShut)]
    assert {(event.destination, event.cause) for event in shut} == {(EUROPE, Cause.FULL)}
    assert not any(member.seen(Slowed) for member in members)
    told = Counter(
        str(event.outcome)
        for member in members
        for event in member.seen(Attempted)
        if event.destination == EUROPE and event.status == 420
    )
    assert set(told) == {"no_capacity"}
    assert outcomes(answers)["throttled"] == 0


async def test_a_full_region_that_names_a_time_is_left_alone_for_so_long(fleet: Fleet) -> None:
    full = RegionSettings(capacity=0, retry_after=RetryAfter(seconds=1.5))
    await fleet.begin({"europe": full, "us-east": OPEN})
    await fleet.worker()
    ids = await fleet.send_many(40)
    await fleet.ended(*ids)
    first = fleet.simulator.ledger.posts[0].at_seconds
    for number in range(20):
        await fleet.send(id=f"later-{number}")
        await fleet.ended(f"later-{number}")
    early = [
        post for post in fleet.simulator.ledger.posts if post.location == "europe" and post.at_seconds < first + 1.4
    ]
    assert len(early) <= FIRST_WINDOW
    assert all(post.at_seconds < first + 0.5 for post in early)


@pytest.mark.parametrize("workers", [1, 4])
async def test_a_hidden_limit_is_found_and_well_used_with_few_calls_pushed_back(
    fleet: Fleet, wait_until: Any, workers: int
) -> None:
    hidden, settling, window = (37, 30.0, 20.0) if LONG else (20, 4.0, 4.0)
    await fleet.begin({"europe": RegionSettings(starts_per_second=hidden, latency_ms=(20, 60))})
    for _ in range(workers):
        await fleet.worker(rates={"europe": 60 if LONG else 30})
    count = round(hidden * (settling + window) * 1.5)
    ids = await fleet.send_many(count, timeout_seconds=600)
    await wait_until(fleet.posts)
    posts = fleet.simulator.ledger.posts
    begun = posts[0].at_seconds
    await wait_until(lambda: posts[-1].at_seconds - begun >= settling + window, timeout_seconds=settling + window + 10)
    seen = [post for post in posts if settling <= post.at_seconds - begun < settling + window]
    served = sum(post.status == 201 for post in seen)
    pushed_back = sum(post.status == 420 for post in seen)
    used, refused = served / window / hidden, pushed_back / len(seen)
    fleet.measured(f"{workers} workers: {used:.1%} of the hidden limit used, {refused:.1%} of the calls pushed back")
    assert used >= (0.9 if LONG else 0.3)
    assert refused < (0.05 if LONG else 0.25)
    fleet.apply({"europe": OPEN})
    for each in ids:
        await fleet.connection.execute("XADD", fleet.keys.cancellations, "*", "id", each)
    await fleet.ended(*ids, seconds=60)


async def test_a_match_that_was_pushed_back_goes_on_at_once_and_never_waits_for_what_it_meant(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fleet.begin({"europe": RegionSettings(closed=420), "us-east": OPEN})
    member = await fleet.worker()
    provider: Any = member.parts.providers["gameye"]
    asked = asyncio.Event()

    async def never(*_: Any, **__: Any) -> None:
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(provider, "offers", never)
    await fleet.send(id="m-1")
    (answer,) = await fleet.ended("m-1", seconds=2)
    assert (answer["state"], answer["region"]) == ("allocated", "us-east")
    await asyncio.wait_for(asked.wait(), 5)


async def test_each_match_is_served_once_where_a_region_is_too_slow_and_then_full(fleet: Fleet) -> None:
    await fleet.begin({"europe": RegionSettings(starts_per_second=20, capacity=25), "us-east": OPEN})
    for _ in range(2):
        await fleet.worker(rates={"europe": 60, "us-east": 60})
    ids = await fleet.send_many(100, timeout_seconds=60)
    answers = await fleet.ended(*ids)
    assert {each["state"] for each in answers} == {"allocated"}
    assert Counter(each["region"] for each in answers)["europe"] <= 25
    assert set(outcomes(answers)) <= {"created", "throttled", "no_capacity"}
    await fleet.assert_one_session_each(ids)
