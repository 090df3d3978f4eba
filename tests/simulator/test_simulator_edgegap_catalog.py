"""What the simulated Edgegap's catalogue keeps, over HTTP: state, references, secrets, pages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from allocator.simulator.edgegap import ApplicationSettings, EdgegapSimulator, SimulatorSettings

VERSION: dict[str, Any] = {
    "name": "v1",
    "docker_repository": "registry.edgegap.com",
    "docker_image": "studio/arena",
    "docker_tag": "1.0",
    "req_cpu": 256,
    "req_memory": 512,
}
STORAGE = {
    "name": "logs",
    "access_key_id": "AK",
    "secret_access_key": "hush",
    "bucket": "b",
    "endpoint": "https://s3.example.com",
}
PROFILE = {"name": "maps", "source": "/b/maps", "source_type": "Folder", "destination": "/srv/maps"}
STORED, PULLED = "/v1/storage/endpoint/logs", "/v1/storage/endpoint/logs/pull-profile/maps"
LINK = f"{PULLED}/app/arena/version/v1"


class Account:
    """One simulated account and a client of it."""

    def __init__(self, simulator: EdgegapSimulator, http: aiohttp.ClientSession) -> None:
        self.simulator = simulator
        self._http = http

    async def ask(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        async with self._http.request(method, path, json=body) as answer:
            shown = await answer.json() if await answer.read() else None
            assert answer.status == status, shown
            return shown

    async def all(self, path: str, key: str, limit: int) -> list[str]:
        """The names of every row, page by page."""
        names: list[str] = []
        page: int | None = 1
        while page is not None:
            shown = await self.ask("get", f"{path}?page={page}&limit={limit}")
            names += [row["name"] for row in shown[key]]
            page = shown["pagination"]["next_page_number"]
        return names

    async def make_everything(self) -> None:
        await self.ask("post", "/v1/storage/endpoint", STORAGE)
        await self.ask("post", f"{STORED}/pull-profile", PROFILE)
        await self.ask("post", "/v1/app", {"name": "arena", "is_active": True, "image": ""})
        await self.ask("post", "/v1/app/arena/version", {**VERSION, "endpoint_storage": "logs"})
        await self.ask("put", LINK)

    def links(self) -> list[str]:
        catalog = self.simulator.fleet.catalog
        return [
            f"{profile.name} {version.name}"
            for storage in catalog.storages
            for profile in storage.profiles
            for version in profile.links
        ]


@pytest.fixture
async def account() -> AsyncIterator[Account]:
    settings = SimulatorSettings(any_application=False)
    async with (
        EdgegapSimulator(settings) as simulator,
        aiohttp.ClientSession(simulator.base_url, headers={"Authorization": "token any"}) as http,
    ):
        yield Account(simulator, http)


async def test_what_is_made_is_there_and_what_is_deleted_is_gone(account: Account) -> None:
    await account.make_everything()
    assert await account.all("/v1/apps", "applications", 5) == ["arena"]
    assert await account.all("/v1/app/arena/versions", "versions", 5) == ["v1"]
    assert await account.all("/v1/storage/endpoints", "endpoints", 5) == ["logs"]
    assert await account.all(f"{STORED}/pull-profiles", "pull_profiles", 5) == ["maps"]
    assert account.links() == ["maps v1"]
    await account.ask("delete", LINK, status=204)
    await account.ask("delete", LINK, status=404)
    await account.ask("delete", "/v1/app/arena/version/v1")
    await account.ask("delete", "/v1/app/arena")
    await account.ask("delete", PULLED, status=204)
    await account.ask("delete", STORED, status=204)
    for path, key in (("/v1/apps", "applications"), ("/v1/storage/endpoints", "endpoints")):
        assert await account.all(path, key, 5) == []


async def test_the_control_door_shows_all_of_it_with_the_links_and_no_secret(account: Account) -> None:
    await account.make_everything()
    shown = await account.ask("get", "/_simulator/catalog")
    assert shown["applications"]["arena"]["versions"]["v1"]["endpoint_storage"] == "logs"
    assert shown["storages"]["logs"]["pull_profiles"]["maps"]["linked_to"] == ["arena/v1"]
    assert "hush" not in str(shown)


async def test_linking_again_changes_nothing(account: Account) -> None:
    await account.make_everything()
    once = await account.ask("put", LINK)
    assert await account.ask("put", LINK) == once
    assert account.links() == ["maps v1"]


async def test_a_patch_changes_what_it_names_and_nothing_else(account: Account) -> None:
    await account.make_everything()
    before = await account.ask("get", "/v1/app/arena/version/v1")
    ports = [{"port": 7777, "protocol": "UDP", "name": "game"}]
    changed = (await account.ask("patch", "/v1/app/arena/version/v1", {"ports": ports, "max_duration": 30}))["version"]
    assert changed["ports"] == [{**ports[0], "to_check": True, "tls_upgrade": False}]
    assert changed == {
        **before,
        "ports": changed["ports"],
        "max_duration": 30,
        "last_updated": changed["last_updated"],
    }
    assert await account.ask("get", "/v1/app/arena/version/v1") == changed


async def test_a_patch_cannot_change_cpu_memory_or_video(account: Account) -> None:
    await account.make_everything()
    for field in ("req_cpu", "req_memory", "req_video"):
        shown = await account.ask("patch", "/v1/app/arena/version/v1", {field: 512}, status=400)
        assert shown["details"] == {field: "Unknown field."}


async def test_a_rename_keeps_the_place_and_what_refers_to_it(account: Account) -> None:
    await account.make_everything()
    await account.ask("post", "/v1/storage/endpoint", {**STORAGE, "name": "other"})
    await account.ask("patch", STORED, {"name": "other"}, status=400)
    await account.ask("patch", STORED, {"name": "archive"})
    assert await account.all("/v1/storage/endpoints", "endpoints", 1) == ["archive", "other"]
    assert (await account.ask("get", "/v1/app/arena/version/v1"))["endpoint_storage"] == "archive"
    assert account.links() == ["maps v1"]
    await account.ask("post", "/v1/app", {"name": "taken", "is_active": True, "image": ""})
    await account.ask("patch", "/v1/app/arena", {"name": "taken"}, status=409)
    await account.ask("patch", "/v1/app/arena", {"name": "renamed"})
    await account.ask("get", "/v1/app/renamed/version/v1")


@pytest.mark.parametrize("deleted", ["/v1/app/arena", "/v1/app/arena/version/v1", PULLED, STORED])
async def test_a_link_goes_with_either_end(account: Account, deleted: str) -> None:
    await account.make_everything()
    await account.ask("delete", deleted, status=204 if "storage" in deleted else 200)
    assert account.links() == []


async def test_a_version_forgets_a_storage_that_is_gone(account: Account) -> None:
    await account.make_everything()
    await account.ask("delete", STORED, status=204)
    assert "endpoint_storage" not in await account.ask("get", "/v1/app/arena/version/v1")


async def test_secrets_are_written_and_never_shown(account: Account) -> None:
    await account.make_everything()
    secrets = {"private_token": "hush", "envs": [{"key": "A", "value": "hush", "is_hidden": True}]}
    changed = await account.ask("patch", "/v1/app/arena/version/v1", {**secrets, "private_username": "robot"})
    assert changed["version"]["envs"] == [{"key": "A", "value": "", "is_hidden": True}]
    assert changed["version"]["private_username"] == "robot"
    shown = [
        changed,
        await account.ask("get", STORED),
        await account.ask("patch", STORED, {"secret_access_key": "hush"}),
    ]
    shown.append(await account.ask("get", "/_simulator/ledger"))
    assert "hush" not in str(shown)
    catalog = account.simulator.fleet.catalog
    assert "hush" not in repr([list(catalog.apps), list(catalog.storages)])
    (storage,) = catalog.storages
    assert storage.fields["secret_access_key"] == "hush"


async def test_only_what_is_active_deploys(account: Account) -> None:
    await account.make_everything()
    users = [{"user_type": "ip_address", "user_data": {"ip_address": "75.28.35.192"}}]
    body = {"application": "arena", "version": "v1", "users": users}
    await account.ask("post", "/v2/deployments", body, status=202)
    for path in ("/v1/app/arena", "/v1/app/arena/version/v1"):
        await account.ask("patch", path, {"is_active": False})
        assert "not active" in (await account.ask("post", "/v2/deployments", body, status=400))["message"]
        await account.ask("patch", path, {"is_active": True})
    await account.ask("post", "/v2/deployments", body, status=202)


async def test_names_of_the_older_page_are_passed_over_and_others_refused(account: Account) -> None:
    app = {"name": "arena", "is_active": True, "image": "", "is_telemetry_agent_active": True}
    assert "is_telemetry_agent_active" not in await account.ask("post", "/v1/app", app)
    older = {"inject_context_env": True, "whitelisting_active": False, "session_config": {}, "command": None}
    await account.ask("post", "/v1/app/arena/version", {**VERSION, **older})
    shown = await account.ask("post", "/v1/app/arena/version", {**VERSION, "name": "v2", "cpu": 1}, status=400)
    assert shown["details"] == {"cpu": "Unknown field."}


async def test_tags_are_deleted_one_by_one_and_many_at_once(account: Account) -> None:
    tags = tuple(f"1.{number}" for number in range(5))
    account.simulator.apply(SimulatorSettings(images={"studio/arena": tags}, unpullable=("studio/arena:1.4",)))
    path = "/v1/container-registry/images/studio/arena/tags"
    rows = [row for page in (1, 2, 3) for row in (await account.ask("get", f"{path}?page={page}&limit=2"))["data"]]
    assert [row["tag"] for row in rows] == list(tags)
    assert (await account.ask("delete", f"{path}/1.0"))["deleted_tag"] == "1.0"
    shown = await account.ask("post", f"{path}/bulk-delete", {"tags": ["1.0", "1.1", "1.2"]}, status=207)
    assert [(row["tag"], row["status"]) for row in shown["results"]] == [("1.0", 404), ("1.1", 204), ("1.2", 204)]
    assert shown["summary"] == {"total": 3, "success": 2, "failed": 1}
    assert [row["tag"] for row in (await account.ask("get", path))["data"]] == ["1.3", "1.4"]
    await account.ask("post", "/v1/app", {"name": "arena", "is_active": True, "image": ""})
    for tag, status in (("1.0", 424), ("1.3", 200), ("1.4", 424)):
        body = {**VERSION, "name": tag, "docker_tag": tag, "verify_image": True}
        await account.ask("post", "/v1/app/arena/version", body, status=status)


async def test_pages_of_the_catalogue_follow_each_other(account: Account) -> None:
    names = [f"app-{number:02}" for number in range(23)]
    for name in names:
        await account.ask("post", "/v1/app", {"name": name, "is_active": True, "image": ""})
    assert await account.all("/v1/apps", "applications", 10) == names
    first = await account.ask("get", "/v1/apps")
    assert len(first["applications"]) == 10
    assert (first["total_count"], first["pagination"]["paginator"]["num_pages"]) == (23, 3)


async def test_settings_seed_the_catalogue_and_a_reset_begins_it_again(account: Account) -> None:
    seeded = ApplicationSettings(versions={"v1": {"max_duration": 60}})
    account.simulator.apply(SimulatorSettings(applications={"arena": seeded}, any_application=False))
    shown = await account.ask("get", "/v1/app/arena/version/v1")
    assert (shown["max_duration"], shown["docker_tag"], shown["ports"][0]["name"]) == (60, "v1", "gameport")
    await account.ask("delete", "/v1/app/arena/version/v1")
    await account.ask("post", "/v1/app", {"name": "more", "is_active": True, "image": ""})
    account.simulator.reset()
    assert await account.all("/v1/apps", "applications", 5) == ["arena"]
    await account.ask("get", "/v1/app/arena/version/v1")
