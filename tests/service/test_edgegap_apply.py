"""Apply against the simulated Edgegap: it ends as declared, whatever was there and wherever it was interrupted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from allocator.providers.edgegap.catalog.client import Catalog
from allocator.providers.edgegap.catalog.faults import Fault, Unclear
from allocator.providers.edgegap.catalog.sent import (
    ApplicationChange,
    NewApplication,
    NewProfile,
    NewStorage,
    NewVersion,
    VersionChange,
)
from allocator.providers.exchange import Exchange, Lost
from allocator.service.edgegap.apply import Applied, Halted, apply_plan
from allocator.service.edgegap.declared import Declared
from allocator.service.edgegap.declared_file import load_declared
from allocator.service.edgegap.export import export
from allocator.service.edgegap.plan import Allowed, make_plan
from allocator.service.edgegap.references import open_vault
from allocator.service.edgegap.snapshot import read_snapshot
from allocator.service.edgegap.steps import Act, Plan
from allocator.simulator.edgegap import EdgegapSimulator, SimulatorSettings

TOKEN = "11111111-2222-3333-4444-555555555555"
SECRETS = {"S3_SECRET": "s3-secret", "REGISTRY_TOKEN": "registry-token", "GAME_KEY": "game-key"}
DECLARED = """
[storages.logs]
endpoint = "https://s3.example.com"
bucket = "bucket"
access_key_id = "AK"
secret_access_key = { env = "S3_SECRET" }
output_format = "NDJSON"
pull_profiles.config = { source = "/bucket/config", source_type = "Folder", destination = "/usr/share/configs" }
pull_profiles.maps = { source = "/bucket/maps.bin", source_type = "File", destination = "/usr/share/maps" }

[applications.my-game.versions.v1]
docker_repository = "registry.edgegap.com"
docker_image = "org/my-game"
docker_tag = "1.0"
private_username = "robot"
private_token = { env = "REGISTRY_TOKEN" }
req_cpu = 1024
req_memory = 2048
max_duration = 60
restart_policy = "never"
endpoint_storage = "logs"
ports = [{ port = 7777, protocol = "UDP", name = "game" }]
envs = { MODE = "ranked", KEY = { env = "GAME_KEY" } }
pull_profiles = ["logs/config", "logs/maps"]

[applications.my-game.versions.v2]
docker_repository = "registry.edgegap.com"
docker_image = "org/my-game"
docker_tag = "2.0"
req_cpu = 1024
req_memory = 1024
pull_profiles = ["logs/config"]

[applications.other]
is_active = false
"""
EVERYTHING = Allowed(prune=True, replace_active=True)
READS, CREATES = 2, 10
READS_WHERE_THERE, CHANGES = 6, 12
"""How many calls an apply makes: on nothing, and on `drift`; a test holds them to be so."""


class Killed(Exception):  # noqa: N818 - no error of ours
    """The process ended here."""


class Wire:
    """Counts the calls of every exchange, and ends one of them badly."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.at: int | None = None
        self.reached = False
        self.lost = False


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    wire = Wire()
    send = Exchange.send

    async def counted(self: Exchange, method: str, url: Any, **options: Any) -> Any:
        wire.calls.append(method)
        is_it = wire.at is not None and len(wire.calls) - 1 == wire.at
        if is_it and not wire.reached:
            raise Killed
        reply = await send(self, method, url, **options)
        if is_it and wire.lost:
            return Lost("the connection broke before the reply")
        if is_it:
            raise Killed
        return reply

    monkeypatch.setattr(Exchange, "send", counted)
    return wire


@pytest.fixture
async def simulator() -> AsyncIterator[EdgegapSimulator]:
    async with EdgegapSimulator(SimulatorSettings(token=TOKEN)) as simulator:
        yield simulator


@pytest.fixture
async def catalog(simulator: EdgegapSimulator) -> AsyncIterator[Catalog]:
    catalog = Catalog(simulator.base_url, lambda: TOKEN)
    yield catalog
    await catalog.close()


@pytest.fixture
def declared(tmp_path: Path) -> Declared:
    file = tmp_path / "edgegap.toml"
    file.write_text(DECLARED, encoding="utf-8")
    return load_declared(file)


async def planned(catalog: Catalog, declared: Declared, allowed: Allowed = EVERYTHING) -> Plan:
    there = await read_snapshot(catalog)
    assert not isinstance(there, Fault), str(there)
    return make_plan(declared, there, allowed)


async def applied(catalog: Catalog, declared: Declared, allowed: Allowed = EVERYTHING) -> Applied | Halted:
    plan = await planned(catalog, declared, allowed)
    return await apply_plan(catalog, plan, open_vault(plan.references, SECRETS, Path()))


async def drift(catalog: Catalog) -> None:
    """What somebody did by hand: other fields, things too many, a link taken away."""
    await catalog.versions.update("my-game", "v1", VersionChange(docker_tag="9.9", max_duration=10, envs=()))
    await catalog.applications.update("other", ApplicationChange(is_active=True))
    await catalog.profiles.delete("logs", "maps")
    await catalog.versions.delete("my-game", "v2")
    await catalog.versions.create(
        "my-game",
        NewVersion(name="v3", docker_repository="r", docker_image="i", docker_tag="t", req_cpu=100, req_memory=100),
    )
    await catalog.applications.create(NewApplication(name="stranger", image=""))
    await catalog.storages.create(
        NewStorage(name="spare", access_key_id="k", secret_access_key=SecretStr("s"), endpoint="https://s3", bucket="b")
    )
    await catalog.profiles.create(
        "spare", NewProfile(name="p", source="/b", source_type="File", destination="/usr/share/p")
    )


def content(simulator: EdgegapSimulator) -> dict[str, Any]:
    """Everything the simulated catalogue holds, secrets and links as well."""
    state = simulator.fleet.catalog
    return {
        "applications": {
            app.name: (app.fields, {version.name: version.fields for version in app.versions}) for app in state.apps
        },
        "storages": {
            storage.name: (
                storage.fields,
                {
                    profile.name: (profile.fields, sorted(version.name for version in profile.links))
                    for profile in storage.profiles
                },
            )
            for storage in state.storages
        },
    }


async def test_apply_makes_what_is_declared_and_a_second_one_changes_nothing(
    simulator: EdgegapSimulator, catalog: Catalog, declared: Declared
) -> None:
    assert isinstance(await applied(catalog, declared), Applied)
    first = content(simulator)
    assert first["storages"]["logs"][0]["secret_access_key"] == "s3-secret"
    assert first["storages"]["logs"][1]["config"][1] == ["v1", "v2"]
    assert first["applications"]["my-game"][1]["v1"]["private_token"] == "registry-token"
    assert (await planned(catalog, declared)).changes == ()
    assert isinstance(await applied(catalog, declared), Applied)
    assert content(simulator) == first


async def test_drift_made_by_hand_is_seen_by_the_plan_and_mended_by_apply(
    simulator: EdgegapSimulator, catalog: Catalog, declared: Declared
) -> None:
    await applied(catalog, declared)
    as_declared = content(simulator)
    await drift(catalog)
    plan = await planned(catalog, declared)
    assert [f"{step.act.sign} {step.item}" for step in plan.changes] == [
        "+ profile logs/maps",
        "~ application other",
        "~ version my-game/v1",
        "+ version my-game/v2",
        "+ link my-game/v1 <- logs/maps",
        "+ link my-game/v2 <- logs/config",
        "- version my-game/v3",
        "- application stranger",
        "- profile spare/p",
        "- storage spare",
    ]
    assert isinstance(await applied(catalog, declared), Applied)
    assert content(simulator) == as_declared
    assert (await planned(catalog, declared)).changes == ()


async def test_without_prune_nothing_is_deleted(catalog: Catalog, declared: Declared) -> None:
    await applied(catalog, declared)
    await drift(catalog)
    assert isinstance(await applied(catalog, declared, Allowed(replace_active=True)), Applied)
    plan = await planned(catalog, declared, Allowed())
    assert plan.changes == ()
    assert len(plan.undeclared) == 4


async def test_a_link_taken_away_by_hand_is_put_back_though_no_plan_can_see_it(
    simulator: EdgegapSimulator, catalog: Catalog, declared: Declared
) -> None:
    await applied(catalog, declared)
    as_declared = content(simulator)
    await catalog.profiles.unlink("logs", "maps", "my-game", "v1")
    assert (await planned(catalog, declared)).changes == ()
    await applied(catalog, declared)
    assert content(simulator) == as_declared


async def test_pruning_unlinks_what_a_version_no_longer_names(
    simulator: EdgegapSimulator, catalog: Catalog, declared: Declared
) -> None:
    await applied(catalog, declared)
    await catalog.profiles.link("logs", "maps", "my-game", "v2")
    assert isinstance(await applied(catalog, declared), Applied)
    assert content(simulator)["storages"]["logs"][1]["maps"][1] == ["v1"]


async def test_a_refused_plan_is_not_begun(catalog: Catalog, declared: Declared, wire: Wire) -> None:
    await applied(catalog, declared)
    await catalog.versions.update("my-game", "v1", VersionChange(docker_tag="9.9"))
    plan = await planned(catalog, declared, Allowed())
    assert plan.refusals
    wire.calls.clear()
    with pytest.raises(ValueError, match="refusals"):
        await apply_plan(catalog, plan, {})
    assert wire.calls == []


async def test_a_call_that_is_refused_halts_there_with_the_vendors_words(catalog: Catalog, declared: Declared) -> None:
    plan = await planned(catalog, declared)
    await catalog.applications.create(NewApplication(name="my-game", image=""))
    halted = await apply_plan(catalog, plan, open_vault(plan.references, SECRETS, Path()))
    assert isinstance(halted, Halted)
    assert str(halted.step.item) == "application my-game"
    assert "apply again" in str(halted)
    assert isinstance(await applied(catalog, declared), Applied)


async def test_secrets_are_written_again_only_when_asked(
    simulator: EdgegapSimulator, catalog: Catalog, declared: Declared
) -> None:
    await applied(catalog, declared)
    plan = await planned(catalog, declared, Allowed(write_secrets=True))
    assert {step.act for step in plan.changes} == {Act.CHANGE}
    others = {name: f"other-{secret}" for name, secret in SECRETS.items()}
    assert isinstance(await apply_plan(catalog, plan, open_vault(plan.references, others, Path())), Applied)
    found = content(simulator)
    assert found["storages"]["logs"][0]["secret_access_key"] == "other-s3-secret"
    assert found["applications"]["my-game"][1]["v1"]["private_token"] == "other-registry-token"
    assert {each["value"] for each in found["applications"]["my-game"][1]["v1"]["envs"]} == {"ranked", "other-game-key"}


async def test_the_plan_of_an_export_of_the_simulated_catalogue_shows_no_change(
    catalog: Catalog, declared: Declared, tmp_path: Path
) -> None:
    await applied(catalog, declared)
    there = await read_snapshot(catalog)
    assert not isinstance(there, Fault)
    file = tmp_path / "export.toml"
    file.write_text(export(there), encoding="utf-8")
    assert (await planned(catalog, load_declared(file))).steps == ()


async def test_the_interruptions_below_reach_every_call(catalog: Catalog, declared: Declared, wire: Wire) -> None:
    await applied(catalog, declared)
    assert len(wire.calls) == READS + CREATES
    await drift(catalog)
    wire.calls.clear()
    await applied(catalog, declared)
    assert len(wire.calls) == READS_WHERE_THERE + CHANGES


def _interruptions(calls: int) -> list[Any]:
    return [
        pytest.param(at, reached, id=f"call {at} {'done' if reached else 'not sent'}")
        for at in range(calls)
        for reached in (False, True)
    ]


@pytest.mark.parametrize(("at", "reached"), _interruptions(READS + CREATES))
async def test_an_apply_that_is_killed_while_it_creates_is_finished_by_the_next(
    *, simulator: EdgegapSimulator, catalog: Catalog, declared: Declared, wire: Wire, at: int, reached: bool
) -> None:
    await _killed_then_again(catalog, declared, wire, at=at, reached=reached)
    found = content(simulator)
    assert set(found["applications"]) == {"my-game", "other"}
    assert found["applications"]["my-game"][1]["v1"]["private_token"] == "registry-token"
    assert found["storages"]["logs"][1]["config"][1] == ["v1", "v2"]
    assert found["storages"]["logs"][1]["maps"][1] == ["v1"]


@pytest.mark.parametrize(("at", "reached"), _interruptions(READS_WHERE_THERE + CHANGES))
async def test_an_apply_that_is_killed_while_it_mends_and_prunes_is_finished_by_the_next(
    *, simulator: EdgegapSimulator, catalog: Catalog, declared: Declared, wire: Wire, at: int, reached: bool
) -> None:
    await applied(catalog, declared)
    as_declared = content(simulator)
    await drift(catalog)
    await _killed_then_again(catalog, declared, wire, at=at, reached=reached)
    assert content(simulator) == as_declared


async def _killed_then_again(catalog: Catalog, declared: Declared, wire: Wire, *, at: int, reached: bool) -> None:
    wire.calls.clear()
    wire.at, wire.reached = at, reached
    with pytest.raises(Killed):
        await applied(catalog, declared)
    wire.at = None
    assert isinstance(await applied(catalog, declared), Applied)
    assert (await planned(catalog, declared)).changes == ()


@pytest.mark.parametrize("at", range(READS, READS + CREATES))
async def test_an_answer_that_is_lost_halts_and_the_next_apply_goes_on(
    catalog: Catalog, declared: Declared, wire: Wire, at: int
) -> None:
    wire.at, wire.reached, wire.lost = at, True, True
    halted = await applied(catalog, declared)
    assert isinstance(halted, Halted)
    assert isinstance(halted.fault, Unclear)
    wire.at = None
    assert isinstance(await applied(catalog, declared), Applied)
    assert (await planned(catalog, declared)).changes == ()
