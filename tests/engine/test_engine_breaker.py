"""A region that does not answer is set aside and costs nobody anything; repeats stay within their budget."""

from __future__ import annotations

import json
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest

from allocator.contract.identity import session_id
from allocator.engine.observer import GateOpened, GateShut
from allocator.gate.gate import DOUBTS_MAX, REPEATS_A_SECOND, REPEATS_MAX, REPEATS_SHARE, Cause
from allocator.simulator.gameye import Dropped, How, RegionSettings, StatusFault

if TYPE_CHECKING:
    from tests.engine.conftest import Fleet, Member

BOTH = {"europe": RegionSettings(), "us-east": RegionSettings()}
QUICK = {"timeout_seconds": 0.4}
FAULTS = {"fails": StatusFault(status=500, regions=("europe",)), "hangs": Dropped(how=How.HANG, regions=("europe",))}


def set_aside(member: Member) -> list[GateShut]:
    return [event for event in member.seen(GateShut) if event.cause is Cause.SET_ASIDE]


async def waits_ms(fleet: Fleet, prefix: str, **request: Any) -> list[int]:
    """From enqueue to answer, of 40 matches one after the other."""
    found = []
    for number in range(40):
        await fleet.send(id=f"{prefix}-{number}", **request)
        (answer,) = await fleet.ended(f"{prefix}-{number}")
        assert (answer["state"], answer["region"]) == ("allocated", "us-east")
        found.append(int(answer["allocated_at"]) - int(answer["enqueued_at"]))
    return found


@pytest.mark.parametrize("fault", ["fails", "hangs"])
async def test_a_region_whose_calls_all_fail_is_set_aside_after_five_and_costs_next_to_nothing(
    fleet: Fleet, wait_until: Any, fault: str
) -> None:
    await fleet.begin(BOTH, faults=(FAULTS[fault],))
    member = await fleet.worker(gameye=QUICK)
    ids: list[str] = []
    # one after the other, so that not a whole window is out when the fifth comes back
    while not set_aside(member):
        ids.append(f"m-{len(ids)}")
        await fleet.send(id=ids[-1])
        (answer,) = await fleet.ended(ids[-1])
        assert (answer["state"], answer["region"]) == ("allocated", "us-east")
    assert fleet.posts("europe") == DOUBTS_MAX
    assert 29 <= set_aside(member)[0].seconds <= 37
    with_it = await waits_ms(fleet, "with")
    without = await waits_ms(fleet, "without", regions=["us-east"])
    fleet.measured(f"median with the broken region {median(with_it)} ms, without it {median(without)} ms")
    assert fleet.posts("europe") == DOUBTS_MAX
    assert median(with_it) <= median(without) + 10
    await wait_until(lambda: not member.worker.held)


@pytest.mark.parametrize("fault", ["fails", "hangs"])
async def test_the_last_region_of_a_match_is_probed_one_call_at_a_time_and_the_first_success_opens_it(
    fleet: Fleet, wait_until: Any, fault: str
) -> None:
    await fleet.begin(BOTH, faults=(FAULTS[fault],))
    members = [await fleet.worker(gameye=QUICK) for _ in range(2)]
    ids = await fleet.send_many(30, regions=["europe"], timeout_seconds=60)
    await wait_until(lambda: any(set_aside(member) for member in members))
    # what was out when it was set aside has come back; from here on there are probes only
    await wait_until(lambda: not any(lane._out for member in members for lane in member.lanes()))
    before = fleet.posts("europe")
    await wait_until(lambda: fleet.posts("europe") >= before + 4, timeout_seconds=20)
    probes = [post.at_seconds for post in fleet.simulator.ledger.posts if post.location == "europe"][before:]
    if fault == "hangs":
        assert all(later - earlier >= 0.35 for earlier, later in pairwise(probes))
    assert sum(lane._out for member in members for lane in member.lanes()) <= 1
    assert not any("final" in answer for answer in await fleet.answers(ids))
    fleet.apply(BOTH)
    answers = await fleet.ended(*ids, seconds=15)
    assert {each["state"] for each in answers} == {"allocated"}
    assert any(member.seen(GateOpened) for member in members)
    await fleet.assert_one_session_each(ids)


async def test_a_match_that_can_go_elsewhere_never_probes_what_is_set_aside(fleet: Fleet) -> None:
    await fleet.begin(BOTH, faults=(FAULTS["fails"],))
    member = await fleet.worker()
    ids = await fleet.send_many(100)
    answers = await fleet.ended(*ids)
    assert {(each["state"], each["region"]) for each in answers} == {("allocated", "us-east")}
    assert set_aside(member)
    # a window of calls was out before the fifth came back, and no more followed
    assert fleet.posts("europe") <= 12 + DOUBTS_MAX
    await fleet.assert_one_session_each(ids)


async def test_repeats_stay_within_a_fifth_of_the_first_attempts_and_a_floor(fleet: Fleet, wait_until: Any) -> None:
    await fleet.begin({"europe": RegionSettings()}, faults=(StatusFault(status=500, probability=0.5, seed=2),))
    for _ in range(2):
        await fleet.worker(rates={"europe": 100})
    ids = await fleet.send_many(150, timeout_seconds=8)
    first = {session_id("tests", each, 1) for each in ids}
    await wait_until(lambda: first <= {post.id for post in fleet.simulator.ledger.posts}, timeout_seconds=8)
    answers = await fleet.ended(*ids, seconds=12)
    posts = fleet.simulator.ledger.posts
    begun, firsts, repeats = posts[0].at_seconds, 0, 0
    for post in posts:
        firsts += post.id in first
        repeats += post.id not in first
        seconds = post.at_seconds - begun
        assert repeats <= REPEATS_MAX + firsts * REPEATS_SHARE + seconds * REPEATS_A_SECOND + 1
    fleet.measured(f"{firsts} first attempts, {repeats} repeats")
    assert firsts == 150
    # the budget was used up, and the fifth was in it
    assert repeats >= REPEATS_MAX + 0.6 * 150 * REPEATS_SHARE
    ended = {each["state"] for each in answers}
    assert ended == {"allocated", "expired"}
    assert {each["error_code"] for each in answers if each["state"] == "expired"} <= {"unavailable", "deadline"}
    await fleet.assert_one_session_each(ids)


async def test_fallbacks_after_definite_refusals_take_nothing_out_of_the_budget(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fleet.begin({"europe": RegionSettings(closed=420), "us-east": RegionSettings()})
    member = await fleet.worker()
    asked: list[str] = []
    gate: Any = member.parts.gate

    async def may_repeat(*_: Any) -> bool:
        asked.append("repeat")
        return False

    monkeypatch.setattr(gate, "may_repeat", may_repeat)
    ids = await fleet.send_many(60)
    answers = await fleet.ended(*ids)
    assert {each["region"] for each in answers} == {"us-east"}
    assert any(len(json.loads(each["attempts"])) == 2 for each in answers)
    assert not asked
