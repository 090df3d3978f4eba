"""Edgegap in a worker and in the commands: its settings, its pace over the fleet, its webhooks, its check-up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from allocator.cli.trial import _spec, _try
from allocator.gate.memory import MemoryGate
from allocator.providers.edgegap.client import EdgegapProvider
from allocator.providers.edgegap.pace import RATES, Kind
from allocator.service import wiring
from allocator.service.admin import HOOK_BYTES_MAX, AdminServer
from allocator.service.checkup import Finding
from allocator.service.checkup_edgegap import check_edgegap
from allocator.service.fleet_pace import FleetPace
from allocator.service.hosts import build_edgegap, build_providers, call_timeouts, follow_settings, names_at
from allocator.service.live_credential import credentials_of, renew
from allocator.service.live_merge import merge
from allocator.service.settings import Settings, SettingsError, load_settings
from allocator.simulator.edgegap import ApplicationSettings, EdgegapSimulator, NeverReady, SimulatorSettings

PLACES = {"amsterdam": {"lat": 52.37, "lon": 4.89}}
REGION = {"destinations": [{"provider": "edgegap", "location": "amsterdam"}]}
CATALOG = {
    "game": {"edgegap": {"application": "game-eg", "version": "v7"}},
    "lobby": {"edgegap": {"application": "lobby-eg"}},
    "other": {},
}


def settings_of(base_url: str = "http://127.0.0.1:1", **more: Any) -> Settings:
    edgegap = {"token": "token right", "base_url": base_url, "locations": PLACES, **more.pop("edgegap", {})}
    tables = {"deployment": "d", "redis": {"url": "redis://127.0.0.1:1"}, "regions": {"ams": REGION}}
    return Settings.model_validate({**tables, "edgegap": edgegap, "catalog": CATALOG, **more})


def deaf(_problem: str) -> None:
    """Hears nothing."""


def test_a_token_that_was_pasted_with_its_header_is_taken_bare() -> None:
    edgegap = settings_of().edgegap
    assert edgegap is not None
    assert edgegap.token is not None
    assert edgegap.token.get_secret_value() == "right"
    assert "right" not in repr(edgegap)


def test_a_token_file_may_hold_the_word_before_the_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("token right\n")
    credentials = credentials_of(settings_of(edgegap={"token": None, "token_file": file}), report=deaf, learn=deaf)
    assert credentials["edgegap"].token() == "right"


def test_two_addresses_never_share_rates_by_accident() -> None:
    edgegap = settings_of("http://127.0.0.1:8080").edgegap
    assert edgegap is not None
    assert edgegap.account == "127.0.0.1:8080"


def test_a_destination_that_nobody_says_the_place_of_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "allocator.toml"
    file.write_text(
        """
        deployment = "d"
        redis.url = "redis://127.0.0.1"
        [edgegap]
        token = "t"
        [regions.ams]
        destinations = [{ provider = "edgegap", location = "amsterdam" }]
        """
    )
    with pytest.raises(SettingsError, match=r"regions\.ams .*set edgegap\.locations\.amsterdam = "):
        load_settings(file, {}, {})
    assert load_settings(file, {"edgegap.locations.amsterdam.lat": "1", "edgegap.locations.amsterdam.lon": "2"}, {})


@pytest.mark.parametrize("name", ["a b", "", "ä", "x" * 65, "a/b"])
def test_a_location_that_makes_no_tag_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="locations"):
        settings_of(edgegap={"locations": {name: {"lat": 1, "lon": 2}}})


async def test_what_the_engine_must_know_of_each_host() -> None:
    settings = settings_of(gameye={"token": "t", "timeout_seconds": 3}, edgegap={"ready_timeout_seconds": 20})
    assert call_timeouts(settings) == {"gameye": 3, "edgegap": 28}
    assert names_at(settings) == {"edgegap": {"game": ("game-eg", "v7"), "lobby": ("lobby-eg", None)}}
    providers = build_providers(settings, report=deaf)
    assert list(providers) == ["gameye", "edgegap"]
    for each in providers.values():
        await each.close()


async def test_locations_times_and_the_token_change_while_it_runs() -> None:
    running = settings_of()
    places = {**PLACES, "new-york": {"lat": 40.7, "lon": -74.0}}
    read = settings_of(edgegap={"locations": places, "token": "token new", "timeout_seconds": 3, "account": "other"})
    merged = merge(running, read)
    assert merged.later == ("edgegap.account",)
    credentials = credentials_of(running, report=deaf, learn=deaf)
    renew(credentials, merged, report=deaf, learn=deaf)
    assert credentials["edgegap"].token() == "new"
    providers = build_providers(running, report=deaf)
    follow_settings(merged.settings, providers)
    edgegap = providers["edgegap"]
    assert isinstance(edgegap, EdgegapProvider)
    assert (edgegap.timeout_seconds, set(edgegap.locations)) == (3, {"amsterdam", "new-york"})
    await edgegap.close()


async def test_the_fleet_keeps_one_pace_however_many_processes_ask() -> None:
    gate = MemoryGate(probe_hold_seconds=1, chance=random.Random(1))
    paces = [FleetPace(gate, "studio") for _ in range(3)]
    loop = asyncio.get_running_loop()
    since = loop.time()
    given = await asyncio.gather(*(pace(Kind.STATUS, 5.0) for pace in paces for _ in range(5)))
    assert given == [True] * 15
    assert loop.time() - since >= 14 / RATES[Kind.STATUS] * 0.95
    assert not await paces[0](Kind.STATUS, 0.001)
    assert await paces[0](Kind.LIST, 0.5), "lists are paced by themselves"


async def test_a_webhook_is_answered_at_once_and_passed_on_from_its_own_path_alone() -> None:
    heard: list[bytes] = []
    server = AdminServer(
        "127.0.0.1",
        0,
        registry=CollectorRegistry(),
        ready=lambda: None,
        alive=lambda: None,
        hooks={"/hooks/secret": heard.append},
    )
    async with server, aiohttp.ClientSession() as session:
        statuses = []
        for path, body in [
            ("/hooks/secret", b"anything"),
            ("/hooks/guess", b"x"),
            ("/hooks/secret", b"x" * (HOOK_BYTES_MAX + 1)),
        ]:
            async with session.post(f"{server.url}{path}", data=body) as reply:
                statuses.append(reply.status)
        async with session.get(f"{server.url}/hooks/secret") as reply:
            statuses.append(reply.status)
        async with session.get(f"{server.url}/") as reply:
            assert "hooks" not in await reply.text()
    assert statuses == [200, 404, 413, 405]
    assert heard == [b"anything"]


def test_each_process_has_a_door_of_its_own_that_nobody_can_guess() -> None:
    settings = settings_of(edgegap={"webhook_base_url": "https://hooks.example/"})
    (one, url), (other, _) = wiring._hook(settings), wiring._hook(settings)
    assert one != other
    assert len(one) > 30
    assert url == f"https://hooks.example{one}"
    assert wiring._hook(settings_of())[1] is None


@pytest.fixture
async def edgegap() -> AsyncIterator[EdgegapSimulator]:
    applications = {"game-eg": ApplicationSettings(versions={"v7": {}, "old": {"is_active": False}})}
    settings = SimulatorSettings(
        token="right", applications=applications, any_application=False, start_seconds=(0.1, 0.3), stop_seconds=0.1
    )
    async with EdgegapSimulator(settings) as simulator:
        yield simulator


async def findings(settings: Settings) -> dict[str, Finding]:
    return {finding.what: finding async for finding in check_edgegap(settings)}


async def test_each_image_is_looked_for_under_the_names_it_has_there(edgegap: EdgegapSimulator) -> None:
    more = {
        "retired": {"edgegap": {"application": "game-eg", "version": "old"}},
        "unmade": {"edgegap": {"application": "no-such", "version": "v1"}},
    }
    found = await findings(settings_of(edgegap.base_url, catalog={**CATALOG, **more}))
    assert found["edgegap credential"].good
    assert found["edgegap image game"].good
    assert "game-eg v7 is there and active" in found["edgegap image game"].says
    assert "requests must name its version" in found["edgegap image lobby"].says
    assert not found["edgegap image retired"].good
    assert "not active" in found["edgegap image retired"].says
    assert not found["edgegap image unmade"].good
    assert "correct the names in [catalog]" in found["edgegap image unmade"].says


async def test_a_refused_token_of_edgegap_is_to_be_mended(edgegap: EdgegapSimulator) -> None:
    found = await findings(settings_of(edgegap.base_url, edgegap={"token": "wrong"}))
    assert not found["edgegap credential"].good
    assert "edgegap.token" in found["edgegap credential"].says


async def tried(simulator: EdgegapSimulator, seconds: float) -> tuple[int, dict[str, Any]]:
    settings, report = settings_of(simulator.base_url), {"region": "ams"}
    assert settings.edgegap is not None
    provider = build_edgegap(settings.edgegap, report=deaf)
    try:
        spec = _spec(settings, "edgegap", "game", None)
        code = await _try(provider, "amsterdam", spec, deployment="d", seconds=seconds, report=report)
    finally:
        await provider.close()
    return code, report


async def test_a_trial_starts_one_deployment_under_the_catalogs_names_and_leaves_none(
    edgegap: EdgegapSimulator,
) -> None:
    _, report = await tried(edgegap, 10)
    (deployment,) = edgegap.ledger.deployments
    assert (deployment.application, deployment.version) == ("game-eg", "v7")
    assert (report["session_id"], report["stop"]) == (deployment.request_id, "stopped")
    assert deployment.stop_asked_at_ms is not None


async def test_a_trial_that_is_never_ready_follows_its_stop_up(edgegap: EdgegapSimulator, wait_until: Any) -> None:
    edgegap.apply(edgegap.fleet.settings.model_copy(update={"faults": (NeverReady(seconds=3),)}))
    code, report = await tried(edgegap, 2.5)
    assert (code, report["answer"], report["stop"]) == (1, "Broken 202", "stopped")
    await wait_until(lambda: not list(edgegap.ledger.active()))
