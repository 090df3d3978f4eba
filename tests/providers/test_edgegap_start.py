"""What Edgegap's provider sends for a start, and what it makes of each answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from allocator.contract.allocation import Port
from allocator.contract.request import Player
from allocator.providers.credential import FixedToken
from allocator.providers.edgegap import follower
from allocator.providers.edgegap.client import EdgegapProvider
from allocator.providers.edgegap.tags import key_tag
from allocator.providers.provider import (
    Absent,
    Broken,
    Created,
    CredentialRefused,
    Found,
    Gone,
    NoRoom,
    NotFound,
    Provider,
    Rejected,
    StartOutcome,
    StartSpec,
    StopFailed,
    Stopped,
    Unknown,
    Unreachable,
)
from tests.providers.backends import an_id, unpaced

if TYPE_CHECKING:
    from tests.providers.conftest import Call, RawHost

    Reply = Callable[..., bytes]

TOKEN = "token-of-the-account"
SECRET = "a very=secret/value"
S1 = an_id("s-1")
TAG = key_tag(S1)
SPEC = StartSpec(
    image="my-game",
    version="v2",
    env={"DB": SECRET},
    labels={"allocator": "mygame-prod", "allocator_request": "m-1", "allocator_namespace": "allocator", "mode": "duel"},
    ttl="4h",
    port_names={"7777/udp": "game"},
)
GAME = {"external": 31504, "internal": 7777, "protocol": "UDP", "name": "gameport", "link": "x", "tls_upgrade": False}
ROW = {
    "request_id": "f00d",
    "fqdn": "f00d.pr.edgegap.net",
    "public_ip": "192.0.2.7",
    "ready": True,
    "start_time": "2026-04-22 12:00:46.444265",
    "ports": {"gameport": GAME},
}
PAGE = {"total_count": 1, "pagination": {"has_next": False, "paginator": {"num_pages": 1}}}
VERSION = {"name": "v2", "is_active": True, "max_duration": 60}


@pytest.fixture
async def edgegap(host: RawHost, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EdgegapProvider]:
    monkeypatch.setattr(follower, "LOOK_SECONDS", 0.02)
    provider = EdgegapProvider(
        host.base_url,
        "studio",
        FixedToken(f"token {TOKEN}", "edgegap"),
        locations={"amsterdam": (52.37, 4.89)},
        pace=unpaced,
        hook_url="https://hooks.example/x",
    )
    yield provider
    await provider.close()


def answering(reply: Reply, deploy: bytes, row: dict[str, Any] | None = None) -> Callable[[Call], bytes]:
    """Answers a start with this, and the looks that follow with this row."""

    def respond(call: Call) -> bytes:
        if call.method == "POST":
            return deploy
        if call.path.startswith("/v1/app/"):
            return reply(200, VERSION)
        if call.path.startswith("/v1/status/"):
            return reply(200, {**ROW, "current_status": "Status.DEPLOYING", "app_name": "my-game", "ready": None})
        return reply(200, {**PAGE, "data": [] if row is None else [row]})

    return respond


async def start(provider: Provider, spec: StartSpec = SPEC, timeout_seconds: float = 5.0) -> StartOutcome:
    return await provider.start(S1, "amsterdam", spec, timeout_seconds=timeout_seconds)


async def refused(host: RawHost, edgegap: EdgegapProvider, answer: bytes, spec: StartSpec = SPEC) -> StartOutcome:
    host.answer(answer)
    return await start(edgegap, spec)


async def test_a_start_sends_what_was_asked_for_and_reads_the_address(
    edgegap: EdgegapProvider, host: RawHost, reply: Reply
) -> None:
    host.respond = answering(reply, reply(202, {"request_id": "f00d"}), ROW)
    outcome = await start(edgegap)
    assert isinstance(outcome, Created)
    session = outcome.session
    assert (session.id, session.native_id, session.host) == (S1, "f00d", "192.0.2.7")
    assert session.ports == (Port("game", "udp", 7777, 31504),)
    assert (session.location, session.image, session.ttl_seconds) == ("amsterdam", "my-game", 3600)
    (call,) = [call for call in host.calls if call.method == "POST"]
    assert (call.path, call.headers["Authorization"]) == ("/v2/deployments", f"token {TOKEN}")
    body = call.json
    assert (body["application"], body["version"]) == ("my-game", "v2")
    assert body["users"] == [{"user_type": "geo_coordinates", "user_data": {"latitude": 52.37, "longitude": 4.89}}]
    assert body["environment_variables"] == [{"key": "DB", "value": SECRET, "is_hidden": True}]
    assert set(body["tags"]) == {
        f"alloc-{S1.replace('-', '')}",
        "d0.mygame-prod",
        "n0.allocator",
        "r0.m-1",
        "l0.amsterdam",
    }
    hook = {"url": "https://hooks.example/x"}
    assert [body[f"webhook_on_{what}"] for what in ("ready", "error", "terminated")] == [hook] * 3
    assert not body.keys() & {"args", "labels", "ttl", "restart"}


async def test_players_are_placed_by_address_then_by_coordinates_then_where_the_location_is(
    edgegap: EdgegapProvider, host: RawHost, reply: Reply
) -> None:
    host.respond = answering(reply, reply(202, {"request_id": "f00d"}), ROW)
    players = (
        Player(ip="198.51.100.4", lat=1, lon=2),
        Player(lat=1.5, lon=-2.5),
        Player(ip="no address", lat=3, lon=4),
        Player(ip="no address"),
        Player(),
    )
    await start(edgegap, replace(SPEC, players=players))
    assert host.calls[0].json["users"] == [
        {"user_type": "ip_address", "user_data": {"ip_address": "198.51.100.4"}},
        {"user_type": "geo_coordinates", "user_data": {"latitude": 1.5, "longitude": -2.5}},
        {"user_type": "geo_coordinates", "user_data": {"latitude": 3, "longitude": 4}},
    ]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((400, {"message": "Field users is required"}), Rejected),
        ((400, {"message": "Application my-game not found"}), NotFound),
        ((400, {"message": "Invalid Application or Application Version"}), NotFound),
        ((400, {"message": "App version v2 is not active"}), NotFound),
        ((401, {"message": "Missing token"}), CredentialRefused),
        ((403, {"message": "Deleted token"}), CredentialRefused),
        ((420, {"message": "Slow down"}), NoRoom),
        ((429, {"message": "Slow down"}), NoRoom),
        ((404, {"message": "No such path"}), NotFound),
        ((422, {"message": "no request id"}), Unknown),
        ((500, {"message": "oops"}), Unknown),
        ((202, {"no": "request id"}), Unknown),
        ((200, {"request_id": "f00d"}), Unknown),
    ],
)
async def test_each_answer_has_one_meaning(
    edgegap: EdgegapProvider, host: RawHost, reply: Reply, answer: tuple[int, dict[str, Any]], kind: type
) -> None:
    outcome = await refused(host, edgegap, reply(*answer))
    assert isinstance(outcome, kind)
    assert len(host.calls) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 422])
async def test_a_proxys_refusal_leaves_the_outcome_unknown(
    edgegap: EdgegapProvider, host: RawHost, reply: Reply, status: int
) -> None:
    answer = reply(status, "<title>Blocked</title>", content_type="text/html")
    assert isinstance(await refused(host, edgegap, answer), Unknown)


async def test_what_found_no_room_is_named_as_left_behind_and_shuts_only_the_location_itself(
    edgegap: EdgegapProvider, host: RawHost, reply: Reply
) -> None:
    answer = reply(422, {"request_id": "f00d", "message": "could not allocate"})
    here = await refused(host, edgegap, answer)
    there = await refused(host, edgegap, answer, replace(SPEC, players=(Player(ip="198.51.100.4"),)))
    assert here == Broken(422, "could not allocate", is_full=True, closes=True, native_id="f00d")
    assert there == Broken(422, "could not allocate", is_full=True, closes=False, native_id="f00d")


async def test_a_503_asks_for_rest_for_as_long_as_it_says(
    edgegap: EdgegapProvider, host: RawHost, reply: Reply
) -> None:
    outcome = await refused(host, edgegap, reply(503, {"message": "away"}, {"Retry-After": "7"}))
    assert outcome == Unknown(503, "away", closes=True, retry_after_seconds=7)


async def test_a_host_that_is_not_there_was_never_called(unused_tcp_port: int) -> None:
    provider = EdgegapProvider(
        f"http://127.0.0.1:{unused_tcp_port}", "studio", FixedToken(TOKEN), locations={"amsterdam": (1, 2)}
    )
    outcome = await start(provider)
    assert isinstance(outcome, Unreachable)
    assert "edgegap.base_url" in outcome.message
    await provider.close()


async def test_no_message_repeats_a_secret(edgegap: EdgegapProvider, host: RawHost, reply: Reply) -> None:
    outcome: Any = await refused(host, edgegap, reply(400, {"message": f"bad {SECRET} under {TOKEN}"}))
    assert SECRET not in outcome.message
    assert TOKEN not in outcome.message
    assert TOKEN not in repr(edgegap)


async def test_what_is_not_ready_in_time_is_named_as_left_behind(
    edgegap: EdgegapProvider, host: RawHost, reply: Reply
) -> None:
    host.respond = answering(reply, reply(202, {"request_id": "f00d"}), {**ROW, "ready": False})
    outcome = await start(edgegap, timeout_seconds=0.2)
    assert isinstance(outcome, Broken)
    assert (outcome.native_id, outcome.is_full) == ("f00d", False)
    assert "edgegap.ready_timeout_seconds" in outcome.message


async def test_a_ready_one_that_does_not_say_where_it_is_is_looked_at_again(
    edgegap: EdgegapProvider, host: RawHost, reply: Reply
) -> None:
    host.respond = answering(reply, reply(202, {"request_id": "f00d"}), {**ROW, "public_ip": "", "fqdn": ""})
    assert isinstance(await start(edgegap, timeout_seconds=0.2), Broken)


async def test_a_version_that_is_told_too_late_costs_a_start_no_time_beyond_its_own(
    edgegap: EdgegapProvider, host: RawHost, reply: Reply, hang: Any
) -> None:
    answer = answering(reply, reply(202, {"request_id": "f00d"}), ROW)
    host.respond = lambda call: hang if call.path.startswith("/v1/app/") else answer(call)
    async with asyncio.timeout(3):
        outcome = await start(edgegap, timeout_seconds=0.5)
    assert isinstance(outcome, Created)
    assert outcome.session.ttl_seconds == 24 * 3600, "the longest that there is"


async def test_the_single_call_ends_in_its_own_time(edgegap: EdgegapProvider, host: RawHost, hang: Any) -> None:
    host.answer(hang)
    edgegap.timeout_seconds = 0.05
    async with asyncio.timeout(2):
        assert isinstance(await start(edgegap, timeout_seconds=30), Unknown)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (replace(SPEC, args=("-x",)), "args"),
        (replace(SPEC, own_ttl=True), "max_duration"),
        (replace(SPEC, version=None), "edgegap.version"),
    ],
)
async def test_what_the_host_cannot_do_is_known_without_a_call(
    edgegap: EdgegapProvider, host: RawHost, spec: StartSpec, why: str
) -> None:
    assert why in (edgegap.unsuited("amsterdam", spec) or "")
    assert isinstance(await start(edgegap, spec), NotFound)
    assert not host.calls


async def test_a_location_nobody_knows_suits_only_players_who_say_where_they_are(edgegap: EdgegapProvider) -> None:
    assert "edgegap.locations.mars" in (edgegap.unsuited("mars", SPEC) or "")
    assert edgegap.unsuited("mars", replace(SPEC, players=(Player(lat=1, lon=2),))) is None
    assert edgegap.unsuited("amsterdam", SPEC) is None


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("Status.SCANNING", StopFailed),
        ("Status.ERROR", Stopped),
        ("Status.READY", Stopped),
        ("Status.TERMINATING", Stopped),
        ("Status.SOMETHING_NEW", StopFailed),
    ],
)
async def test_a_stop_that_is_put_off_has_failed_for_now(
    edgegap: EdgegapProvider, host: RawHost, reply: Reply, state: str, kind: type
) -> None:
    status = {**ROW, "current_status": state, "app_name": "my-game"}
    host.respond = lambda call: reply(202, {"message": "soon"}) if call.method == "DELETE" else reply(200, status)
    assert isinstance(await edgegap.stop("f00d", timeout_seconds=5), kind)


@pytest.mark.parametrize("status", [400, 404])
async def test_a_hint_of_anything_harms_nothing(
    edgegap: EdgegapProvider, host: RawHost, reply: Reply, status: int
) -> None:
    for body in (b"", b"[]", b"\xff", b'{"request_id": 7}', json.dumps({"request_id": "never"}).encode()):
        edgegap.hear(body)
    host.answer(reply(status, {"message": "unknown"}))
    assert await edgegap.find("never", timeout_seconds=5) == Absent()


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        ([("d-1", False, "10"), ("d-2", True, "30"), ("d-3", True, "20")], "d-3"),
        ([("d-1", False, "20"), ("d-2", False, "10")], "d-2"),
        ([("d-2", True, "10"), ("d-1", True, "10")], "d-1"),
    ],
)
async def test_of_several_that_bear_an_id_all_who_look_find_the_same_one(
    edgegap: EdgegapProvider, host: RawHost, reply: Reply, rows: list[tuple[str, bool, str]], chosen: str
) -> None:
    def respond(call: Call) -> bytes:
        if call.path.startswith("/v1/status/"):
            request_id = call.path.rpartition("/")[2]
            return reply(200, {**ROW, "request_id": request_id, "current_status": "Status.READY", "app_name": "g"})
        data = [
            {**ROW, "request_id": name, "ready": ready, "start_time": f"2026-04-22 12:00:{second}", "tags": [TAG]}
            for name, ready, second in rows
        ]
        return reply(200, {**PAGE, "data": data})

    host.respond = respond
    found = await edgegap.find(S1, timeout_seconds=5)
    assert isinstance(found, Found)
    assert found.session.public_id == chosen


async def test_a_stop_by_our_id_ends_all_that_bear_it_and_is_done_when_each_is(
    edgegap: EdgegapProvider, host: RawHost, reply: Reply
) -> None:
    answers = {"d-1": reply(202, {"message": "soon"}), "d-2": reply(500, {"message": "oops"})}

    def respond(call: Call) -> bytes:
        if call.method == "DELETE":
            return answers[call.path.rpartition("/")[2]]
        return reply(200, {**PAGE, "data": [{**ROW, "request_id": name, "tags": [TAG]} for name in answers]})

    host.respond = respond
    assert isinstance(await edgegap.stop(S1, timeout_seconds=5), StopFailed)
    answers["d-2"] = reply(410, {"message": "terminated"})
    assert await edgegap.stop(S1, timeout_seconds=5) == Stopped()
    answers["d-1"] = reply(410, {"message": "terminated"})
    assert await edgegap.stop(S1, timeout_seconds=5) == Gone()
    assert sum(call.method == "DELETE" for call in host.calls) == 6
