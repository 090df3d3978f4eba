"""A cancellation at every stage of a request: when it is done, no server is left for that id."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from allocator.cli.main import app
from allocator.contract.codes import Code
from allocator.engine.observer import Finished, LeaseLost, Left, Refused, SessionStopped
from allocator.simulator.gameye import Late, LostReply, Operation, RegionSettings, StatusFault

if TYPE_CHECKING:
    from tests.cancel.conftest import Desk
    from tests.engine.conftest import Fleet

FULL = RegionSettings(capacity=0)
SLOW = RegionSettings(latency_ms=(400, 400))


async def test_a_cancellation_that_overtakes_its_request_wins(fleet: Fleet, desk: Desk) -> None:
    await fleet.begin()
    await fleet.worker()
    await desk.cancel("m-1")
    answer = await desk.until("m-1", "cancelled")
    assert (answer["final"], answer["request_id"]) == ("1", "m-1")
    assert await fleet.connection.execute("PTTL", fleet.keys.allocation("m-1")) > 7_000_000
    await fleet.send(id="m-1", reply_to="mm-7")
    await desk.all_done()
    assert fleet.posts() == 0
    assert await desk.states_told("m-1") == ["cancelled", "cancelled"]
    first, again = [json.loads(each["event"]) for each in await fleet.results("m-1")]
    assert first["id"] == again["id"]
    (told,) = await fleet.stream(fleet.keys.results_for("mm-7"))
    assert told["state"] == "cancelled"


@pytest.mark.parametrize("cancelled_first", [True, False])
async def test_a_request_and_its_cancellation_that_wait_together_leave_no_server(
    fleet: Fleet, desk: Desk, *, cancelled_first: bool
) -> None:
    await fleet.begin()
    await (await fleet.worker()).drain()
    if cancelled_first:
        await desk.cancel("m-1")
    await fleet.send(id="m-1")
    if not cancelled_first:
        await desk.cancel("m-1")
    await fleet.worker()
    await desk.until("m-1", "cancelled", "released")
    await desk.all_done()


async def test_a_waiting_request_is_let_go_at_once_and_leaves_its_lane(
    fleet: Fleet, desk: Desk, wait_until: Any
) -> None:
    await fleet.begin({"europe": FULL, "us-east": RegionSettings()})
    member = await fleet.worker(worker={"lease_seconds": 30})
    await fleet.send(id="m-1", regions=["europe"], reply_to="mm-7", context={"lobby": 4})

    async def told_to_wait() -> bool:
        return "error_code" in await fleet.answer("m-1")

    await wait_until(told_to_wait)
    await desk.cancel("m-1")
    answer = await desk.until("m-1", "cancelled")
    assert (answer["final"], answer["context"]) == ("1", '{"lobby":4}')
    assert "error_code" not in answer
    assert json.loads(answer["attempts"])[0]["outcome"] == "no_capacity"
    await wait_until(lambda: member.worker.held == 0)
    assert sum(lane.waiting for lane in member.lanes()) == 0
    await fleet.ended(*await fleet.send_many(3, "after", regions=["us-east"]))
    assert fleet.posts("europe") == 1
    assert await desk.states_told("m-1") == ["cancelled"]
    (told,) = await fleet.stream(fleet.keys.results_for("mm-7"))
    assert told["state"] == "cancelled"


async def test_a_session_that_appears_after_its_request_was_cancelled_is_stopped(
    fleet: Fleet, desk: Desk, wait_until: Any
) -> None:
    await fleet.begin({"europe": SLOW})
    member = await fleet.worker(rates={"europe": 1000}, worker={"lease_seconds": 30})
    ids = await fleet.send_many(10)
    await wait_until(lambda: fleet.posts() == 10)
    assert all(post.status is None for post in fleet.simulator.ledger.posts)
    await desk.cancel(*ids)
    for each in ids:
        await desk.until(each, "cancelled")
    await wait_until(lambda: len(fleet.simulator.ledger.sessions) == 10)
    await desk.all_done()
    await wait_until(lambda: member.worker.held == 0)
    assert fleet.posts() == 10
    assert [await desk.state(each) for each in ids] == ["cancelled"] * 10
    assert member.seen(LeaseLost) == []
    assert [event.why for event in member.seen(Left)] == ["cancelled"] * 10


@pytest.mark.parametrize("fault", [LostReply(), Late(after_seconds=0.6)])
async def test_a_lost_or_late_create_leaves_no_server_after_its_cancellation(
    fleet: Fleet, desk: Desk, wait_until: Any, fault: Any
) -> None:
    await fleet.begin({"europe": SLOW}, faults=(fault,))
    await fleet.worker(rates={"europe": 1000})
    await fleet.send(id="m-1")
    await wait_until(lambda: fleet.posts() == 1)
    await desk.cancel("m-1")
    await desk.until("m-1", "cancelled")
    await wait_until(lambda: fleet.simulator.ledger.sessions)
    await desk.all_done()
    assert fleet.posts() == 1
    assert await desk.states_told("m-1") == ["cancelled"]


async def test_an_allocated_one_is_stopped_and_becomes_released(fleet: Fleet, desk: Desk, wait_until: Any) -> None:
    await fleet.begin()
    member = await fleet.worker()
    ids = await fleet.send_many(3, reply_to="mm-7")
    before, *others = await fleet.ended(*ids)
    await desk.cancel("m-0")
    after = await desk.until("m-0", "released")
    assert {**after, "state": "allocated", "updated_at": before["updated_at"]} == before
    assert 0 < await fleet.connection.execute("PTTL", fleet.keys.allocation("m-0")) <= 7_200_000
    assert {session.id for session in fleet.alive()} == {each["session_id"] for each in others}
    (stopped,) = member.seen(SessionStopped)
    assert stopped.session_id == before["session_id"]
    assert await desk.states_told("m-0") == ["allocated", "released"]
    event = json.loads((await fleet.results("m-0"))[1]["event"])
    assert event["type"] == "allocator.allocation.released.v1"
    assert event["data"]["host"] == before["host"]
    told = [each["state"] for each in await fleet.stream(fleet.keys.results_for("mm-7")) if each["request_id"] == "m-0"]
    assert told == ["allocated", "released"]
    await wait_until(desk.settled)
    assert not await fleet.connection.execute("ZCARD", fleet.keys.condemned)


async def test_a_released_request_that_is_sent_again_gets_no_second_server(fleet: Fleet, desk: Desk) -> None:
    await fleet.begin()
    await fleet.worker()
    await fleet.send(id="m-1")
    await fleet.ended("m-1")
    await desk.cancel("m-1")
    await desk.until("m-1", "released")
    await fleet.send(id="m-1")
    await desk.all_done()
    assert fleet.posts() == 1
    assert await desk.states_told("m-1") == ["allocated", "released", "released"]


async def test_cancelling_again_changes_nothing(fleet: Fleet, desk: Desk, wait_until: Any) -> None:
    await fleet.begin({"europe": RegionSettings(), "us-east": FULL})
    await fleet.worker()
    await fleet.send(id="placed", regions=["europe"])
    await fleet.ended("placed")
    await fleet.send(id="waiting", regions=["us-east"])
    await wait_until(lambda: fleet.posts("us-east") >= 1)
    await desk.cancel("placed", "waiting", "unknown", "placed", "waiting", "unknown")
    await desk.until("placed", "released")
    await desk.until("waiting", "cancelled")
    await desk.until("unknown", "cancelled")
    await desk.cancel("placed", "waiting", "unknown")
    await desk.all_done()
    assert await desk.states_told("placed") == ["allocated", "released"]
    assert await desk.states_told("waiting") == ["cancelled"]
    assert await desk.states_told("unknown") == ["cancelled"]


async def test_one_that_has_ended_badly_stays_as_it_is(fleet: Fleet, desk: Desk, wait_until: Any) -> None:
    await fleet.begin()
    await fleet.worker()
    await fleet.send(id="m-1", regions=["nowhere"])
    (before,) = await fleet.ended("m-1")
    await desk.cancel("m-1")
    await wait_until(desk.settled)
    assert await fleet.answer("m-1") == before
    assert await desk.states_told("m-1") == ["failed"]


@pytest.mark.parametrize(
    ("fields", "said", "kept"),
    [
        (("name", "m-1"), "has no field 'id'", {"name": "m-1"}),
        (("id", ""), "the field 'id' is empty", {"id": ""}),
        (("id", "m 1", "code", "x"), "made of A-Z a-z 0-9 . _ : -", {"id": "m 1", "code": "x"}),
        (("id", "x" * 129), "holds 129 bytes", {"id": "x" * 129}),
        (("id", b"\xff", "request", "{}"), "made of A-Z", {"id": "\\xff", "request": "{}"}),
    ],
)
async def test_a_cancellation_that_names_no_id_becomes_a_dead_letter_and_holds_nobody_up(
    fleet: Fleet, desk: Desk, fields: tuple[Any, ...], said: str, kept: dict[str, str]
) -> None:
    await fleet.begin()
    member = await fleet.worker()
    entry_id = await fleet.connection.execute("XADD", fleet.keys.cancellations, "*", *fields)
    await desk.cancel("m-2")
    await desk.until("m-2", "cancelled")
    await desk.all_done()
    assert {each["request_id"] for each in await fleet.results()} == {"m-2"}
    (letter,) = await fleet.stream(fleet.keys.dead_letters)
    assert said in letter["message"]
    assert letter["message"].endswith(f"XADD {fleet.keys.cancellations} * id m-1")
    assert (letter["code"], letter["request_id"], letter["entry_id"]) == ("invalid_request", "", entry_id.decode())
    assert json.loads(letter["request"]) == kept
    assert member.seen(Refused) == [Refused(Code.INVALID_REQUEST, letter["message"], None, buried=True)]


async def test_a_person_sees_such_a_letter_and_cannot_replay_it(
    fleet: Fleet, desk: Desk, wait_until: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ("--set", f"redis.url={fleet.url}", "--set", f"namespace={fleet.keys.namespace}")

    async def dead_letters(*words: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, app, ["dead-letters", *words, *settings])

    await fleet.begin()
    await fleet.worker()
    await fleet.connection.execute("XADD", fleet.keys.cancellations, "*", "id", "m 1\x1b[2J")
    await wait_until(desk.settled)
    listed = await dead_letters("list", "--json")
    letter = json.loads(listed.stdout)
    assert (letter["code"], letter["request_id"], letter["stream"]) == (
        "invalid_request",
        None,
        fleet.keys.cancellations,
    )
    shown = await dead_letters("show", letter["entry_id"])
    assert shown.exit_code == 0
    assert "m 1" in shown.stdout
    assert "\x1b" not in shown.stdout
    replayed = await dead_letters("replay", letter["entry_id"])
    assert (replayed.exit_code, replayed.stdout) == (1, "")
    assert "is a cancellation that names no request: use 'allocator cancel ID'" in replayed.stderr
    assert (await dead_letters("list", "--json")).stdout
    assert await fleet.nothing_is_left()


async def test_a_stop_that_the_provider_fails_is_repeated_until_it_says_that_nothing_is_there(
    fleet: Fleet, desk: Desk
) -> None:
    await fleet.begin()
    await fleet.worker()
    await fleet.send(id="m-1")
    await fleet.ended("m-1")
    fleet.apply(faults=(StatusFault(status=503, on=(Operation.STOP,), times=2),))
    await desk.cancel("m-1")
    await desk.until("m-1", "released")
    await desk.all_done()
    assert await desk.states_told("m-1") == ["allocated", "released"]


async def test_another_worker_than_the_holder_carries_it_out_and_the_holder_lets_go(
    fleet: Fleet, desk: Desk, wait_until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fleet.begin({"europe": FULL})
    holder = await fleet.worker(rates={"europe": 1000}, worker={"lease_seconds": 30})
    await fleet.send(id="m-1")
    await wait_until(lambda: fleet.posts() >= 1)
    deaf = asyncio.Event()

    async def never(_count: int) -> list[Any]:
        deaf.set()
        return await asyncio.Event().wait() and []

    monkeypatch.setattr(holder.parts.aftermath, "orders", never)
    await deaf.wait()
    other = await fleet.worker(rates={"europe": 1000}, worker={"lease_seconds": 30})
    await desk.cancel("m-1")
    await desk.until("m-1", "cancelled")
    await wait_until(lambda: holder.worker.held == 0)
    await desk.all_done()
    assert [event.state for event in other.seen(Finished)] == ["cancelled"]
    assert holder.seen(Finished) == []
