"""Matches in by XADD, addresses out by HGETALL and the results streams: what a matchmaker is promised."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from allocator.contract.request import Priority
from allocator.engine.observer import Finished, LeaseLost, Received, Refused
from allocator.simulator.gameye import RegionSettings

if TYPE_CHECKING:
    from tests.engine.conftest import Fleet

ALWAYS = {"state", "final", "request_id", "priority", "context", "enqueued_at", "updated_at"}
ALLOCATED = {"allocated_at", "expires_at", "host", "ports", "endpoint", "region", "provider", "location", "session_id"}


async def test_every_match_gets_a_session_an_answer_and_an_announcement(fleet: Fleet, wait_until: Any) -> None:
    await fleet.begin()
    member = await fleet.worker()
    ids = [f"m-{number}" for number in range(300)]
    streams = list(Priority)
    for number, each in enumerate(ids):
        await fleet.send(
            streams[number % 3],
            id=each,
            regions=["europe"],
            env={"SECRET": "hunter2"},
            args=["--hunter2"],
            context={"n": number},
            reply_to=f"mm-{number % 7}",
        )
    answers = await fleet.ended(*ids)
    assert len(fleet.simulator.ledger.sessions) == 300
    await fleet.assert_one_session_each(ids)
    for number, (each, answer) in enumerate(zip(ids, answers, strict=True)):
        assert answer.keys() == ALWAYS | ALLOCATED | {"attempts"}
        assert (answer["state"], answer["final"], answer["request_id"]) == ("allocated", "1", each)
        assert answer["priority"] == streams[number % 3].value
        assert json.loads(answer["context"]) == {"n": number}
        (port,) = json.loads(answer["ports"])
        assert port == {"name": "7777/udp", "protocol": "udp", "container_port": 7777, "port": port["port"]}
        assert answer["endpoint"] == f"{answer['host']}:{port['port']}"
        assert (answer["region"], answer["provider"], answer["location"]) == ("europe", "gameye", "europe")
        assert int(answer["enqueued_at"]) <= int(answer["allocated_at"]) <= int(answer["updated_at"])
        assert int(answer["expires_at"]) - int(answer["allocated_at"]) == 4 * 3600 * 1000
        (attempt,) = json.loads(answer["attempts"])
        assert (attempt["outcome"], attempt["status"], attempt["region"]) == ("created", 201, "europe")
        assert "hunter2" not in json.dumps(answer)
    results = await fleet.results()
    assert sorted(each["request_id"] for each in results) == sorted(ids)
    for result in results:
        event = json.loads(result["event"])
        assert (event["specversion"], event["source"], result["state"]) == ("1.0", "/allocator/tests", "allocated")
        assert (event["type"], event["subject"]) == ("allocator.allocation.allocated.v1", result["request_id"])
        assert event["data"]["ports"][0]["container_port"] == 7777
    assert len({(each["request_id"], json.loads(each["event"])["id"]) for each in results}) == 300
    for number in range(7):
        replies = await fleet.stream(fleet.keys.results_for(f"mm-{number}"))
        assert {each["request_id"] for each in replies} == {each for i, each in enumerate(ids) if i % 7 == number}
    await wait_until(fleet.nothing_is_left)
    await wait_until(lambda: not member.worker.held)
    assert len(member.seen(Received)) == 300
    # one that is renewed in the moment of its commit is told as lost: see test_an_end_is_never_told_as_a_lost_lease
    assert len(member.seen(Finished)) + len(member.seen(LeaseLost)) == 300


async def test_no_two_matches_share_the_id_of_an_event(fleet: Fleet) -> None:
    await fleet.begin()
    for priority in Priority:
        body = json.dumps({"id": f"m-{priority.value}", "image": "game"})
        await fleet.connection.execute("XADD", fleet.keys.requests(priority), "2000000000000-0", "request", body)
    await fleet.worker()
    await fleet.ended(*(f"m-{priority.value}" for priority in Priority))
    assert len({json.loads(each["event"])["id"] for each in await fleet.results()}) == len(Priority)


async def test_the_same_request_sent_again_under_way_joins_the_first(fleet: Fleet, wait_until: Any) -> None:
    await fleet.begin({"europe": RegionSettings(latency_ms=(300, 300))})
    await fleet.worker(rates={"europe": 100})
    await fleet.send(id="m-1")
    await wait_until(lambda: fleet.posts() == 1)
    await fleet.send(id="m-1", reply_to="mm-2", timeout_seconds=30)
    await fleet.send(Priority.HIGH, id="m-1", traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01")
    (answer,) = await fleet.ended("m-1")
    await wait_until(fleet.nothing_is_left)
    assert answer["priority"] == "normal"
    assert fleet.posts() == 1
    assert [each["state"] for each in await fleet.results("m-1")] == ["allocated"]
    assert [each["request_id"] for each in await fleet.stream(fleet.keys.results_for("mm-2"))] == ["m-1"]


async def test_the_same_request_sent_again_after_its_end_is_announced_again_as_it_was(
    fleet: Fleet, wait_until: Any
) -> None:
    await fleet.begin()
    await fleet.worker()
    await fleet.send(id="m-1", context={"a": [1.5, "ü"]})
    await fleet.ended("m-1")
    await fleet.send(id="m-1", context={"a": [1.5, "ü"]}, timeout_seconds=7, reply_to="later")

    async def announced() -> bool:
        return len(await fleet.results("m-1")) == 2

    await wait_until(announced)
    first, second = await fleet.results("m-1")
    assert json.loads(first["event"]) == json.loads(second["event"])
    (reply,) = await fleet.stream(fleet.keys.results_for("later"))
    assert reply == second
    assert fleet.posts() == 1
    await wait_until(fleet.nothing_is_left)


async def test_a_match_whose_wait_would_pass_its_deadline_is_refused_at_once_and_served_when_it_is_sent_again(
    fleet: Fleet, wait_until: Any
) -> None:
    await fleet.begin({"europe": RegionSettings()})
    member = await fleet.worker(rates={"europe": 10})
    ids = await fleet.send_many(30, regions=["europe"], timeout_seconds=60)
    await wait_until(lambda: len(member.seen(Received)) == 30)
    entry_id = await fleet.send(id="late", regions=["europe"], timeout_seconds=1, context={"lobby": 7})
    await wait_until(lambda: member.seen(Refused), timeout_seconds=0.9)
    (told,) = await fleet.results("late")
    event = json.loads(told["event"])
    assert (told["state"], event["type"]) == ("refused", "allocator.request.refused.v1")
    assert (event["data"]["entry_id"], event["data"]["error_code"]) == (entry_id, "overloaded")
    assert 1000 < event["data"]["retry_after_ms"] <= 3000
    assert event["data"]["context"] == {"lobby": 7}
    assert await fleet.answer("late") == {}
    await fleet.send(id="late", regions=["europe"], timeout_seconds=60, context={"lobby": 7})
    answers = await fleet.ended("late", *ids)
    assert {each["state"] for each in answers} == {"allocated"}
    await fleet.assert_one_session_each(["late", *ids])


async def test_another_body_under_a_known_id_is_refused_and_the_first_stays(fleet: Fleet, wait_until: Any) -> None:
    await fleet.begin({"europe": RegionSettings(latency_ms=(200, 200))})
    member = await fleet.worker(rates={"europe": 100})
    await fleet.send(id="m-1")
    await wait_until(lambda: fleet.posts() == 1)
    under_way = await fleet.send(id="m-1", version="2", context=[1, "two"])
    (answer,) = await fleet.ended("m-1")
    after_end = await fleet.send(id="m-1", version="2", reply_to="mm")
    await wait_until(lambda: len(member.seen(Refused)) == 2)
    refused = [each for each in await fleet.results("m-1") if each["state"] == "refused"]
    events = [json.loads(each["event"]) for each in refused]
    assert [event["type"] for event in events] == ["allocator.request.refused.v1"] * 2
    assert [event["data"]["entry_id"] for event in events] == [under_way, after_end]
    assert [event["data"].get("context") for event in events] == [[1, "two"], None]
    assert {event["data"]["error_code"] for event in events} == {"id_conflict"}
    assert [each["state"] for each in await fleet.stream(fleet.keys.results_for("mm"))] == ["refused"]
    assert await fleet.answer("m-1") == answer
    assert fleet.posts() == 1
    await wait_until(fleet.nothing_is_left)


async def test_an_invalid_request_gets_its_context_back(fleet: Fleet) -> None:
    await fleet.begin()
    await fleet.worker()
    await fleet.send(id="m-1", regoins=["europe"], context={"lobby": 7})
    (answer,) = await fleet.ended("m-1")
    (told,) = await fleet.results("m-1")
    assert json.loads(answer["context"]) == json.loads(told["event"])["data"]["context"] == {"lobby": 7}
    await fleet.send(id="m-2", context="x" * 5000)  # nor is that kept which must not be
    assert "context" not in (await fleet.ended("m-2"))[0]


BAD = {
    "not JSON": b"{not json",
    "not UTF-8": b'{"id":"bad","image":"\xff"}',
    "not an object": b'["bad"]',
    "too large": b'{"id":"bad","image":"g","env":{"A":"' + b"x" * 70_000 + b'"}}',
    "too deep": b'{"id":"bad","image":"g","context":' + b"[" * 100 + b"]" * 100 + b"}",
    "far too deep": b"[" * 60_000,
    "unknown key": b'{"id":"bad","image":"g","regoins":["europe"]}',
    "wrong type": b'{"id":"bad","image":"g","env":{"PORT":7777}}',
    "no image": b'{"id":"bad"}',
    "empty env value": b'{"id":"bad","image":"g","env":{"A":""}}',
    "no regions": b'{"id":"bad","image":"g","regions":[]}',
    "half a surrogate": b'{"id":"bad","image":"\\ud800"}',
    "half a surrogate as a key": b'{"id":"bad","image":"g","\\ud800":1}',
    "half a surrogate in the context": b'{"id":"bad","image":"g","context":"\\udfff"}',
    "a huge number": b'{"id":"bad","image":"g","context":' + b"9" * 5000 + b"}",
    "not a number": b'{"id":"bad","image":"g","context":NaN}',
    "context too large": b'{"id":"bad","image":"g","context":"' + b"x" * 5000 + b'"}',
    "our own label": b'{"id":"bad","image":"g","labels":{"allocator":"x"}}',
    "bad ttl": b'{"id":"bad","image":"g","ttl":"soon"}',
    "bad id": b'{"id":"no blanks","image":"g"}',
    "empty": b"",
}
NAMED = {
    "unknown key": "regoins",
    "wrong type": "env.PORT",
    "no image": "image",
    "empty env value": "env.A",
    "no regions": "regions",
    "half a surrogate": "image",
    "context too large": "context",
    "our own label": "labels",
    "bad ttl": "ttl",
    "bad id": "id",
}


@pytest.mark.parametrize("read", ["in one batch", "one by one"])
async def test_a_bad_entry_is_answered_and_kept_and_its_neighbours_are_served(
    fleet: Fleet, wait_until: Any, read: str
) -> None:
    await fleet.begin()
    if read == "one by one":
        member = await fleet.worker()
    ids = []
    for number, (name, raw) in enumerate(BAD.items()):
        ids.append(f"good-{number}")
        await fleet.send(id=ids[-1])
        await fleet.send_bytes(raw.replace(b'"bad"', f'"bad-{number}"'.encode()), Priority(list(Priority)[number % 3]))
        assert name
    await fleet.connection.execute("XADD", fleet.keys.requests(Priority.NORMAL), "*", "other", "field")
    if read == "in one batch":
        member = await fleet.worker()
    for answer in await fleet.ended(*ids):
        assert answer["state"] == "allocated"
    await wait_until(fleet.nothing_is_left)
    letters = await fleet.connection.execute("XRANGE", fleet.keys.dead_letters, "-", "+")
    kept = [dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in letters]
    originals = {raw.replace(b'"bad"', f'"bad-{n}"'.encode()) for n, raw in enumerate(BAD.values())}
    assert {letter[b"request"] for letter in kept} == originals | {b""}
    assert {letter[b"code"] for letter in kept} == {b"invalid_request"}
    for number, name in enumerate(BAD):
        if name in NAMED:
            (letter,) = [
                each
                for each in kept
                if each[b"request"] == list(BAD.values())[number].replace(b'"bad"', f'"bad-{number}"'.encode())
            ]
            assert NAMED[name] in letter[b"message"].decode()
        if name in NAMED and name != "bad id":
            failed = await fleet.answer(f"bad-{number}")
            assert (failed["state"], failed["final"], failed["error_code"]) == ("failed", "1", "invalid_request")
            assert NAMED[name] in failed["error_message"]
            assert [each["state"] for each in await fleet.results(f"bad-{number}")] == ["failed"]
    assert len(member.seen(Refused)) == len(BAD) + 1


async def test_an_invalid_body_that_names_a_known_id_leaves_its_answer_as_it_is(fleet: Fleet, wait_until: Any) -> None:
    await fleet.begin()
    member = await fleet.worker()
    await fleet.send(id="m-1")
    (answer,) = await fleet.ended("m-1")
    await fleet.send(id="m-1", nonsense=1)
    await wait_until(lambda: len(member.seen(Refused)) == 1)
    assert await fleet.answer("m-1") == answer
    assert [each["state"] for each in await fleet.results("m-1")] == ["allocated", "refused"]


async def test_a_hash_that_was_tampered_with_costs_its_neighbours_nothing(fleet: Fleet, wait_until: Any) -> None:
    await fleet.begin()
    member = await fleet.worker()
    await fleet.send(id="m-1")
    await fleet.ended("m-1")
    await member.drain()
    await fleet.connection.execute("HSET", fleet.keys.allocation("m-1"), "attempts", "no JSON")
    await fleet.connection.execute("SET", fleet.keys.record("m-2"), "no hash", "EX", 60)
    for each in ("n-1", "m-1", "n-2", "m-2", "n-3"):
        await fleet.send(id=each)
    second = await fleet.worker()
    answers = await fleet.ended("n-1", "n-2", "n-3", seconds=0.9)
    assert {answer["state"] for answer in answers} == {"allocated"}
    await wait_until(lambda: len({event.where for event in second.events if hasattr(event, "where")}) == 2)
    second.events.clear()
    await fleet.connection.execute("HSET", fleet.keys.allocation("m-1"), "attempts", "[]")
    await fleet.connection.execute("DEL", fleet.keys.record("m-2"))
    await wait_until(fleet.nothing_is_left)
    second.events.clear()
