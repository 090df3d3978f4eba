"""Every answer of the simulated Edgegap has the shape that the vendor's OpenAPI descriptions give it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from allocator.simulator.edgegap import ApplicationSettings, EdgegapSimulator, SimulatorSettings, State, StatusFault
from allocator.simulator.edgegap.faults import Operation
from tests.simulator.edgegap_description import PRESENT, SAVE_AS, Description

PAGE = Path(__file__).resolve().parents[3] / "shared" / "specs" / "edgegap-integration-page.txt"
pytestmark = pytest.mark.skipif(not PRESENT, reason=SAVE_AS)

GOOD = {"Authorization": "token 0f0e-secret"}
SETTINGS: dict[str, Any] = {
    "token": "0f0e-secret",
    "applications": {"arena": ApplicationSettings(versions={"v1": {}})},
    "images": {"studio/arena": ("v2", "v1")},
    "any_application": False,
    "start_seconds": (0, 0),
}
DEPLOY: dict[str, Any] = {
    "application": "arena",
    "version": "v1",
    "users": [
        {"user_type": "ip_address", "user_data": {"ip_address": "75.28.35.192"}},
        {"user_type": "geo_coordinates", "user_data": {"latitude": 52.0, "longitude": 5.0}},
    ],
    "environment_variables": [{"key": "A", "value": "b", "is_hidden": True}],
    "tags": ["alloc-1"],
}
APP = {"name": "other", "is_active": True, "image": ""}
VERSION = {
    "name": "v9",
    "docker_repository": "registry.edgegap.com",
    "docker_image": "studio/arena",
    "docker_tag": "v1",
    "req_cpu": 512,
    "req_memory": 1024,
    "private_username": "robot",
    "private_token": "hush",
    "force_cache": True,
    "verify_image": True,
    "ports": [
        {"port": 7777, "protocol": "UDP", "name": "gameport"},
        {"port": 80, "protocol": "WS", "tls_upgrade": True},
    ],
    "envs": [{"key": "A", "value": "b"}, {"key": "S", "value": "hush", "is_hidden": True}],
    "termination_grace_period_seconds": 30,
}
STORAGE = {
    "name": "logs",
    "access_key_id": "AK",
    "secret_access_key": "hush",
    "bucket": "b",
    "endpoint": "https://s3.example.com",
    "output_format": "NDJSON",
}
PROFILE = {"name": "maps", "source": "/b/maps", "source_type": "Folder", "destination": "/srv/maps"}

IMAGE = "/v1/container-registry/images/{image_name}/tags"
STORED = "/v1/storage/endpoint/{endpoint_name}"
PULLED = STORED + "/pull-profile/{pull_profile_name}"
LINKED = PULLED + "/app/{app_name}/version/{version_name}"
DONE = "/v1/storage/endpoint/done/pull-profile/cfg"

# status, method, the description's path, path to call, body: all on what `prepared` makes
CALLS: list[tuple[int, str, str, str, Any]] = [
    (202, "post", "/v2/deployments", "/v2/deployments", DEPLOY),
    (200, "get", "/v1/status/{deployment_id}", "/v1/status/{id}", None),
    (200, "get", "/v1/deployments", "/v1/deployments?page=1&limit=1", None),
    (200, "delete", "/v1/stop/{deployment_id}", "/v1/stop/{id}", None),
    (200, "post", "/v1/app", "/v1/app", APP),
    (200, "get", "/v1/apps", "/v1/apps?page=1&limit=5", None),
    (200, "get", "/v1/app/{app_name}", "/v1/app/arena", None),
    (200, "patch", "/v1/app/{app_name}", "/v1/app/arena", {"is_active": False}),
    (200, "delete", "/v1/app/{app_name}", "/v1/app/arena", None),
    (200, "post", "/v1/app/{app_name}/version", "/v1/app/arena/version", VERSION),
    (200, "get", "/v1/app/{app_name}/versions", "/v1/app/arena/versions", None),
    (200, "get", "/v1/app/{app_name}/version/{version_name}", "/v1/app/arena/version/v1", None),
    (200, "patch", "/v1/app/{app_name}/version/{version_name}", "/v1/app/arena/version/v1", {"max_duration": 60}),
    (200, "delete", "/v1/app/{app_name}/version/{version_name}", "/v1/app/arena/version/v1", None),
    (200, "get", IMAGE, "/v1/container-registry/images/studio/arena/tags", None),
    (200, "delete", IMAGE + "/{tag_name}", "/v1/container-registry/images/studio/arena/tags/v1", None),
    (
        207,
        "post",
        IMAGE + "/bulk-delete",
        "/v1/container-registry/images/studio/arena/tags/bulk-delete",
        {"tags": ["v1", "no"]},
    ),
    (200, "post", "/v1/storage/endpoint", "/v1/storage/endpoint", STORAGE),
    (200, "get", "/v1/storage/endpoints", "/v1/storage/endpoints", None),
    (200, "get", STORED, "/v1/storage/endpoint/done", None),
    (200, "patch", STORED, "/v1/storage/endpoint/done", {"secret_access_key": "other"}),
    (204, "delete", STORED, "/v1/storage/endpoint/done", None),
    (200, "post", STORED + "/pull-profile", "/v1/storage/endpoint/done/pull-profile", PROFILE),
    (200, "get", STORED + "/pull-profiles", "/v1/storage/endpoint/done/pull-profiles", None),
    (200, "get", PULLED, DONE, None),
    (200, "patch", PULLED, DONE, {"source": "/elsewhere"}),
    (204, "delete", PULLED, DONE, None),
    (200, "put", LINKED, f"{DONE}/app/arena/version/v1", None),
    (204, "delete", LINKED, f"{DONE}/app/arena/version/v1", None),
]
NAMES = [f"{status} {method} {path}" for status, method, path, _, _ in CALLS]


@pytest.fixture(scope="module")
def described() -> Description:
    return Description()


@pytest.fixture
async def simulator() -> AsyncIterator[EdgegapSimulator]:
    async with EdgegapSimulator(SimulatorSettings(**SETTINGS)) as simulator:
        yield simulator


@pytest.fixture
async def http(simulator: EdgegapSimulator) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(simulator.base_url, headers=GOOD) as http:
        yield http


async def body_of(answer: aiohttp.ClientResponse) -> Any:
    return await answer.json() if await answer.read() else None


async def prepared(http: aiohttp.ClientSession) -> str:
    """A storage with a linked profile, and a deployment that is READY; its id."""
    for method, path, body in (
        ("post", "/v1/storage/endpoint", {**STORAGE, "name": "done"}),
        ("post", "/v1/storage/endpoint/done/pull-profile", {**PROFILE, "name": "cfg"}),
        ("put", f"{DONE}/app/arena/version/v1", None),
    ):
        async with http.request(method, path, json=body) as answer:
            assert answer.status == 200
    async with http.post("/v2/deployments", json=DEPLOY) as answer:
        return str((await answer.json())["request_id"])


@pytest.mark.parametrize(("status", "method", "path", "url", "body"), CALLS, ids=NAMES)
async def test_a_good_answer_is_as_described(
    *, described: Description, http: aiohttp.ClientSession, status: int, method: str, path: str, url: str, body: Any
) -> None:
    url = url.replace("{id}", await prepared(http))
    assert described.operation(method, url) == path
    described.check_request(method, path, body)
    async with http.request(method, url, json=body) as answer:
        shown = await body_of(answer)
        assert answer.status == status, shown
        described.check_answer(method, path, status, shown)
        assert "hush" not in str(shown)


def test_every_operation_of_the_page_is_called(described: Description) -> None:
    page = {line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("/v1/")}
    of_the_page = {(method, path) for method, path in described.operations if path in page or path == "/v1/apps"}
    called = {(method, path) for _, method, path, _, _ in CALLS}
    # One path of the page, `tags/{tag_name}` and `tags`, has a newer sibling that deletes many at once.
    assert of_the_page | {("post", IMAGE + "/bulk-delete")} <= called
    assert len(of_the_page) == 24


ERRORS: list[tuple[int, str, str, Any]] = [
    (400, "post", "/v2/deployments", {**DEPLOY, "application": "unknown"}),
    (400, "post", "/v2/deployments", {**DEPLOY, "version": "unknown"}),
    (400, "post", "/v2/deployments", {**DEPLOY, "app_name": "arena"}),
    (400, "post", "/v2/deployments", {"app_name": "arena", "version_name": "v1", "ip_list": ["1.2.3.4"]}),
    (400, "post", "/v2/deployments", {**DEPLOY, "users": []}),
    (400, "post", "/v2/deployments", {**DEPLOY, "users": [{"user_type": "city", "user_data": {}}]}),
    (400, "post", "/v2/deployments", {**DEPLOY, "environment_variables": [{"key": "A", "value": "b"}]}),
    (400, "post", "/v2/deployments", {**DEPLOY, "tags": ["x" * 41]}),
    (400, "post", "/v2/deployments", {**DEPLOY, "resources": {"cpu_units": 100, "memory_mib": 201}}),
    (400, "post", "/v2/deployments", ["not", "an", "object"]),
    (400, "get", "/v1/status/unknown", None),
    (400, "get", "/v1/deployments?query=no", None),
    (400, "get", "/v1/deployments?page=0", None),
    (404, "delete", "/v1/stop/unknown", None),
    (400, "post", "/v1/app", {"name": "ab", "is_active": True, "image": ""}),
    (400, "post", "/v1/app", {**APP, "colour": "red"}),
    (409, "post", "/v1/app", {**APP, "name": "arena"}),
    (404, "get", "/v1/app/unknown", None),
    (400, "patch", "/v1/app/arena", {"name": None}),
    (404, "patch", "/v1/app/unknown", {"is_active": True}),
    (404, "delete", "/v1/app/unknown", None),
    (400, "get", "/v1/apps?limit=few", None),
    (404, "post", "/v1/app/unknown/version", VERSION),
    (409, "post", "/v1/app/arena/version", {**VERSION, "name": "v1"}),
    (424, "post", "/v1/app/arena/version", {**VERSION, "docker_tag": "missing"}),
    (400, "post", "/v1/app/arena/version", {**VERSION, "req_memory": 1025}),
    (400, "post", "/v1/app/arena/version", {**VERSION, "endpoint_storage": "unknown"}),
    (400, "post", "/v1/app/arena/version", {**VERSION, "ports": [{"port": 0, "protocol": "UDP"}]}),
    (400, "patch", "/v1/app/arena/version/v1", {"req_cpu": 1024}),
    (424, "patch", "/v1/app/arena/version/v1", {"docker_tag": "missing", "verify_image": True}),
    (404, "patch", "/v1/app/arena/version/unknown", {"is_active": True}),
    (404, "get", "/v1/app/arena/version/unknown", None),
    (404, "delete", "/v1/app/arena/version/unknown", None),
    (404, "get", "/v1/app/unknown/versions", None),
    (404, "get", "/v1/container-registry/images/studio/unknown/tags", None),
    (404, "delete", "/v1/container-registry/images/studio/arena/tags/unknown", None),
    (404, "post", "/v1/container-registry/images/unknown/tags/bulk-delete", {"tags": ["v1"]}),
    (400, "post", "/v1/container-registry/images/studio/arena/tags/bulk-delete", {"tags": []}),
    (400, "post", "/v1/storage/endpoint", {**STORAGE, "endpoint": "s3.example.com"}),
    (400, "post", "/v1/storage/endpoint", {**STORAGE, "name": "done"}),
    (404, "get", "/v1/storage/endpoint/unknown", None),
    (404, "delete", "/v1/storage/endpoint/unknown", None),
    (404, "post", "/v1/storage/endpoint/unknown/pull-profile", PROFILE),
    (400, "post", "/v1/storage/endpoint/done/pull-profile", {**PROFILE, "source_type": "Link"}),
    (400, "post", "/v1/storage/endpoint/done/pull-profile", {**PROFILE, "name": "cfg"}),
    (404, "get", "/v1/storage/endpoint/done/pull-profile/unknown", None),
    (404, "put", f"{DONE}/app/arena/version/unknown", None),
    (404, "put", "/v1/storage/endpoint/done/pull-profile/unknown/app/arena/version/v1", None),
    (404, "delete", f"{DONE}/app/unknown/version/v1", None),
]


@pytest.mark.parametrize(("status", "method", "url", "body"), ERRORS)
async def test_an_error_is_as_described(
    *, described: Description, http: aiohttp.ClientSession, status: int, method: str, url: str, body: Any
) -> None:
    await prepared(http)
    async with http.request(method, url, json=body) as answer:
        shown = await body_of(answer)
        assert answer.status == status, shown
        described.check_answer(method, described.operation(method, url), status, shown)
        assert shown["message"]


@pytest.mark.parametrize(("status", "method", "path", "url", "body"), CALLS, ids=NAMES)
async def test_without_the_token_every_call_answers_401(
    *, described: Description, http: aiohttp.ClientSession, status: int, method: str, path: str, url: str, body: Any
) -> None:
    for wrong in ("Bearer 0f0e-secret", "token", "token other", "token token 0f0e-secret", "0f0e-secret"):
        headers = {"Authorization": wrong}
        async with http.request(method, url.replace("{id}", "any"), json=body, headers=headers) as answer:
            assert answer.status == 401
            described.check_answer(method, path, 401, await answer.json())


@pytest.mark.parametrize("status", [401, 500])
async def test_a_fault_has_the_vendors_error_body(
    described: Description, simulator: EdgegapSimulator, http: aiohttp.ClientSession, status: int
) -> None:
    on = tuple(operation for operation in Operation if operation is not Operation.WEBHOOK)
    simulator.apply(SimulatorSettings(**SETTINGS, faults=(StatusFault(status=status, on=on),)))
    for _, method, path, url, body in CALLS:
        async with http.request(method, url.replace("{id}", "any"), json=body) as answer:
            assert answer.status == status
            described.check_answer(method, path, status, await answer.json())


@pytest.mark.parametrize("state", list(State))
async def test_a_deployment_in_any_state_is_as_described(
    described: Description, simulator: EdgegapSimulator, http: aiohttp.ClientSession, state: State
) -> None:
    simulator.apply(SimulatorSettings(**{**SETTINGS, "start_seconds": (600, 600)}))
    request_id = await prepared(http)
    simulator.fleet.set_state(request_id, state)
    async with http.get(f"/v1/status/{request_id}") as answer:
        shown = await answer.json()
        described.check_answer("get", "/v1/status/{deployment_id}", 200, shown)
    assert shown["current_status"] == f"Status.{state}"
    assert (shown["running"], shown["error"]) == (state is State.READY, state is State.ERROR)
    async with http.get("/v1/deployments") as answer:
        rows = (await answer.json())["data"]
        described.check_answer("get", "/v1/deployments", 200, {"data": rows, **rest(await answer.json())})
    assert [row["ready"] for row in rows] == ([] if state is State.TERMINATED else [state is State.READY])


def rest(listed: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in listed.items() if key != "data"}


@pytest.mark.parametrize(("kept", "rows"), [(True, 1), (False, 0)])
async def test_no_place_answers_422_with_the_id_of_what_it_left(
    *, described: Description, simulator: EdgegapSimulator, http: aiohttp.ClientSession, kept: bool, rows: int
) -> None:
    full = {"amsterdam": {"lat": 52.4, "lon": 4.9, "capacity": 0}}
    simulator.apply(SimulatorSettings(**SETTINGS, locations=full, refused_is_kept=kept))
    async with http.post("/v2/deployments", json=DEPLOY) as answer:
        shown = await answer.json()
        assert answer.status == 422
        described.check_answer("post", "/v2/deployments", 422, shown)
    left = simulator.ledger.deployments
    assert [(each.request_id, each.state) for each in left] == [(shown["request_id"], State.ERROR)] * rows
    async with http.get(f"/v1/status/{shown['request_id']}") as answer:
        assert answer.status == (200 if kept else 400)


async def test_what_http_refuses_has_the_vendors_error_body(http: aiohttp.ClientSession) -> None:
    for status, method, url in ((404, "get", "/v1/nothing"), (405, "put", "/v1/app"), (404, "post", "/v1/deploy")):
        async with http.request(method, url) as answer:
            assert answer.status == status
            assert re.fullmatch(r"[A-Z][A-Za-z ]+", (await answer.json())["message"])
