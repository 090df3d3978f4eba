"""Answers that are lost, late or in doubt: one session at most lives for a match, and it is the one that was told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from allocator.contract.identity import session_id
from allocator.engine import stopper as stopper_module
from allocator.engine.observer import SessionStopped
from allocator.simulator.gameye import (
    Dropped,
    How,
    HtmlBody,
    Late,
    LostReply,
    MalformedBody,
    Operation,
    RegionSettings,
    Status,
    StatusFault,
    WarmPool,
)
from allocator.simulator.gameye.start_body import Asked

if TYPE_CHECKING:
    from tests.engine.conftest import Fleet


def start_elsewhere(fleet: Fleet, request_id: str, *, image: str = "game", generation: int = 1) -> str:
    """A session that was started for this request before Redis forgot it."""
    name = session_id("tests", request_id, generation)
    fields: dict[str, Any] = dict.fromkeys(Asked.__dataclass_fields__)
    fields |= {"id": name, "image": image, "location": "us-east", "env": {}, "args": (), "labels": {}, "restart": False}
    session = fleet.simulator.fleet.start(Asked(**fields))
    fleet.simulator.fleet.ready(session)  # type: ignore[arg-type]  # there is room
    return name


@pytest.mark.parametrize("how", [How.RESET, How.HANG])
async def test_a_lost_reply_never_starts_a_second_session(fleet: Fleet, how: How) -> None:
    await fleet.begin(faults=(LostReply(how=how),))
    await fleet.worker(gameye={"timeout_seconds": 0.3})
    ids = await fleet.send_many(40)
    answers = await fleet.ended(*ids)
    assert {answer["state"] for answer in answers} == {"allocated"}
    assert len(fleet.simulator.ledger.sessions) == 40
    assert fleet.posts() == 40
    for answer in answers:
        *unsent, attempt = json.loads(answer["attempts"])
        # on a slow machine a connection is not made in time: nothing has left then
        assert {each["outcome"] for each in unsent} <= {"unavailable"}
        assert (attempt["outcome"], attempt["status"]) == ("adopted", None)
        assert json.loads(answer["ports"])[0]["container_port"] == 7777
    await fleet.assert_one_session_each(ids)


async def test_a_reply_that_cannot_be_read_is_looked_up(fleet: Fleet) -> None:
    await fleet.begin(faults=(MalformedBody(),))
    await fleet.worker()
    ids = await fleet.send_many(10)
    answers = await fleet.ended(*ids)
    assert {json.loads(answer["attempts"])[0]["status"] for answer in answers} == {201}
    assert len(fleet.simulator.ledger.sessions) == 10
    await fleet.assert_one_session_each(ids)


@pytest.mark.parametrize("fault", [Dropped(times=20), HtmlBody(times=20), StatusFault(status=500, times=20)])
async def test_a_call_that_did_nothing_is_made_again_under_another_id(fleet: Fleet, fault: Any) -> None:
    await fleet.begin(faults=(fault,))
    await fleet.worker()
    ids = await fleet.send_many(20)
    answers = await fleet.ended(*ids)
    assert {answer["state"] for answer in answers} == {"allocated"}
    for answer, each in zip(answers, ids, strict=True):
        attempts = json.loads(answer["attempts"])
        assert [attempt["outcome"] for attempt in attempts[:-1]] == ["unknown"] * (len(attempts) - 1)
        assert answer["session_id"] == session_id("tests", each, len(attempts))
    await fleet.assert_one_session_each(ids)


async def test_a_session_that_lands_after_its_call_was_given_up_is_stopped_and_another_serves(
    fleet: Fleet, wait_until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopper_module, "PAUSE_FIRST_MS", 100)
    monkeypatch.setattr(stopper_module, "PAUSE_LAST_MS", 300)
    monkeypatch.setattr(stopper_module, "LANDING_HORIZON_MS", 2500)
    await fleet.begin(faults=(Late(after_seconds=1.2, times=10),))
    member = await fleet.worker()
    ids = await fleet.send_many(10)
    answers = await fleet.ended(*ids)
    assert {answer["state"] for answer in answers} == {"allocated"}
    await wait_until(lambda: len(fleet.simulator.ledger.sessions) == 20)
    await wait_until(lambda: len(member.seen(SessionStopped)) == 10)
    await fleet.assert_one_session_each(ids)

    async def none_condemned() -> bool:
        return not await fleet.connection.execute("ZCARD", fleet.keys.condemned)

    await wait_until(none_condemned)
    assert not await fleet.connection.execute("EXISTS", fleet.keys.condemned_notes)
    await fleet.assert_one_session_each(ids)


async def test_a_session_whose_server_is_unreachable_is_waited_for_and_nothing_else_is_started(
    fleet: Fleet, wait_until: Any
) -> None:
    await fleet.begin(faults=(LostReply(), StatusFault(status=502, on=(Operation.FIND,))))
    await fleet.worker()
    await fleet.send(id="m-1")
    await wait_until(lambda: fleet.simulator.ledger.sessions)
    (session,) = fleet.simulator.ledger.sessions
    fleet.simulator.fleet.set_status(session.id, Status.SERVER_UNREACHABLE)
    fleet.apply(faults=())
    ids = await fleet.send_many(5, "after")
    await fleet.ended(*ids)
    assert (await fleet.answer("m-1"))["state"] == "allocating"
    fleet.simulator.fleet.set_status(session.id, Status.RUNNING)
    (answer,) = await fleet.ended("m-1")
    assert (answer["state"], answer["session_id"]) == ("allocated", session.id)
    assert fleet.posts() == 6


async def test_a_session_that_ended_meanwhile_gives_way_to_a_new_one(fleet: Fleet) -> None:
    await fleet.begin()
    ended = start_elsewhere(fleet, "m-1")
    fleet.simulator.fleet.stop(ended)
    await fleet.worker()
    await fleet.send(id="m-1")
    (answer,) = await fleet.ended("m-1")
    assert answer["session_id"] == session_id("tests", "m-1", 2)
    await fleet.assert_one_session_each(["m-1"])


async def test_a_session_of_before_is_found_by_its_id_and_adopted_where_it_runs(fleet: Fleet) -> None:
    await fleet.begin()
    before = start_elsewhere(fleet, "m-1")
    await fleet.worker()
    await fleet.send(id="m-1", regions=["europe", "us-east"])
    (answer,) = await fleet.ended("m-1")
    assert (answer["state"], answer["session_id"]) == ("allocated", before)
    assert (answer["region"], answer["location"]) == ("us-east", "us-east")
    assert [each["outcome"] for each in json.loads(answer["attempts"])] == ["adopted"]
    assert len(fleet.simulator.ledger.sessions) == 1


async def test_a_live_session_of_another_image_is_refused_and_never_stopped(fleet: Fleet, wait_until: Any) -> None:
    await fleet.begin()
    start_elsewhere(fleet, "m-1", image="another")
    await fleet.worker()
    await fleet.send(id="m-1")
    (answer,) = await fleet.ended("m-1")
    assert (answer["state"], answer["error_code"]) == ("failed", "id_conflict")
    assert "another" in answer["error_message"]
    assert await fleet.connection.execute("ZCARD", fleet.keys.condemned) == 0
    assert len(fleet.alive()) == 1


async def test_what_may_land_after_the_deadline_is_stopped(
    fleet: Fleet, wait_until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopper_module, "PAUSE_FIRST_MS", 100)
    monkeypatch.setattr(stopper_module, "PAUSE_LAST_MS", 100)
    await fleet.begin(faults=(Late(after_seconds=1.0, how=How.HANG),))
    member = await fleet.worker(gameye={"timeout_seconds": 0.4})
    await fleet.send(id="m-1", timeout_seconds=0.4)
    (answer,) = await fleet.ended("m-1")
    assert (answer["state"], answer["error_code"]) == ("expired", "unavailable")
    await wait_until(lambda: member.seen(SessionStopped))
    assert not fleet.alive()
    assert "unavailable" in (await fleet.answer("m-1"))["error_code"]


async def test_a_session_of_a_warm_pool_is_recorded_by_the_id_it_bears(fleet: Fleet) -> None:
    pool = WarmPool(size=10, own_ids=True)
    await fleet.begin({"europe": RegionSettings(warm_pool=pool)})
    await fleet.worker(rates={"europe": 1000})
    ids = await fleet.send_many(5)
    await fleet.ended(*ids)
    await fleet.assert_one_session_each(ids)


async def test_no_answer_of_any_kind_ever_leaves_two_sessions(
    fleet: Fleet, wait_until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopper_module, "PAUSE_FIRST_MS", 100)
    monkeypatch.setattr(stopper_module, "PAUSE_LAST_MS", 200)
    await fleet.begin(
        faults=(
            LostReply(probability=0.15),
            Late(probability=0.15, after_seconds=0.5),
            Dropped(probability=0.1),
            MalformedBody(probability=0.1),
            StatusFault(probability=0.1, status=500),
            StatusFault(probability=0.1, status=502, on=(Operation.FIND, Operation.STOP)),
        ),
        seed=7,
    )
    for _ in range(2):
        await fleet.worker(gameye={"timeout_seconds": 1})
    ids = await fleet.send_many(120)
    answers = await fleet.ended(*ids, seconds=15)
    assert {answer["state"] for answer in answers} == {"allocated"}
    recorded = {answer["session_id"] for answer in answers}
    await wait_until(lambda: {session.id for session in fleet.alive()} == recorded, timeout_seconds=8)
    await fleet.assert_one_session_each(ids)
    assert len(recorded) == 120
