"""Parking: who waits for a shut or slow region waits outside, costs the others nothing, and is served in its turn.

LONG_TESTS=1 plays 20,000 of them; without it there are a few hundred.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from allocator.contract.request import Priority
from allocator.engine import worker as worker_module
from allocator.engine.lane import FIRST_WINDOW, SHUT_ROOM
from allocator.engine.observer import Parked, Slowed
from allocator.simulator.gameye import RegionSettings, RetryAfter

if TYPE_CHECKING:
    from tests.engine.conftest import Fleet, Member

LONG = os.environ.get("LONG_TESTS") == "1"
MANY = 20_000 if LONG else 300
OPEN = RegionSettings()
SHUT = RegionSettings(closed=420, retry_after=RetryAfter(seconds=0.5))
"""Full for as long as a test likes, and looked at twice a second, so that it is found open at once."""
BOTH = {"europe": SHUT, "us-east": RegionSettings(latency_ms=(5, 15))}


def p99_ms(answers: list[dict[str, str]]) -> int:
    waits = sorted(int(each["allocated_at"]) - int(each["enqueued_at"]) for each in answers)
    return waits[len(waits) * 99 // 100]


async def steady(fleet: Fleet, prefix: str, count: int) -> int:
    """The p99 of matches that come to us-east one after the other, in milliseconds."""
    ids = []
    for number in range(count):
        ids.append(f"{prefix}-{number}")
        await fleet.send(id=ids[-1], regions=["us-east"])
        await asyncio.sleep(0.01)
    answers = await fleet.ended(*ids)
    assert {each["state"] for each in answers} == {"allocated"}
    return p99_ms(answers)


def turns_in_the_lot(members: list[Member]) -> Counter[str]:
    """How often each request was parked, by whomever."""
    return Counter(event.request_id for member in members for event in member.seen(Parked))


async def test_those_who_wait_for_a_shut_region_cost_another_nothing_and_are_all_served_once_it_opens(
    fleet: Fleet, wait_until: Any
) -> None:
    await fleet.begin(BOTH)
    member = await fleet.worker(rates={"europe": 300, "us-east": 1000})
    count = 400 if LONG else 100
    quiet_ms = await steady(fleet, "quiet", count)
    ids = await fleet.send_many(MANY, timeout_seconds=600, regions=["europe"])
    await fleet.waiting_outside(MANY - 2 * SHUT_ROOM, seconds=MANY / 200 + 5)
    await wait_until(lambda: member.worker.held <= 2 * SHUT_ROOM)
    loud_ms = await steady(fleet, "loud", count)
    # the whole promise needs a machine of its own
    assert loud_ms <= (max(1.5 * quiet_ms, quiet_ms + 20) if LONG else quiet_ms + 300)
    assert member.worker.held <= 2 * SHUT_ROOM
    fleet.apply({**BOTH, "europe": OPEN})
    opening_ms = await steady(fleet, "opening", count)
    assert opening_ms <= quiet_ms + 600
    answers = await fleet.ended(*ids, seconds=MANY / 100 + 10)
    fleet.measured(
        f"p99 in the other region: quiet {quiet_ms} ms, {MANY} wait {loud_ms} ms, they are served {opening_ms} ms"
    )
    assert {each["state"] for each in answers} == {"allocated"}
    assert len(fleet.alive()) == MANY + 3 * count
    assert await fleet.parked() == 0


async def test_those_who_wait_for_a_slow_region_cost_another_nothing(fleet: Fleet, wait_until: Any) -> None:
    await fleet.begin({"europe": OPEN, "us-east": RegionSettings(latency_ms=(5, 15))})
    member = await fleet.worker(rates={"europe": 20, "us-east": 1000})
    count = 400 if LONG else 60
    quiet_ms = await steady(fleet, "quiet", count)
    waiting = MANY if LONG else 150
    # the long play is over before they are: 20 a second are served
    since = time.monotonic()
    ids = await fleet.send_many(waiting, timeout_seconds=3600 if LONG else 5, regions=["europe"])

    async def all_are_taken_up() -> bool:
        return bool(await fleet.answer(ids[-1])) and member.worker.held <= 2 * 40

    await wait_until(all_are_taken_up, timeout_seconds=waiting / 200 + 5)
    loud_ms = await steady(fleet, "loud", count)
    fleet.measured(f"p99 in the other region: quiet {quiet_ms} ms, beside a slow one {loud_ms} ms")
    assert loud_ms <= (max(1.5 * quiet_ms, quiet_ms + 20) if LONG else quiet_ms + 300)
    # two seconds of its rate, as many called in beside them, and what comes for us-east
    assert member.worker.held <= 2 * 40 + count
    open_seconds = time.monotonic() - since if LONG else 5
    if LONG:
        for each in ids:
            await fleet.connection.execute("XADD", fleet.keys.cancellations, "*", "id", each)
    answers = await fleet.ended(*ids, seconds=120 if LONG else 10)
    states = Counter(each["state"] for each in answers)
    assert states["allocated"] + states["released"] >= 0.7 * open_seconds * 20
    others = states["cancelled"] + states["released"] if LONG else states["expired"]
    assert states["allocated"] + others == waiting
    codes = {each["error_code"] for each in answers if each["state"] == "expired"}
    assert codes <= ({"deadline"} if LONG else {"deadline", "unavailable"})  # a slow machine cuts calls off


async def test_the_parked_are_served_by_priority_and_deadline_once_the_region_opens(
    fleet: Fleet, wait_until: Any
) -> None:
    await fleet.begin({"europe": SHUT})
    member = await fleet.worker(rates={"europe": 60})
    await fleet.send(id="finds-out", regions=["europe"])
    await wait_until(lambda: member.lanes() and member.lanes()[0].cause is not None)
    # the latest deadlines come first, so that the order of arrival is the worst one
    for number in reversed(range(60)):
        for priority in (Priority.LOW, Priority.NORMAL, Priority.HIGH):
            await fleet.send(priority, id=f"{priority.value}-{number}", timeout_seconds=100 + number)
    await fleet.waiting_outside(180 - 2 * SHUT_ROOM)
    fleet.apply({"europe": OPEN})
    names = [f"{priority.value}-{number}" for priority in Priority for number in range(60)]
    answers = await fleet.ended(*names)
    served = [each["request_id"] for each in sorted(answers, key=lambda each: int(each["allocated_at"]))]
    # the first came before anyone better and waited at the door
    turns = served[2 * SHUT_ROOM :]
    highs = [turn for turn, name in enumerate(turns) if name.startswith("high")]
    # every tenth permit is a low one's, another a normal one's; the calls that are out may pass each other
    assert highs[-1] <= len(highs) / 0.8 + 10
    for kind in ("high", "normal"):
        numbers = [int(name.split("-")[1]) for name in turns if name.startswith(kind)]
        late = [abs(place - rank) for rank, place in enumerate(sorted(range(len(numbers)), key=numbers.__getitem__))]
        assert max(late) <= SHUT_ROOM, numbers


async def test_the_parked_outlive_every_worker(fleet: Fleet) -> None:
    await fleet.begin({"europe": SHUT})
    members = [await fleet.worker(rates={"europe": 300}) for _ in range(2)]
    ids = await fleet.send_many(100, timeout_seconds=60, regions=["europe"])
    await fleet.waiting_outside(100 - 3 * SHUT_ROOM)
    for member in members:
        await member.cut()
    fleet.apply({"europe": OPEN})
    await fleet.worker(rates={"europe": 300})
    answers = await fleet.ended(*ids)
    assert {each["state"] for each in answers} == {"allocated"}
    await fleet.assert_one_session_each(ids)


async def test_a_worker_that_begins_calls_in_those_for_whom_nobody_new_comes(fleet: Fleet, wait_until: Any) -> None:
    await fleet.begin({"europe": OPEN})
    await fleet.levers().drain("europe", None)
    first = await fleet.worker(rates={"europe": 300})
    ids = await fleet.send_many(20, timeout_seconds=60)
    await fleet.waiting_outside(20)
    await wait_until(lambda: first.worker.held == 0)
    await first.cut()
    await fleet.levers().resume_region("europe")
    await fleet.worker(rates={"europe": 300})
    answers = await fleet.ended(*ids, seconds=5)
    assert {each["state"] for each in answers} == {"allocated"}


async def test_a_parked_match_says_so_and_why_in_its_hash(fleet: Fleet, wait_until: Any) -> None:
    await fleet.begin({"europe": SHUT})
    member = await fleet.worker(rates={"europe": 1000})
    ids = await fleet.send_many(100, regions=["europe"])
    await fleet.waiting_outside(100 - 2 * SHUT_ROOM)
    answers = await fleet.answers(ids)
    parked = [each for each in answers if each["state"] == "parked"]
    assert len(parked) >= 100 - 2 * SHUT_ROOM
    assert all("final" not in each for each in answers)
    # only those who were pushed back themselves have something to tell
    told = [each for each in parked if "error_code" in each]
    assert all("attempts" in each for each in told)
    assert {each["error_code"] for each in told} <= {"no_capacity"}
    await wait_until(lambda: member.worker.held <= 2 * SHUT_ROOM)

    async def is_counted() -> bool:
        waiting = (await member.parts.broker.survey()).parked
        return waiting == await fleet.parked() and waiting >= 100 - 2 * SHUT_ROOM

    await wait_until(is_counted)
    fleet.apply({"europe": OPEN})
    await fleet.ended(*ids)


async def test_a_match_that_was_pushed_back_and_parked_keeps_its_attempts_and_its_code(
    fleet: Fleet, wait_until: Any
) -> None:
    await fleet.begin({"europe": SHUT})
    await fleet.worker(rates={"europe": 1000})
    ids = await fleet.send_many(100, regions=["europe"])

    async def one_was_tried_and_parked() -> bool:
        answers = await fleet.answers(ids)
        return any(each.get("state") == "parked" and "error_code" in each for each in answers)

    await wait_until(one_was_tried_and_parked)
    tried = [each for each in await fleet.answers(ids) if each.get("state") == "parked" and "error_code" in each]
    for each in tried:
        assert each["error_code"] == "no_capacity"
        assert each["error_message"]
        assert {attempt["outcome"] for attempt in json.loads(each["attempts"])} == {"no_capacity"}
    fleet.apply({"europe": OPEN})
    answers = {each["request_id"]: each for each in await fleet.ended(*ids)}
    for each in tried:
        answer = answers[each["request_id"]]
        assert "error_code" not in answer
        assert len(json.loads(answer["attempts"])) > len(json.loads(each["attempts"]))


@pytest.mark.parametrize("region", ["shut", "slow"])
async def test_the_parked_expire_soon_after_their_deadline_with_the_right_code(
    fleet: Fleet, region: str, wait_until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "TICK_SECONDS", 1.0)
    await fleet.begin({"europe": SHUT if region == "shut" else OPEN})
    # in a slow one those that come after the others have joined are refused as too many
    many = MANY // 3 if region == "shut" else 100
    seconds = 40 if many > 100 else 2
    await fleet.worker(rates={"europe": 1000 if region == "shut" else 1}, worker={"lease_seconds": 10})
    ids = await fleet.send_many(many, timeout_seconds=seconds, regions=["europe"])

    async def all_are_told() -> bool:
        return len(await fleet.results()) >= many

    await wait_until(all_are_told, timeout_seconds=1.5 * seconds + 20)
    refused = {each["request_id"] for each in await fleet.results() if each["state"] == "refused"}
    answers = await fleet.ended(*(each for each in ids if each not in refused))
    expired = [each for each in answers if each["state"] == "expired"]
    assert len(expired) >= (many if region == "shut" else 5)
    late_ms = [int(each["updated_at"]) - int(each["enqueued_at"]) - 1000 * seconds for each in expired]
    fleet.measured(f"expired at most {max(late_ms)} ms after the deadline")
    # none ends before its time but for the shortest call there is
    assert min(late_ms) >= -100
    # 6,667 at once take one process as many milliseconds
    assert max(late_ms) <= (1 if LONG else 4) * (2500 + len(expired))
    codes = {each["error_code"] for each in expired}
    assert codes == ({"no_capacity"} if region == "shut" else {"deadline"})
    assert await fleet.parked() == 0


async def test_a_parked_match_can_be_cancelled_and_never_starts(fleet: Fleet) -> None:
    await fleet.begin({"europe": SHUT})
    await fleet.worker(rates={"europe": 1000})
    ids = await fleet.send_many(60, regions=["europe"])
    await fleet.waiting_outside(60 - 2 * SHUT_ROOM)
    answers = await fleet.answers(ids)
    chosen = [each["request_id"] for each in answers if each["state"] == "parked"][:20]
    for each in chosen:
        await fleet.connection.execute("XADD", fleet.keys.cancellations, "*", "id", each)
    cancelled = await fleet.ended(*chosen)
    assert {each["state"] for each in cancelled} == {"cancelled"}
    fleet.apply({"europe": OPEN})
    await fleet.ended(*ids)
    assert len(fleet.alive()) == 40
    await fleet.assert_one_session_each(ids)


async def test_nobody_is_called_in_only_to_go_out_again(fleet: Fleet, wait_until: Any) -> None:
    await fleet.begin({"europe": SHUT, "us-east": SHUT, "asia": OPEN})
    members = [await fleet.worker(rates={"europe": 1000, "us-east": 500, "asia": 10}) for _ in range(3)]
    ids = await fleet.send_many(150, "shut", timeout_seconds=60, regions=["europe", "us-east"])
    ids += await fleet.send_many(80, "slow", timeout_seconds=60, regions=["asia"])
    ids += await fleet.send_many(30, "both", timeout_seconds=60, regions=["europe", "asia"])
    await fleet.waiting_outside(100)

    def probes() -> int:
        return fleet.posts("europe") + fleet.posts("us-east")

    # by then each of the three has found out that both are shut, and has as many at their doors as it keeps there
    settled = probes() + 10
    await wait_until(lambda: probes() >= settled, timeout_seconds=15)
    asked, before = probes(), turns_in_the_lot(members)
    await wait_until(lambda: probes() >= asked + 10, timeout_seconds=15)
    again = turns_in_the_lot(members) - before
    # who came back from a probe may find its place taken, at each of two doors; of all the others nobody is moved
    assert sum(again.values()) <= 2 * (probes() - asked) + 4
    fleet.apply({"europe": OPEN, "us-east": OPEN, "asia": OPEN})
    answers = await fleet.ended(*ids)
    assert {each["state"] for each in answers} == {"allocated"}
    await fleet.assert_one_session_each(ids)


async def test_who_stands_at_the_door_of_a_shut_region_has_its_turn_in_a_slow_one(fleet: Fleet) -> None:
    await fleet.begin({"europe": RegionSettings(closed=420, retry_after=RetryAfter(seconds=30)), "us-east": OPEN})
    await fleet.worker(rates={"europe": 1000, "us-east": 30})
    # the first of them find out that europe is shut while the lane of us-east is full already
    busy = await fleet.send_many(100, "busy", timeout_seconds=60, regions=["us-east"])
    ids = await fleet.send_many(40, "m", timeout_seconds=40, regions=["europe", "us-east"])
    answers = await fleet.ended(*ids)
    assert {(each["state"], each["region"]) for each in answers} == {("allocated", "us-east")}
    await fleet.ended(*busy)
    await fleet.assert_one_session_each([*ids, *busy])


async def test_four_workers_share_the_parked_and_each_is_served_once(fleet: Fleet, wait_until: Any) -> None:
    await fleet.begin({"europe": SHUT})
    members = [await fleet.worker(rates={"europe": 200}) for _ in range(4)]
    ids = await fleet.send_many(300, timeout_seconds=60, regions=["europe"])
    await fleet.waiting_outside(300 - 5 * SHUT_ROOM)
    await wait_until(lambda: all(member.worker.held <= 2 * SHUT_ROOM for member in members))
    fleet.apply({"europe": OPEN})
    answers = await fleet.ended(*ids)
    assert {each["state"] for each in answers} == {"allocated"}
    assert fleet.simulator.ledger.posts_per_second_max()["europe"] <= 210
    assert not any(member.seen(Slowed) for member in members)
    await fleet.assert_one_session_each(ids)


async def test_an_opening_is_not_trampled(fleet: Fleet, wait_until: Any) -> None:
    await fleet.begin({"europe": SHUT})
    for _ in range(2):
        await fleet.worker(rates={"europe": 100})
    ids = await fleet.send_many(200, timeout_seconds=60, regions=["europe"])
    await fleet.waiting_outside(200 - 3 * SHUT_ROOM)
    shut_posts = fleet.posts()
    fleet.apply({"europe": RegionSettings(capacity=1, retry_after=RetryAfter(seconds=0.5))})
    await wait_until(fleet.alive)
    opened = fleet.posts()
    # until each of them looks at it as shut, and not one call is out
    await wait_until(lambda: all(lane.cause and not lane._out for member in fleet.members for lane in member.lanes()))
    # one place came free: a dozen calls of each worker may find out that it is gone, not all who wait
    assert opened - shut_posts <= 15
    assert fleet.posts() - opened <= 2 * FIRST_WINDOW
    fleet.apply({"europe": OPEN})
    await fleet.ended(*ids)
