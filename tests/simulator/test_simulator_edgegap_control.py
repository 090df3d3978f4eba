"""The simulated Edgegap for other processes: its control door, its script and options, its command."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from allocator.cli.simulate import app
from allocator.simulator.edgegap import EdgegapSimulator, Failed, LocationSettings, LostWebhook, SimulatorSettings
from allocator.simulator.edgegap.script import Options, load
from allocator.simulator.script import ScriptError

DEPLOY = {
    "application": "arena",
    "version": "v1",
    "users": [{"user_type": "geo_coordinates", "user_data": {"latitude": 52.0, "longitude": 5.0}}],
    "tags": ["alloc-1"],
}
SCRIPT = """
token = "secret"
seed = 5
start_seconds = "1-2"
any_application = false
images."studio/arena" = ["v2", "v1"]
rates = { deploy = 5 }

[locations.amsterdam]
lat = 52.37
lon = 4.89
capacity = 20

[applications.arena.versions.v1]
ports = [{ port = 7777, protocol = "UDP", name = "game" }]
max_duration = 60

[[faults]]
kind = "failed"
probability = 0.25
locations = ["amsterdam"]
"""


@pytest.fixture
async def simulator() -> AsyncIterator[EdgegapSimulator]:
    async with EdgegapSimulator(SimulatorSettings(start_seconds=(600, 600))) as simulator:
        yield simulator


@pytest.fixture
async def http(simulator: EdgegapSimulator) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(simulator.base_url, headers={"Authorization": "token any"}) as http:
        yield http


async def shown(http: aiohttp.ClientSession, path: str = "/_simulator/ledger") -> Any:
    async with http.get(path) as answer:
        assert answer.status == 200
        return await answer.json()


async def deploy(http: aiohttp.ClientSession, **more: Any) -> int:
    async with http.post("/v2/deployments", json={**DEPLOY, **more}) as answer:
        return answer.status


async def test_the_door_shows_every_deployment_every_call_and_every_count(http: aiohttp.ClientSession) -> None:
    assert [await deploy(http), await deploy(http, users=[])] == [202, 400]
    async with http.get("/v1/deployments"):
        pass
    ledger = await shown(http)
    assert (ledger["deployments_total"], ledger["calls_total"]) == (1, 3)
    assert ledger["deployments_by_state"] == {"amsterdam": {"INITIALIZING": 1}}
    assert ledger["calls_by_status"] == {"deploy": {"202": 1, "400": 1}, "list": {"200": 1}}
    assert ledger["calls_per_second_max"] == {"deploy": 2, "list": 1}
    (made,) = ledger["deployments"]
    assert (made["tags"], made["location"], made["started_by"], made["terminated_at_ms"]) == (
        ["alloc-1"],
        "amsterdam",
        "post",
        None,
    )
    assert [(call["operation"], call["status"]) for call in ledger["calls"]] == [
        ("deploy", 202),
        ("deploy", 400),
        ("list", 200),
    ]
    assert ledger["calls"][0]["request_id"] == made["request_id"]
    counts = await shown(http, "/_simulator/ledger?rows=false")
    assert "deployments" not in counts
    assert counts["deployments_total"] == 1


async def test_the_door_puts_a_deployment_into_any_state(http: aiohttp.ClientSession) -> None:
    await deploy(http)
    request_id = (await shown(http))["deployments"][0]["request_id"]
    path = f"/_simulator/deployments/{request_id}"
    async with http.put(path, json={"state": "ERROR", "detail": "no image"}) as answer:
        assert (answer.status, (await answer.json())["error_detail"]) == (200, "no image")
    async with http.put(path, json={"state": "TERMINATED"}) as answer:
        assert (await answer.json())["ended_why"] == "set"
    async with http.put(path, json={"state": "ASLEEP"}) as answer:
        assert answer.status == 422
    async with http.put("/_simulator/deployments/unknown", json={"state": "READY"}) as answer:
        assert answer.status == 404


async def test_the_door_takes_settings_and_begins_again(http: aiohttp.ClientSession) -> None:
    full = {"locations": {"amsterdam": {"lat": 52.4, "lon": 4.9, "capacity": 0}}}
    async with http.put("/_simulator/settings", json=full) as answer:
        assert answer.status == 204
    assert await deploy(http) == 422
    async with http.delete("/_simulator/ledger") as answer:
        assert answer.status == 204
    assert (await shown(http))["calls_total"] == 0
    small = {"applications": {"arena": {"versions": {"v1": {"req_cpu": 1}}}}}
    wrong: list[Any] = [{"location": {}}, {"locations": {}}, [], small]
    for bad in wrong:
        async with http.put("/_simulator/settings", json=bad) as answer:
            assert answer.status == 422
            assert (await answer.json())["message"]
    assert await deploy(http) == 422


def test_a_script_holds_everything(tmp_path: Path) -> None:
    script = tmp_path / "edgegap.toml"
    script.write_text(SCRIPT)
    settings = load(script, Options())
    assert (settings.token, settings.seed, settings.start_seconds, settings.any_application) == (
        "secret",
        5,
        (1, 2),
        False,
    )
    assert settings.locations == {"amsterdam": LocationSettings(lat=52.37, lon=4.89, capacity=20)}
    assert (settings.rates.deploy, settings.rates.status) == (5, 20)
    (version,) = settings.applications["arena"].bodies("arena")
    assert (version.name, version.max_duration, version.ports[0].name) == ("v1", 60, "game")
    assert settings.images == {"studio/arena": ("v2", "v1")}
    assert settings.faults == (Failed(probability=0.25, locations=("amsterdam",)),)
    assert "secret" not in repr(settings)


def test_options_win_over_the_script_and_know_the_usual_places(tmp_path: Path) -> None:
    script = tmp_path / "edgegap.toml"
    script.write_text(SCRIPT)
    options = Options(
        token="other",
        start_seconds="0-1",
        locations=("amsterdam:capacity=3", "singapore:capacity=2,start_seconds=5-9", "oslo:lat=59.9,lon=10.7"),
        faults=("lost_webhook:probability=0.5,location=oslo+singapore",),
    )
    settings = load(script, options)
    assert (settings.token, settings.seed, settings.start_seconds) == ("other", 5, (0, 1))
    assert settings.locations["amsterdam"].capacity == 3
    singapore = settings.locations["singapore"]
    assert (singapore.lat, singapore.capacity, singapore.start_seconds) == (1.35, 2, (5, 9))
    assert settings.locations["oslo"].lon == 10.7
    assert settings.faults[-1] == LostWebhook(probability=0.5, locations=("oslo", "singapore"))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (Options(locations=("oslo:capacity=3",)), "locations.oslo.lat: Field required"),
        (Options(locations=("oslo:lat",)), "--location oslo:lat: write it as NAME:key=value"),
        (Options(start_seconds="9-1"), "start_seconds: the first number must not be above the second"),
        (Options(faults=("late:on=status",)), "faults.0.late.on.0"),
        (Options(faults=("sleepy",)), "faults.0"),
    ],
)
def test_a_bad_option_is_named(options: Options, named: str) -> None:
    with pytest.raises(ScriptError) as raised:
        load(None, options)
    assert named in str(raised.value)


def test_a_setting_that_makes_no_sense_is_refused() -> None:
    wrong: list[dict[str, Any]] = [
        {"locations": {}},
        {"locations": {"x": {"lat": 91, "lon": 0}}},
        {"throttle_status": 500},
        {"unknown_status": 410},
        {"faults": [{"kind": "doubled", "on": ["stop"]}]},
    ]
    for bad in wrong:
        with pytest.raises(ValidationError):
            SimulatorSettings.model_validate(bad)


def test_the_command_says_its_address_serves_and_ends_cleanly(tmp_path: Path) -> None:
    script = tmp_path / "edgegap.toml"
    script.write_text(SCRIPT)
    command = [sys.executable, "-c", "from allocator.cli.simulate import app; app()", "edgegap", "--json"]
    command += [
        "--script",
        str(script),
        "--location",
        "amsterdam:capacity=1",
        "--known-only",
        "--fault",
        "slow_start:seconds=30",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        url = json.loads(process.stdout.readline())["url"]
        headers = {"Authorization": "token secret", "Content-Type": "application/json"}
        asked = urllib.request.Request(f"{url}/v2/deployments", json.dumps(DEPLOY).encode(), headers)
        with urllib.request.urlopen(asked) as answer:
            assert answer.status == 202
        with urllib.request.urlopen(f"{url}/_simulator/ledger") as answer:
            assert json.load(answer)["deployments"][0]["ports"][0]["name"] == "game"
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")


def test_the_command_refuses_a_bad_option_with_exit_2_and_a_taken_port_with_exit_3() -> None:
    bad = CliRunner().invoke(app, ["edgegap", "--location", "oslo:capacity=1"])
    assert (bad.exit_code, "locations.oslo.lat" in bad.stderr) == (2, True)
    elsewhere = CliRunner().invoke(app, ["edgegap", "--host", "192.0.2.1"])
    assert (elsewhere.exit_code, "choose another --port" in elsewhere.stderr) == (3, True)
