"""What is believed of a session that is looked up, listed or stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from allocator.providers.gameye.client import GameyeProvider
from allocator.providers.provider import (
    Absent,
    Created,
    Found,
    Gone,
    LookupFailed,
    Offered,
    SessionState,
    StartSpec,
    StopFailed,
    Stopped,
)

if TYPE_CHECKING:
    from tests.providers.conftest import RawHost

    Reply = Callable[..., bytes]

STARTED = {"id": "s-1", "host": "10.0.0.1", "ports": [{"type": "udp", "container": 7777, "host": 20113}]}
DESCRIBED: dict[str, Any] = {
    "id": "s-1",
    "image": "my-game",
    "tag": "v2",
    "location": "europe",
    "host": "10.0.0.1",
    "created": 1648472895000.0,
    "port": {"7777/udp": 20113},
    "status": "running",
    "labels": {"tags": '{"allocator":"test"}', "env": '{"DB":"x"}'},
    "players": {"joined": [], "joinedCount": 0},
}


def error(message: str = "No", details: str = "because", **more: Any) -> dict[str, Any]:
    return {"statusCode": 0, "code": "C", "message": message, "details": details, "identifier": "trace-8", **more}


async def test_a_session_is_read_alike_from_a_start_and_from_a_look_up(
    gameye: GameyeProvider, host: RawHost, reply: Reply
) -> None:
    ports = [("UDP", 7778, 2), ("tcp", 80, 3), ("tcp", 80, 3), ("udp", 7777, 1)]
    listed = [{"type": kind, "container": inside, "host": outside} for kind, inside, outside in ports]
    mapped = {f"{inside}/{kind}": outside for kind, inside, outside in ports}
    host.answer(
        reply(201, {**STARTED, "ports": listed, "new": {"field": 1}}),
        reply(200, {**DESCRIBED, "port": mapped, "new": 1}),
    )
    created = await gameye.start("s-1", "europe", StartSpec(image="my-game"), timeout_seconds=5)
    found = await gameye.find("s-1", timeout_seconds=5)
    assert isinstance(created, Created)
    assert isinstance(found, Found)
    assert created.session.ports == found.session.ports
    assert [port.name for port in found.session.ports] == ["80/tcp", "7777/udp", "7778/udp"]
    assert (found.session.mark, found.session.created_at_ms) == ("test", 1648472895000)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("created", SessionState.ALIVE),
        ("running", SessionState.ALIVE),
        ("restarting", SessionState.ALIVE),
        ("exited", SessionState.ENDED),
        ("dead", SessionState.ENDED),
        ("draining", SessionState.ENDED),
        ("shuttingdown", SessionState.ENDED),
        ("server_unreachable", SessionState.UNCLEAR),
        ("a state of next year", SessionState.UNCLEAR),
        (7, SessionState.UNCLEAR),
        (None, SessionState.UNCLEAR),
    ],
)
async def test_a_status_means_alive_ended_or_unclear(
    gameye: GameyeProvider, host: RawHost, reply: Reply, status: object, state: SessionState
) -> None:
    host.answer(reply(200, {**DESCRIBED, "status": status}))
    found = await gameye.find("s-1", timeout_seconds=5)
    assert isinstance(found, Found)
    assert found.session.state is state


async def test_a_proxys_404_is_no_absence(gameye: GameyeProvider, host: RawHost, reply: Reply) -> None:
    host.answer(reply(404, "<html><title>404 page not found</title></html>", content_type="text/html"))
    assert isinstance(await gameye.find("s-1", timeout_seconds=5), LookupFailed)
    assert isinstance(await gameye.stop("s-1", timeout_seconds=5), StopFailed)
    host.answer(reply(404, error()))
    assert await gameye.find("s-1", timeout_seconds=5) == Absent()
    assert await gameye.stop("s-1", timeout_seconds=5) == Gone()


@pytest.mark.parametrize(
    "broken",
    [{"host": None}, {"port": None}, {"port": {"7777": 1}}, {"port": {"7777/udp": 0}}, {"id": 7}, {"location": None}],
)
async def test_a_live_session_that_cannot_be_reached_is_a_failed_look_up(
    gameye: GameyeProvider, host: RawHost, reply: Reply, broken: dict[str, object]
) -> None:
    host.answer(reply(200, {**DESCRIBED, **broken}))
    found = await gameye.find("s-1", timeout_seconds=5)
    assert isinstance(found, LookupFailed)
    assert next(iter(broken)) in found.message


async def test_an_ended_session_needs_no_address(gameye: GameyeProvider, host: RawHost, reply: Reply) -> None:
    host.answer(reply(200, {**DESCRIBED, "status": "exited", "host": None, "port": None, "created": "?", "labels": 3}))
    found = await gameye.find("s-1", timeout_seconds=5)
    assert isinstance(found, Found)
    assert found.session.state is SessionState.ENDED


@pytest.mark.parametrize(("status", "kind"), [(204, Stopped), (409, Gone), (200, StopFailed), (500, StopFailed)])
async def test_a_stop_is_done_only_where_the_host_says_so(
    gameye: GameyeProvider, host: RawHost, reply: Reply, status: int, kind: type
) -> None:
    host.answer(reply(status, None if status == 204 else error()))
    assert isinstance(await gameye.stop("s-1", timeout_seconds=5), kind)
    assert (host.calls[0].method, host.calls[0].path) == ("DELETE", "/session/s-1")


async def test_a_list_holds_only_our_sessions_even_where_the_host_passes_the_filter_over(
    gameye: GameyeProvider, host: RawHost, reply: Reply
) -> None:
    listed = {key: value for key, value in DESCRIBED.items() if key not in {"status", "players"}}
    theirs = {**listed, "id": "s-2", "labels": {"tags": '{"allocator":"other"}'}}
    unmarked = {**listed, "id": "s-3", "labels": {"tags": "no json"}}
    host.answer(reply(200, {"sessions": [listed, theirs, unmarked]}))
    sessions = await gameye.list("test", timeout_seconds=5)
    assert not isinstance(sessions, LookupFailed)
    assert [(session.id, session.state) for session in sessions] == [("s-1", SessionState.ALIVE)]
    assert host.calls[0].path == "/session?filter%5Ballocator%5D=test"


async def test_names_are_quoted_into_paths_and_never_leave_them(
    gameye: GameyeProvider, host: RawHost, reply: Reply
) -> None:
    host.answer(reply(404, error()))
    await gameye.find("a/../b?c#d e", timeout_seconds=5)
    await gameye.offers("my/game", timeout_seconds=5)
    assert [call.path for call in host.calls] == ["/session/a%2F..%2Fb%3Fc%23d%20e", "/available-location/my%2Fgame"]
    assert isinstance(await gameye.stop("..", timeout_seconds=5), StopFailed)
    assert isinstance(await gameye.stop("", timeout_seconds=5), StopFailed)
    assert len(host.calls) == 2


async def test_offers_are_the_locations_that_the_host_lists(
    gameye: GameyeProvider, host: RawHost, reply: Reply
) -> None:
    host.answer(reply(200, {"locations": [{"id": "us-east", "ips": []}, {"id": "europe", "ips": ["1.2.3.4"]}]}))
    assert await gameye.offers("my/game", timeout_seconds=5) == Offered(frozenset({"us-east", "europe"}))
    assert host.calls[0].path == "/available-location/my%2Fgame"
    host.answer(reply(200, {"locations": []}))
    assert await gameye.offers("my-game", timeout_seconds=5) == Offered(frozenset())


async def test_offers_that_cannot_be_read_are_not_none_at_all(
    gameye: GameyeProvider, host: RawHost, reply: Reply
) -> None:
    host.answer(reply(404, error()), reply(200, {"locations": [{"ips": []}]}), reply(200, "<html>"), reply(503))
    for status in (404, 200, 200, 503):
        answer = await gameye.offers("my-game", timeout_seconds=5)
        assert isinstance(answer, LookupFailed)
        assert answer.status == status
    assert isinstance(await gameye.offers("..", timeout_seconds=5), LookupFailed)
