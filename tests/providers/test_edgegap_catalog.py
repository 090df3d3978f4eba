"""Every operation of the catalogue, against the simulated Edgegap; calls and answers as the vendor describes them."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml
from pydantic import SecretStr

from allocator.providers.edgegap.catalog.client import Catalog
from allocator.providers.edgegap.catalog.faults import Done, Fault, Refused
from allocator.providers.edgegap.catalog.rows import (
    Application,
    DeletedTag,
    Link,
    Port,
    Profile,
    Storage,
    TagsDeleted,
    Variable,
    Version,
)
from allocator.providers.edgegap.catalog.sent import (
    ApplicationChange,
    NewApplication,
    NewProfile,
    NewStorage,
    NewVersion,
    ProfileChange,
    StorageChange,
    VersionChange,
)
from allocator.providers.exchange import Exchange, Lost, NotSent, Reply
from allocator.simulator.edgegap import EdgegapSimulator, SimulatorSettings

SPECS = Path(__file__).resolve().parents[3] / "shared" / "specs"
DESCRIPTION, PAGE = SPECS / "edgegap-v1-openapi.yaml", SPECS / "edgegap-integration-page.txt"
TOKEN = "11111111-2222-3333-4444-555555555555"
IMAGE = "org/my-game"

NEW_VERSION = NewVersion(
    name="v1",
    docker_repository="registry.edgegap.com",
    docker_image=IMAGE,
    docker_tag="1.0",
    private_username="robot",
    private_token=SecretStr("registry-token"),
    req_cpu=1024,
    req_memory=2048,
    req_video=0,
    is_active=True,
    verify_image=True,
    force_cache=True,
    time_to_deploy=30,
    max_duration=60,
    restart_policy="never",
    termination_grace_period_seconds=30,
    will_deploy_in_mainland_china=False,
    dns_config="dns",
    endpoint_storage="logs",
    ports=(Port(port=7777, protocol="UDP", to_check=True, tls_upgrade=False, name="game"),),
    envs=(
        Variable(key="MODE", value=SecretStr("ranked")),
        Variable(key="KEY", value=SecretStr("hidden-value"), is_hidden=True),
    ),
)
NEW_STORAGE = NewStorage(
    name="logs",
    access_key_id="AK",
    secret_access_key=SecretStr("s3-secret"),
    endpoint="https://s3.example.com",
    bucket="bucket",
    output_format="NDJSON",
)
NEW_PROFILE = NewProfile(name="config", source="/bucket/config", source_type="Folder", destination="/usr/share/configs")


@dataclass(frozen=True)
class Traced:
    """One call as it went out, and its answer."""

    method: str
    path: str
    body: bytes | None
    reply: Reply


@pytest.fixture
async def catalog() -> AsyncIterator[Catalog]:
    settings = SimulatorSettings(token=TOKEN, images={IMAGE: ("1.0", "1.1", "1.2", "1.3")})
    async with EdgegapSimulator(settings) as simulator:
        made = Catalog(simulator.base_url, lambda: TOKEN)
        yield made
        await made.close()


@pytest.fixture
def trace(monkeypatch: pytest.MonkeyPatch) -> list[Traced]:
    """Every call of every exchange, in order."""
    calls: list[Traced] = []
    send = Exchange.send

    async def traced(self: Exchange, method: str, url: Any, **options: Any) -> Reply | NotSent | Lost:
        reply = await send(self, method, url, **options)
        if isinstance(reply, Reply):
            calls.append(Traced(method, urlsplit(str(url)).path, options.get("body"), reply))
        return reply

    monkeypatch.setattr(Exchange, "send", traced)
    return calls


def good(answer: Any) -> Any:
    """The answer, which must be no fault."""
    assert not isinstance(answer, Fault), str(answer)
    return answer


async def use_everything(catalog: Catalog) -> None:
    """Every operation once, each with the answer that it promises."""
    assert isinstance(good(await catalog.storages.create(NEW_STORAGE)), Storage)
    assert good(await catalog.storages.update("logs", StorageChange(bucket="other"))) == Done()
    assert good(await catalog.storages.get("logs")).bucket == "other"
    assert [each.name for each in good(await catalog.storages.list())] == ["logs"]

    assert isinstance(good(await catalog.profiles.create("logs", NEW_PROFILE)), Profile)
    assert good(await catalog.profiles.update("logs", "config", ProfileChange(source="/bucket/new"))) == Done()
    assert good(await catalog.profiles.get("logs", "config")).source == "/bucket/new"
    assert [each.name for each in good(await catalog.profiles.list("logs"))] == ["config"]

    made = good(await catalog.applications.create(NewApplication(name="my-game", image="aGk=")))
    assert isinstance(made, Application)
    assert good(await catalog.applications.update("my-game", ApplicationChange(is_active=False))) == Done()
    assert not good(await catalog.applications.get("my-game")).is_active
    assert [each.name for each in good(await catalog.applications.list())] == ["my-game"]

    assert good(await catalog.versions.create("my-game", NEW_VERSION)).docker_tag == "1.0"
    assert good(await catalog.versions.update("my-game", "v1", VersionChange(docker_tag="1.1"))) == Done()
    version = good(await catalog.versions.get("my-game", "v1"))
    assert isinstance(version, Version)
    assert (version.docker_tag, version.req_cpu, version.restart_policy) == ("1.1", 1024, "never")
    assert [each.name for each in good(await catalog.versions.list("my-game"))] == ["v1"]

    assert isinstance(good(await catalog.profiles.link("logs", "config", "my-game", "v1")), Link)
    assert isinstance(good(await catalog.profiles.link("logs", "config", "my-game", "v1")), Link)
    assert good(await catalog.profiles.unlink("logs", "config", "my-game", "v1")) == Done()

    assert [each.tag for each in good(await catalog.tags.list(IMAGE))] == ["1.0", "1.1", "1.2", "1.3"]
    assert isinstance(good(await catalog.tags.delete(IMAGE, "1.0")), DeletedTag)
    deleted = good(await catalog.tags.bulk_delete(IMAGE, ["1.1", "nope", "1.2"]))
    assert isinstance(deleted, TagsDeleted)
    assert [each.status for each in deleted.results] == [204, 404, 204]
    assert deleted.failed == ()

    assert good(await catalog.versions.delete("my-game", "v1")) == Done()
    assert good(await catalog.applications.delete("my-game")) == Done()
    assert good(await catalog.profiles.delete("logs", "config")) == Done()
    assert good(await catalog.storages.delete("logs")) == Done()


async def test_every_operation_of_the_catalogue_does_what_it_says(catalog: Catalog) -> None:
    await use_everything(catalog)


async def test_what_is_there_already_or_not_at_all_is_refused_with_the_vendors_words(catalog: Catalog) -> None:
    good(await catalog.applications.create(NewApplication(name="my-game", image="")))
    taken = await catalog.applications.create(NewApplication(name="my-game", image=""))
    assert isinstance(taken, Refused)
    assert taken.status == 409
    missing = await catalog.versions.get("my-game", "v9")
    assert isinstance(missing, Refused)
    assert missing.status == 404
    assert "v9" in missing.message


async def test_an_image_that_cannot_be_pulled_is_refused_and_makes_no_version(catalog: Catalog) -> None:
    good(await catalog.applications.create(NewApplication(name="my-game", image="")))
    new = NEW_VERSION.model_copy(update={"docker_tag": "no-such", "endpoint_storage": None})
    refused = await catalog.versions.create("my-game", new)
    assert isinstance(refused, Refused)
    assert refused.status == 424
    assert good(await catalog.versions.list("my-game")) == ()


async def test_listings_of_several_pages_come_whole_and_in_order(catalog: Catalog) -> None:
    good(await catalog.applications.create(NewApplication(name="my-game", image="")))
    names = [f"v{number}" for number in range(23)]
    for name in names:
        new = NewVersion(
            name=name, docker_repository="r", docker_image="i", docker_tag="t", req_cpu=100, req_memory=100
        )
        good(await catalog.versions.create("my-game", new))
    # The simulator gives ten a page where no number is asked for.
    pages = [good(page) async for page in catalog.versions.pages("my-game")]
    assert [len(page) for page in pages] == [10, 10, 3]
    assert [each.name for each in good(await catalog.versions.list("my-game"))] == names


async def test_a_wrong_token_is_a_refusal_that_does_not_repeat_it(catalog: Catalog) -> None:
    wrong = Catalog(catalog.base_url, lambda: "99999999-0000-0000-0000-000000000000")
    refused = await wrong.applications.list()
    await wrong.close()
    assert isinstance(refused, Refused)
    assert refused.status == 401
    assert "99999999" not in refused.message


class Described:
    """The vendor's description: the operation of a call, its body and its answers."""

    def __init__(self) -> None:
        self.document = yaml.safe_load(DESCRIPTION.read_text(encoding="utf-8"))
        self._paths: dict[re.Pattern[str], str] = {re.compile(_pattern(path)): path for path in self.document["paths"]}

    def path_of(self, path: str) -> str:
        found = [described for pattern, described in self._paths.items() if pattern.fullmatch(path)]
        # A word such as `bulk-delete` fits a parameter as well: the more exact one is meant.
        return min(found, key=lambda described: described.count("{"))

    def check(self, call: Traced) -> str:
        path = self.path_of(call.path)
        operation = self.document["paths"][path][call.method.lower()]
        if call.body is not None:
            self._validate(operation["requestBody"]["content"]["application/json"]["schema"], json.loads(call.body))
        answer = operation["responses"][str(call.reply.status)]
        if "content" in answer:
            self._validate(answer["content"]["application/json"]["schema"], json.loads(call.reply.body))
        else:
            assert call.reply.body in (b"", b"null") or call.reply.status == 200
        return f"{call.method} {path}"

    def _validate(self, schema: dict[str, Any], body: Any) -> None:
        root = {"components": _nullable(self.document["components"])}
        jsonschema.Draft7Validator({**root, "allOf": [_nullable(schema)]}).validate(body)


def _pattern(path: str) -> str:
    # An image's name has a slash in it.
    return re.sub(r"\{(\w+)\}", lambda found: "[^/]+/[^/]+" if found[1] == "image_name" else "[^/]+", path)


def _nullable(schema: Any) -> Any:
    """OpenAPI's `nullable` in the words of JSON Schema."""
    if isinstance(schema, list):
        return [_nullable(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    turned = {key: _nullable(value) for key, value in schema.items()}
    if turned.pop("nullable", None) is True and isinstance(turned.get("type"), str):
        turned["type"] = [turned["type"], "null"]
    return turned


@pytest.mark.skipif(not DESCRIPTION.exists(), reason=f"the vendor's description is not here: save it as {DESCRIPTION}")
async def test_every_path_of_the_vendors_page_is_called_and_answered_as_described(
    catalog: Catalog, trace: list[Traced]
) -> None:
    await use_everything(catalog)
    described = Described()
    called = {described.check(call).partition(" ")[2] for call in trace}
    on_the_page = set(re.findall(r"^/v1/\S+$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert len(on_the_page) > 10
    assert on_the_page <= called
    operations = {
        f"{method.upper()} {path}"
        for path, methods in described.document["paths"].items()
        for method in methods
        if re.match(r"/v1/(app|apps|storage|container-registry)\b", path)
    }
    assert operations - {described.check(call) for call in trace} == set()
