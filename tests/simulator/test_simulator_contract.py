"""Every answer of the simulated Gameye has the shape that the vendor's OpenAPI description gives it."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import pytest
import yaml

from allocator.simulator.gameye import (
    GameyeSimulator,
    ImageSettings,
    RegionSettings,
    SimulatorSettings,
    Status,
    StatusFault,
)
from allocator.simulator.gameye.settings import Scope

DESCRIPTION = Path(__file__).resolve().parents[3] / "shared" / "specs" / "gameye-session-openapi.yaml"
pytestmark = pytest.mark.skipif(
    not DESCRIPTION.exists(), reason=f"the vendor's description is not here: save it as {DESCRIPTION}"
)

GOOD = {"Authorization": "Bearer secret"}
START = {"location": "europe", "image": "arena", "id": "m-1", "version": "v2", "ttl": "2h30m", "external_id": "x"}
SETTINGS: dict[str, Any] = {
    "token": "secret",
    "images": {"arena": ImageSettings(tags=("v2", "v1"), ports=("7777/udp", "80/tcp"))},
    "regions": {"europe": RegionSettings()},
}


class Described:
    """The vendor's API as its description has it: which statuses a path has, and what each of them holds."""

    def __init__(self) -> None:
        self.document = yaml.safe_load(DESCRIPTION.read_text(encoding="utf-8"))

    def statuses(self, method: str, path: str) -> dict[int, Any]:
        return {int(status): answer for status, answer in self.document["paths"][path][method]["responses"].items()}

    def check(self, method: str, path: str, status: int, body: Any) -> None:
        answer = self.statuses(method, path)[status]
        schema = answer["content"]["application/json"]["schema"]
        jsonschema.Draft7Validator({**schema_root(self.document), "allOf": [schema]}).validate(body)

    def check_component(self, name: str, body: Any) -> None:
        root = schema_root(self.document)
        jsonschema.Draft7Validator({**root, "allOf": [{"$ref": f"#/components/schemas/{name}"}]}).validate(body)


def schema_root(document: dict[str, Any]) -> dict[str, Any]:
    return {"components": document["components"]}


@pytest.fixture(scope="module")
def described() -> Described:
    return Described()


@pytest.fixture
async def simulator() -> AsyncIterator[GameyeSimulator]:
    async with GameyeSimulator(SimulatorSettings(**SETTINGS)) as simulator:
        yield simulator


@pytest.fixture
async def http(simulator: GameyeSimulator) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(simulator.base_url, headers=GOOD) as http:
        yield http


# method, path of the description, path to call, body
CALLS: list[tuple[str, str, str, Any]] = [
    (
        "post",
        "/session",
        "/session",
        {**START, "id": "m-2", "env": {"A": "b"}, "args": ["-x"], "labels": {"mode": "duel"}},
    ),
    ("get", "/session", "/session?all=true&filter[mode]=duel", None),
    ("get", "/session/{id}", "/session/m-1", None),
    ("delete", "/session/{id}", "/session/m-1", None),
    ("put", "/session/player/join", "/session/player/join", {"session": "m-1", "players": ["ann", "bob"]}),
    ("delete", "/session/player/leave", "/session/player/leave", {"players": ["zoe"]}),
    ("get", "/available-location/{image}", "/available-location/arena", None),
    ("get", "/tag/{region}/{image}/{version}", "/tag/europe/arena/v1", None),
    ("get", "/logs", "/logs?id=m-1", None),
    ("get", "/artifacts", "/artifacts?session=m-0&path=/home/core", None),
]


async def prepared(simulator: GameyeSimulator, http: aiohttp.ClientSession) -> None:
    """Two sessions, one of them ended, and a player in the other."""
    for session_id in ("m-0", "m-1"):
        async with http.post("/session", json={**START, "id": session_id, "labels": {"mode": "duel"}}) as answer:
            assert answer.status == 201
    simulator.fleet.stop("m-0")
    simulator.fleet.join("m-1", ("zoe",))


@pytest.mark.parametrize(("method", "path", "url", "body"), CALLS, ids=[f"{c[0]} {c[1]}" for c in CALLS])
async def test_a_good_answer_is_as_described(
    *,
    described: Described,
    simulator: GameyeSimulator,
    http: aiohttp.ClientSession,
    method: str,
    path: str,
    url: str,
    body: Any,
) -> None:
    await prepared(simulator, http)
    async with http.request(method, url, json=body) as answer:
        good = {status: each for status, each in described.statuses(method, path).items() if status < 300}
        assert answer.status in good
        content = good[answer.status].get("content", {})
        if not content:
            assert await answer.read() == b""
            return
        assert answer.content_type in content
        if answer.content_type == "application/json":
            described.check(method, path, answer.status, await answer.json())


ERRORS: list[tuple[int, str, str, str, Any]] = [
    (404, "post", "/session", "/session", {**START, "id": "n", "location": "nowhere"}),
    (404, "post", "/session", "/session", {**START, "id": "n", "image": "nothing"}),
    (404, "post", "/session", "/session", {**START, "id": "n", "version": "v9"}),
    (409, "post", "/session", "/session", START),
    (409, "post", "/session", "/session", {**START, "id": "m-0"}),
    (422, "post", "/session", "/session", {"id": "n", "image": 7, "env": {"A": ""}, "extra": 1, "ttl": "30s"}),
    (422, "post", "/session", "/session", ["not", "an", "object"]),
    (404, "get", "/session/{id}", "/session/unknown", None),
    (404, "delete", "/session/{id}", "/session/unknown", None),
    (409, "delete", "/session/{id}", "/session/m-0", None),
    (404, "put", "/session/player/join", "/session/player/join", {"session": "unknown", "players": ["a"]}),
    (404, "put", "/session/player/join", "/session/player/join", {"session": "m-0", "players": ["a"]}),
    (422, "put", "/session/player/join", "/session/player/join", {"players": [1]}),
    (404, "delete", "/session/player/leave", "/session/player/leave", {"players": ["nobody"]}),
    (422, "delete", "/session/player/leave", "/session/player/leave", {"session": "m-1", "players": ["zoe"]}),
    (404, "get", "/available-location/{image}", "/available-location/nothing", None),
    (400, "get", "/tag/{region}/{image}/{version}", "/tag/europe/arena/-v1", None),
    (404, "get", "/tag/{region}/{image}/{version}", "/tag/europe/nothing/v1", None),
    (404, "get", "/tag/{region}/{image}/{version}", "/tag/nowhere/arena/v1", None),
    (404, "get", "/logs", "/logs?id=unknown", None),
    (404, "get", "/logs", "/logs?id=unknown&follow=true", None),
    (404, "get", "/artifacts", "/artifacts?session=unknown&path=/x", None),
    (404, "get", "/artifacts", "/artifacts?session=m-1&path=/x", None),
]


@pytest.mark.parametrize(("status", "method", "path", "url", "body"), ERRORS)
async def test_an_error_is_as_described(
    *,
    described: Described,
    simulator: GameyeSimulator,
    http: aiohttp.ClientSession,
    status: int,
    method: str,
    path: str,
    url: str,
    body: Any,
) -> None:
    await prepared(simulator, http)
    async with http.request(method, url, json=body) as answer:
        shown = await answer.json()
        assert (answer.status, shown["statusCode"], shown["path"]) == (status, status, url.partition("?")[0])
        described.check(method, path, status, shown)
        assert ("violations" in shown) == (status == 422)


@pytest.mark.parametrize(("method", "path", "url", "body"), CALLS, ids=[f"{c[0]} {c[1]}" for c in CALLS])
async def test_a_wrong_token_answers_401_and_a_missing_scope_403(
    *,
    described: Described,
    simulator: GameyeSimulator,
    http: aiohttp.ClientSession,
    method: str,
    path: str,
    url: str,
    body: Any,
) -> None:
    for wrong in ("Bearer other", "Bearer ", "secret", "token secret"):
        async with http.request(method, url, json=body, headers={"Authorization": wrong}) as answer:
            assert answer.status == 401
            described.check(method, path, 401, await answer.json())
    operation = described.document["paths"][path][method]
    needed = [scope for each in operation.get("security", []) for scope in each["api-token"]]
    simulator.apply(SimulatorSettings(**SETTINGS, scopes=frozenset(Scope) - set(needed)))
    if needed:
        async with http.request(method, url, json=body) as answer:
            assert answer.status == 403
            described.check(method, path, 403, await answer.json())


@pytest.mark.parametrize("status", [402, 420])
async def test_a_start_without_quota_or_room_is_as_described(
    described: Described, simulator: GameyeSimulator, http: aiohttp.ClientSession, status: int
) -> None:
    regions = {"europe": RegionSettings(capacity=0 if status == 420 else None)}
    simulator.apply(SimulatorSettings(**{**SETTINGS, "regions": regions}, quota=0 if status == 402 else None))
    async with http.post("/session", json=START) as answer:
        assert answer.status == status
        described.check("post", "/session", status, await answer.json())


async def test_errors_outside_the_description_have_the_vendors_error_body(
    described: Described, simulator: GameyeSimulator, http: aiohttp.ClientSession
) -> None:
    simulator.apply(SimulatorSettings(**SETTINGS, faults=(StatusFault(status=503),)))
    calls: list[tuple[int, str, str, Any]] = [
        (404, "get", "/nothing", None),
        (405, "patch", "/session", None),
        (503, "post", "/session", START),
        (400, "get", "/session?all=perhaps", None),
        (400, "get", "/session?playerCount[lt]=few", None),
        (400, "get", "/artifacts?session=m-0&path=relative", None),
        (400, "get", "/logs?id=m-0&follow=perhaps", None),
    ]
    for status, method, url, body in calls:
        async with http.request(method, url, json=body) as answer:
            assert answer.status == status
            described.check_component("ErrorResponse", await answer.json())
    async with http.post("/session", data=io.BytesIO(b" " * 2_000_000)) as answer:
        assert answer.status == 413
        described.check_component("ErrorResponse", await answer.json())


@pytest.mark.parametrize("status", list(Status))
async def test_a_session_in_any_state_is_described(
    described: Described, simulator: GameyeSimulator, http: aiohttp.ClientSession, status: Status
) -> None:
    await prepared(simulator, http)
    simulator.fleet.set_status("m-1", status)
    async with http.get("/session/m-1") as answer:
        shown = await answer.json()
        described.check("get", "/session/{id}", 200, shown)
        assert shown["status"] == status


def test_the_states_and_the_paths_are_the_described_ones(described: Described) -> None:
    assert set(Status) == set(described.document["components"]["schemas"]["SessionStatus"]["enum"])
    paths = described.document["paths"]
    verbs = {"get", "put", "post", "delete"}
    assert {(verb, path) for path, each in paths.items() for verb in each.keys() & verbs} == {c[:2] for c in CALLS}
    scopes = {
        scope
        for path in paths.values()
        for verb in path.keys() & verbs
        for each in path[verb].get("security", [])
        for scope in each["api-token"]
    }
    assert scopes == set(Scope)
