"""The HTTP door before real workers: what each verb answers, who is let in, what a fault of Redis or a sender costs."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import jsonschema
import pytest
from prometheus_client import CollectorRegistry

from allocator.contract.openapi import ALLOCATIONS, openapi_document
from allocator.contract.request import REQUEST_BYTES_MAX, Priority
from allocator.engine.observer import Received
from allocator.service import api
from allocator.service.api import Answers, open_api
from allocator.service.door import AddressError, Door
from allocator.service.settings_model import Settings

if TYPE_CHECKING:
    from tests.conftest import TestServer, WaitUntil
    from tests.engine.conftest import Fleet

TOKEN = "a-token-of-the-door"
MATCH = {"id": "m-1", "image": "game", "regions": ["europe"]}


@dataclass(frozen=True)
class Reply:
    status: int
    body: dict[str, Any]
    headers: dict[str, str]


class Asker:
    """Who asks a door by its token, as any HTTP client would."""

    def __init__(self, door: Door, http: aiohttp.ClientSession) -> None:
        self.door = door
        self._http = http

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = f"Bearer {TOKEN}",
        encoding: str | None = None,
    ) -> Reply:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        given = {"Authorization": token, "Content-Encoding": encoding}
        headers = {name: value for name, value in given.items() if value is not None}
        async with self._http.request(method, f"{self.door.url}{path}", data=data, headers=headers) as reply:
            assert reply.content_type == "application/json"
            answer = Reply(reply.status, await reply.json(), dict(reply.headers))
        assert_described(method, path.partition("?")[0], answer)
        return answer

    async def post(self, body: Any, query: str = "") -> Reply:
        return await self.ask("POST", f"/v1/allocations{query}", body)

    async def get(self, request_id: str, query: str = "") -> Reply:
        return await self.ask("GET", f"/v1/allocations/{request_id}{query}")

    async def delete(self, request_id: str, query: str = "") -> Reply:
        return await self.ask("DELETE", f"/v1/allocations/{request_id}{query}")


def assert_described(method: str, path: str, reply: Reply) -> None:
    """The OpenAPI document knows this answer to this question; what it does not know is no path of the door."""
    document = openapi_document()
    name = path.removeprefix(ALLOCATIONS).removeprefix("/")
    operations = document["paths"].get(f"{ALLOCATIONS}/{{id}}" if name else path, {})
    if "/" in name or method.lower() not in operations:
        assert reply.status in {401, 404, 405}
        return
    described = operations[method.lower()]["responses"][str(reply.status)]
    schema = {**described["content"]["application/json"]["schema"], "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(reply.body)
    assert described.get("headers", {}).keys() <= reply.headers.keys()


def is_asked_by(door: Door, count: int) -> bool:
    """Whether so many wait for an answer."""
    return len(door._asking) == count


Opens = Callable[..., Any]


@pytest.fixture
async def opens(namespace: str) -> AsyncIterator[Opens]:
    """Opens a door on the Redis of a URL; all are closed afterwards."""
    async with AsyncExitStack() as stack:

        async def opened(url: str, **table: Any) -> Asker:
            api_table = {"port": 0, "token": TOKEN, **table}
            settings = Settings(deployment="tests", namespace=namespace, redis={"url": url}, api=api_table)
            door = await stack.enter_async_context(open_api(settings, CollectorRegistry(), learn=lambda _token: None))
            assert door is not None
            return Asker(door, await stack.enter_async_context(aiohttp.ClientSession()))

        yield opened


@pytest.fixture
async def asker(opens: Opens, redis_url: str, fleet: Fleet) -> Asker:
    """A door beside a fleet with one worker to come."""
    await fleet.begin()
    asker: Asker = await opens(redis_url)
    return asker


async def test_a_match_is_asked_for_waited_for_and_stopped_by_http_alone(
    asker: Asker, fleet: Fleet, wait_until: WaitUntil
) -> None:
    await fleet.worker()
    posted = await asker.post({**MATCH, "context": {"lobby": 7}})
    assert (posted.status, posted.headers["Location"]) == (202, "/v1/allocations/m-1")
    assert posted.body["request_id"] == "m-1"
    told = await asker.get("m-1", "?wait=30")
    assert (told.status, told.body["state"], told.body["final"]) == (200, "allocated", True)
    assert told.body["context"] == {"lobby": 7}
    assert told.body["endpoint"] == f"{told.body['host']}:{told.body['ports'][0]['port']}"
    (event,) = await fleet.results("m-1")
    assert told.body == json.loads(event["event"])["data"]
    stopped = await asker.delete("m-1")
    assert (stopped.status, stopped.body) == (202, {"request_id": "m-1"})

    async def released() -> bool:
        return bool((await asker.get("m-1")).body["state"] == "released")

    await wait_until(released)
    assert fleet.alive() == []


async def test_a_delete_that_waits_says_when_no_server_is_left(asker: Asker, fleet: Fleet) -> None:
    assert (await asker.delete("m-1", "?wait=0.05")).status == 202  # no worker is there to carry it out
    await fleet.worker()
    gone = await asker.delete("m-1", "?wait=30")
    assert (gone.status, gone.body["state"]) == (200, "cancelled")
    await asker.post({**MATCH, "id": "m-2"})
    assert (await asker.get("m-2", "?wait=30")).body["state"] == "allocated"
    gone = await asker.delete("m-2", "?wait=30")
    assert (gone.status, gone.body["state"]) == (200, "released")
    assert fleet.alive() == []


async def test_the_same_again_is_200_and_makes_no_second_server(asker: Asker, fleet: Fleet) -> None:
    await fleet.worker()
    assert (await asker.post(MATCH)).status == 202
    assert (await asker.post(MATCH)).status == 200
    await fleet.ended("m-1")
    again = await asker.post({**MATCH, "timeout_seconds": 9})
    assert (again.status, again.body["state"]) == (200, "allocated")
    assert fleet.posts() == 1


async def test_many_that_send_one_match_at_once_get_one_server(asker: Asker, fleet: Fleet) -> None:
    await fleet.worker()
    replies = await asyncio.gather(*(asker.post(MATCH) for _ in range(20)))
    assert sorted(reply.status for reply in replies) == [200] * 19 + [202]
    ends = await asyncio.gather(*(asker.get("m-1", "?wait=30") for _ in range(20)))
    assert len({end.body["session_id"] for end in ends}) == 1
    assert fleet.posts() == 1


async def test_another_body_under_a_known_id_is_409_and_the_first_stays(asker: Asker, fleet: Fleet) -> None:
    await fleet.worker()
    await asker.post(MATCH)
    refused = await asker.post({**MATCH, "image": "other"})
    assert (refused.status, refused.body["error_code"]) == (409, "id_conflict")
    assert (await asker.get("m-1", "?wait=30")).body["state"] == "allocated"


async def test_an_overloaded_fleet_is_429_with_retry_after_and_takes_the_same_later(
    asker: Asker, fleet: Fleet, wait_until: WaitUntil
) -> None:
    member = await fleet.worker(rates={"europe": 10})
    ids = await fleet.send_many(30, "n", regions=["europe"], timeout_seconds=60)
    await wait_until(lambda: len(member.seen(Received)) == 30)
    refused = await asker.post({**MATCH, "timeout_seconds": 1})
    assert (refused.status, refused.body["error_code"]) == (429, "overloaded")
    assert 1000 < refused.body["retry_after_ms"] <= 3000
    assert refused.headers["Retry-After"] in {"2", "3"}
    assert (await asker.get("m-1")).status == 404
    assert (await asker.post({**MATCH, "timeout_seconds": 60})).status == 202
    await fleet.ended("m-1", *ids)


async def test_a_match_that_no_worker_takes_up_is_in_redis_and_served_when_one_comes(
    asker: Asker, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "TAKE_UP_SECONDS", 0.05)
    posted = await asker.post(MATCH, "?priority=high")
    assert (posted.status, posted.body["state"], posted.body["priority"]) == (202, "queued", "high")
    assert (await asker.post(MATCH, "?priority=high")).status == 202  # it may still be refused, so not yet 200
    assert len(await fleet.stream(fleet.keys.requests(Priority.HIGH))) == 2
    waited = await asker.get("m-1", "?wait=0.05")
    assert (waited.status, waited.body["state"]) == (200, "queued")
    await fleet.worker()
    assert (await asker.get("m-1", "?wait=30")).body["state"] == "allocated"
    assert fleet.posts() == 1


async def test_another_body_that_nobody_has_compared_yet_is_never_told_of_the_firsts_server(
    asker: Asker, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "TAKE_UP_SECONDS", 0.05)
    member = await fleet.worker()
    await asker.post(MATCH)
    await fleet.ended("m-1")
    await member.drain()
    posted = await asker.post({**MATCH, "image": "other"})
    assert (posted.status, posted.body) == (202, {"request_id": "m-1", "state": "queued"})


async def test_two_bodies_of_one_id_on_two_streams_are_told_apart(asker: Asker, fleet: Fleet) -> None:
    await fleet.worker()
    for number in range(10):
        bodies = [{**MATCH, "id": f"m-{number}", "image": image} for image in ("g", "h")]
        asked = [(body, f"?priority={priority}") for body in bodies for priority in ("high", "normal", "low")]
        replies = await asyncio.gather(*(asker.post(*each) for each in asked))
        refused = [body["image"] for (body, _), reply in zip(asked, replies, strict=True) if reply.status == 409]
        assert refused in (["g"] * 3, ["h"] * 3), [reply.status for reply in replies]


async def test_a_wait_ends_with_its_connection(asker: Asker, fleet: Fleet, wait_until: WaitUntil) -> None:
    waiting = asyncio.create_task(asker.get("m-1", "?wait=60"))
    await wait_until(lambda: asker.door._asking)
    waiting.cancel()
    await wait_until(lambda: not asker.door._asking)


async def test_a_body_that_unpacks_to_much_is_not_unpacked(asker: Asker) -> None:
    packed = gzip.compress(json.dumps(MATCH).encode())
    for token, status in ((None, 401), (f"Bearer {TOKEN}", 400)):
        reply = await asker.ask("POST", "/v1/allocations", packed, token=token, encoding="gzip")
        assert reply.status == status


async def test_a_cancelled_id_that_comes_later_stays_cancelled(asker: Asker, fleet: Fleet) -> None:
    await fleet.worker()
    assert (await asker.delete("m-1")).status == 202
    await fleet.ended("m-1")
    posted = await asker.post(MATCH)
    assert (posted.status, posted.body["state"]) == (200, "cancelled")
    assert fleet.posts() == 0


BASIC = f"Basic {base64.b64encode(f'user:{TOKEN}'.encode()).decode()}"


@pytest.mark.parametrize("token", [None, "Bearer", "Bearer wrong", BASIC, TOKEN, "Bearer tök"])
async def test_who_has_not_the_token_learns_and_changes_nothing(asker: Asker, fleet: Fleet, token: str | None) -> None:
    for method, path in (("POST", ""), ("GET", "/m-1"), ("DELETE", "/m-1"), ("GET", "/../../secret")):
        reply = await asker.ask(method, f"/v1/allocations{path}", MATCH if method == "POST" else None, token=token)
        assert (reply.status, reply.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert "api.token" in reply.body["error_message"]
    assert await fleet.stream(fleet.keys.requests(Priority.NORMAL)) == []
    assert await fleet.stream(fleet.keys.cancellations) == []


@pytest.mark.parametrize(
    ("body", "query", "says"),
    [
        (b"{", "", "not JSON"),
        (b"\xff", "", "not UTF-8"),
        ({"image": "game"}, "", "id"),
        ({**MATCH, "reigons": []}, "", "reigons: unknown key"),
        (MATCH, "?priority=urgent", "priority: must be one of high, normal, low"),
        (MATCH, "?prio=high", "unknown key 'prio'; 'priority' is known"),
    ],
)
async def test_a_bad_request_is_400_names_what_is_wrong_and_is_not_sent(
    asker: Asker, fleet: Fleet, body: Any, query: str, says: str
) -> None:
    refused = await asker.post(body, query)
    assert (refused.status, refused.body["error_code"]) == (400, "invalid_request")
    assert says in refused.body["error_message"]
    assert await fleet.stream(fleet.keys.requests(Priority.NORMAL)) == []


async def test_what_cannot_be_asked_is_said_with_what_can(asker: Asker) -> None:
    large = await asker.post(b'{"id":"' + b"x" * REQUEST_BYTES_MAX + b'"}')
    assert (large.status, str(REQUEST_BYTES_MAX) in large.body["error_message"]) == (413, True)
    unknown = await asker.get("m-1")
    assert (unknown.status, "not known" in unknown.body["error_message"]) == (404, True)
    assert (await asker.get("m-1", "?wait=0.05")).status == 404
    assert (await asker.get("an%20id")).status == 400
    for seconds in ("61", "-1", "nan", "soon"):
        assert "wait: must be 0 to 60" in (await asker.get("m-1", f"?wait={seconds}")).body["error_message"]
    lost = await asker.ask("GET", "/v2/allocations")
    assert (lost.status, "/v1/allocations" in lost.body["error_message"]) == (404, True)
    wrong = await asker.ask("PUT", "/v1/allocations/m-1")
    assert (wrong.status, set(wrong.headers["Allow"].split(","))) == (405, {"DELETE", "GET"})


async def test_a_door_that_closes_tells_who_waits_how_their_match_stands(
    fleet: Fleet, redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    monkeypatch.setattr(api, "TAKE_UP_SECONDS", 0.05)
    made: list[Answers] = []

    def answers(*given: Any) -> Answers:
        made.append(Answers(*given))
        return made[0]

    monkeypatch.setattr(api, "Answers", answers)
    settings = Settings(
        deployment="tests", namespace=namespace, redis={"url": redis_url}, api={"port": 0, "token": TOKEN}
    )
    async with aiohttp.ClientSession() as http:
        async with open_api(settings, CollectorRegistry(), learn=lambda _token: None) as door:
            assert door is not None
            asker = Asker(door, http)
            await asker.post(MATCH)
            waiting = [asyncio.create_task(asker.get("m-1", "?wait=60")) for _ in range(3)]
            await wait_until(lambda: len(made[0]._waits) == 3)
        for reply in await asyncio.gather(*waiting):
            assert (reply.status, reply.body["state"]) == (200, "queued")
    await fleet.begin()
    await fleet.worker()
    await fleet.ended("m-1")


async def test_while_redis_is_away_the_answer_is_503_and_it_serves_again_afterwards(
    private_server: TestServer, opens: Opens, wait_until: WaitUntil
) -> None:
    asker: Asker = await opens(private_server.url)
    assert (await asker.get("m-1")).status == 404
    private_server.kill()
    for reply in (await asker.get("m-1"), await asker.post(MATCH), await asker.delete("m-1")):
        assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
        assert "send the same again" in reply.body["error_message"]
        assert "redis://" not in reply.body["error_message"]  # whoever asks cannot mend it
    private_server.start()

    async def serves() -> bool:
        return (await asker.get("m-1")).status == 404

    await wait_until(serves, timeout_seconds=10)


async def test_a_token_file_that_changes_lets_in_by_the_new_token(
    opens: Opens, redis_url: str, tmp_path: Path, wait_until: WaitUntil
) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    asker: Asker = await opens(redis_url, token=None, token_file=file)
    assert (await asker.ask("GET", "/v1/allocations/m-1", token="Bearer first")).status == 404
    file.write_text("second\n")

    async def renewed() -> bool:
        return (await asker.ask("GET", "/v1/allocations/m-1", token="bearer second")).status == 404

    await wait_until(renewed)
    assert (await asker.ask("GET", "/v1/allocations/m-1", token="Bearer first")).status == 401


async def test_who_asks_nothing_gives_way_and_where_all_are_being_answered_the_next_is_told_to_come_again(
    opens: Opens, redis_url: str, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    monkeypatch.setattr(api, "CONNECTIONS_MAX", 3)
    asker: Asker = await opens(redis_url)
    port = asker.door.port
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    waiting = []
    for count, (reader, _) in enumerate(silent, 1):
        waiting.append(asyncio.create_task(asker.get("m-1", "?wait=30")))
        await wait_until(partial(is_asked_by, asker.door, count))
        assert await reader.read() == b""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    turned_away = await reader.read()
    assert turned_away.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1\r\n" in turned_away
    await fleet.begin()
    await fleet.worker()
    await fleet.send(**MATCH)
    assert {reply.body["state"] for reply in await asyncio.gather(*waiting)} == {"allocated"}
    assert (await asker.get("m-1")).status == 200
    for each in (writer, *(one for _, one in silent)):
        each.close()


async def test_a_port_in_use_names_the_setting(opens: Opens, redis_url: str) -> None:
    asker: Asker = await opens(redis_url)
    with pytest.raises(AddressError, match=r"api\.port \d+ is in use"):
        await opens(redis_url, port=asker.door.port)
