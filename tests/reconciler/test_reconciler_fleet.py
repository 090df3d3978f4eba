"""Never a stop of a session in play: real workers on real servers, a simulated Gameye, Redis flushed and shared."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from allocator.contract.keys import Keys
from allocator.contract.request import MARK, NAMESPACE_MARK, REQUEST_MARK, InvalidRequest, Priority, decode_request
from allocator.engine import worker as worker_module
from allocator.engine.observer import Reconciled, SessionStopped
from allocator.providers.gameye.wire import read_described
from allocator.providers.reading import Unreadable
from tests.reconciler.sightings import grow_old, land, look

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from tests.engine.conftest import Fleet, Member


def counts(told: Reconciled) -> dict[str, int]:
    return {kind: count for kind, count in told.orphans.items() if count}


async def send_to(fleet: Fleet, namespace: str, request_id: str) -> dict[str, str]:
    """Enqueue in another namespace and wait for the end there."""
    keys = Keys(namespace)
    body = json.dumps({"id": request_id, "image": "game"})
    await fleet.connection.execute("XADD", keys.requests(Priority.NORMAL), "*", "request", body)
    mine, fleet.keys = fleet.keys, keys
    try:
        (answer,) = await fleet.ended(request_id)
    finally:
        fleet.keys = mine
    return answer


async def several_turns(member: Member, fleet: Fleet, wait_until: WaitUntil) -> None:
    """Until the stopper has looked a few times since now: a condemned that it does not know is the sign."""
    for number in range(3):
        name = f"gameye/sign-{number}"
        await fleet.connection.execute("ZADD", fleet.keys.condemned, 0, name)

        async def looked_at(name: str = name) -> bool:
            due_ms = await fleet.connection.execute("ZSCORE", fleet.keys.condemned, name)
            return due_ms is not None and float(due_ms) > 0

        await wait_until(looked_at)
        await look(member, fleet)


async def test_a_session_says_which_request_it_serves(fleet: Fleet) -> None:
    await fleet.begin()
    member = await fleet.worker()
    await fleet.send(id="m-1", labels={"mode": "ranked"})
    await fleet.ended("m-1")
    (session,) = fleet.alive()
    ours = {MARK: "tests", REQUEST_MARK: "m-1", NAMESPACE_MARK: fleet.keys.namespace}
    assert session.labels == {"mode": "ranked", **ours}
    found = await member.parts.providers["gameye"].list("tests", timeout_seconds=3)
    assert isinstance(found, tuple)
    assert [(each.mark, each.request_id, each.namespace) for each in found] == [("tests", "m-1", fleet.keys.namespace)]


async def test_after_a_flush_nothing_in_play_is_stopped_and_a_request_sent_again_explains_its_server(
    fleet: Fleet, wait_until: WaitUntil
) -> None:
    await fleet.begin()
    member = await fleet.worker()
    ids = await fleet.send_many(8)
    await fleet.ended(*ids)
    assert counts(await look(member, fleet)) == {}
    grow_old(fleet)
    playing = {session.id for session in fleet.alive()}
    await fleet.connection.execute("FLUSHALL")
    await wait_until(lambda: fleet.connection.execute("EXISTS", fleet.keys.history))
    assert counts(await look(member, fleet)) == {"unexplained": 8}
    await several_turns(member, fleet, wait_until)
    assert {session.id for session in fleet.alive()} == playing
    assert member.seen(SessionStopped) == []
    await fleet.send_many(8)
    await fleet.ended(*ids)
    assert counts(await look(member, fleet)) == {}
    assert {session.id for session in fleet.alive()} == playing


async def test_two_deployments_on_one_account_never_touch_each_others_sessions(
    fleet: Fleet, wait_until: WaitUntil
) -> None:
    await fleet.begin()
    ours = await fleet.worker()
    theirs = await fleet.worker(deployment="theirs", namespace="theirs")
    await fleet.send(id="m-1")
    await fleet.ended("m-1")
    await send_to(fleet, "theirs", "m-1")
    grow_old(fleet)
    playing = {session.id for session in fleet.alive()}
    assert len(playing) == 2
    assert counts(await look(ours, fleet)) == counts(await look(theirs, fleet)) == {}
    await fleet.connection.execute("DEL", fleet.keys.record("m-1"), fleet.keys.allocation("m-1"))
    assert counts(await look(ours, fleet)) == {"unexplained": 1}
    assert counts(await look(theirs, fleet)) == {}
    await several_turns(ours, fleet, wait_until)
    assert {session.id for session in fleet.alive()} == playing


async def test_two_namespaces_of_one_deployment_never_touch_each_others_sessions(
    fleet: Fleet, wait_until: WaitUntil
) -> None:
    await fleet.begin()
    one = await fleet.worker()
    other = await fleet.worker(namespace="other")
    await fleet.send(id="m-1")
    await fleet.ended("m-1")
    await send_to(fleet, "other", "m-2")
    grow_old(fleet)
    playing = {session.id for session in fleet.alive()}
    assert len(playing) == 2
    assert counts(await look(one, fleet)) == counts(await look(other, fleet)) == {}
    await several_turns(one, fleet, wait_until)
    assert {session.id for session in fleet.alive()} == playing


async def test_a_session_that_its_requests_record_contradicts_is_counted_and_left_alone(
    fleet: Fleet, wait_until: WaitUntil
) -> None:
    await fleet.begin()
    member = await fleet.worker()
    await fleet.send(id="m-1")
    (answer,) = await fleet.ended("m-1")
    await land(member, fleet, "stray", "m-1")
    assert counts(await look(member, fleet)) == {"superseded": 1}
    await several_turns(member, fleet, wait_until)
    assert {session.id for session in fleet.alive()} == {"stray", answer["session_id"]}


async def test_a_condemned_session_that_lives_is_stopped_at_once_and_in_observe_mode_never(
    fleet: Fleet, wait_until: WaitUntil
) -> None:
    await fleet.begin()
    watching = await fleet.worker(reconciler={"mode": "observe"})
    await land(watching, fleet, "condemned", "m-1")
    in_an_hour = watching.parts.broker.now_ms() + 3_600_000
    await fleet.connection.execute("ZADD", fleet.keys.condemned, in_an_hour, "gameye/condemned")
    note = f"{in_an_hour - 3_600_000} start answered 504"
    await fleet.connection.execute("HSET", fleet.keys.condemned_notes, "gameye/condemned", note)
    assert (await look(watching, fleet)).condemned_alive == 1
    await several_turns(watching, fleet, wait_until)
    assert len(fleet.alive()) == 1
    await watching.drain()
    member = await fleet.worker()
    assert (await look(member, fleet)).condemned_alive == 1
    await wait_until(lambda: not fleet.alive())


async def test_in_observe_mode_a_release_is_carried_out(fleet: Fleet, wait_until: WaitUntil) -> None:
    await fleet.begin()
    await fleet.worker(reconciler={"mode": "observe"})
    await fleet.send(id="m-1")
    await fleet.ended("m-1")
    await fleet.connection.execute("XADD", fleet.keys.cancellations, "*", "id", "m-1")
    await wait_until(lambda: not fleet.alive())


async def test_every_worker_tells_of_the_pass_that_one_of_them_made(
    fleet: Fleet, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "RECONCILE_SECONDS", 0.1)
    await fleet.begin()
    first = await fleet.worker()
    await land(first, fleet, "stray", "m-1")
    grow_old(fleet)
    members = [first, await fleet.worker()]
    await wait_until(lambda: all(member.seen(Reconciled) for member in members))
    told = [event for member in members for event in member.seen(Reconciled)]
    assert {(event.orphans["unexplained"], event.orphans["superseded"]) for event in told} == {(1, 0)}
    assert sum(event.passed for event in told) == 1


@pytest.mark.parametrize("label", [MARK, REQUEST_MARK, NAMESPACE_MARK])
def test_a_request_cannot_set_a_label_of_ours(label: str) -> None:
    decoded = decode_request(json.dumps({"id": "m-1", "image": "g", "labels": {label: "x"}}).encode())
    assert isinstance(decoded, InvalidRequest)
    assert label in decoded.message


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ('{"allocator":"d","allocator_request":"m-1","allocator_namespace":"n"}', ("d", "m-1", "n")),
        ('{"allocator":"d"}', ("d", None, None)),
        ('{"allocator":"d","allocator_request":7,"allocator_namespace":["n"]}', ("d", None, None)),
        ("[]", (None, None, None)),
        ("no json", (None, None, None)),
    ],
)
def test_labels_are_read_as_far_as_they_are_text(tags: str, expected: tuple[Any, ...]) -> None:
    body = {"id": "s", "image": "g", "location": "l", "status": "exited", "labels": {"tags": tags}}
    session = read_described(json.dumps(body).encode())
    assert not isinstance(session, Unreadable)
    assert (session.mark, session.request_id, session.namespace) == expected
