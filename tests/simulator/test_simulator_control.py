"""The simulated Gameye for other processes: its control door, its script and options, its command."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from allocator.cli.simulate import app
from allocator.simulator.gameye import (
    DuplicatedPorts,
    GameyeSimulator,
    LostReply,
    RegionSettings,
    SimulatorSettings,
    StatusFault,
    WarmPool,
)
from allocator.simulator.gameye.script import Options, load
from allocator.simulator.script import ScriptError, watch

BODY = {"location": "europe", "image": "arena", "id": "m-1", "env": {"KEY": "value"}}
GOOD = {"Authorization": "Bearer any"}

SCRIPT = """
token = "secret"
throttle_status = 429
seed = 5
images.arena = { tags = ["v2"], ports = ["7777/udp", "80/tcp"] }

[regions.europe]
capacity = 20
starts_per_second = 5
latency_ms = [50, 150]
warm_pool = { size = 3, own_ids = true }

[regions.asia]
closed = true
retry_after = { seconds = 3, form = "date" }

[[faults]]
kind = "lost_reply"
probability = 0.25
"""


@pytest.fixture
async def simulator() -> AsyncIterator[GameyeSimulator]:
    async with GameyeSimulator() as simulator:
        yield simulator


@pytest.fixture
async def http(simulator: GameyeSimulator) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(simulator.base_url) as http:
        yield http


async def shown(http: aiohttp.ClientSession, path: str = "/_simulator/ledger") -> Any:
    async with http.get(path) as answer:
        assert answer.status == 200
        return await answer.json()


async def test_the_door_shows_every_session_and_every_count(http: aiohttp.ClientSession) -> None:
    for headers, body in ((GOOD, BODY), (GOOD, BODY), (GOOD, {}), ({}, {**BODY, "id": "m-2"})):
        async with http.post("/session", json=body, headers=headers):
            pass
    ledger = await shown(http)
    [session] = ledger.pop("sessions")
    assert ledger == await shown(http, "/_simulator/ledger?sessions=false")
    assert ledger == {
        "sessions_total": 1,
        "posts_total": 4,
        "sessions_by_status": {"europe": {"running": 1}},
        "posts_by_status": {"europe": {"201": 1, "409": 1, "401": 1}, "": {"422": 1}},
        "starts_per_second_max": {"europe": 1},
        "posts_per_second_max": {"europe": 3, "": 1},
    }
    assert session["id"] == "m-1"
    assert session["env"] == {"KEY": "value"}
    assert session["ports"] == [{"type": "udp", "container": 7777, "host": 20000}]
    assert session["ended_why"] is None


async def test_the_door_takes_settings_in_the_shape_of_the_script(http: aiohttp.ClientSession) -> None:
    async with http.put("/_simulator/settings", json={"regions": {"europe": {"capacity": 0}}, "throttle_status": 429}):
        pass
    async with http.post("/session", json=BODY, headers=GOOD) as answer:
        assert answer.status == 429


async def test_bad_settings_change_nothing_and_are_named(http: aiohttp.ClientSession) -> None:
    for bad, named in (({"region": {}}, "region: unknown setting"), ([], "settings: "), ("no json", "settings: ")):
        async with http.put("/_simulator/settings", json=bad) as answer:
            assert answer.status == 422
            assert named in (await answer.json())["message"]
    async with http.put("/_simulator/settings", data=b"{") as answer:
        assert answer.status == 422
    async with http.post("/session", json=BODY, headers=GOOD) as answer:
        assert answer.status == 201


async def test_a_reset_forgets_sessions_and_used_rates_but_not_the_settings(
    simulator: GameyeSimulator, http: aiohttp.ClientSession
) -> None:
    simulator.apply(SimulatorSettings(regions={"europe": RegionSettings(starts_per_second=0.01)}))
    for expected in (201, 420):
        async with http.post("/session", json={**BODY, "id": str(expected)}, headers=GOOD) as answer:
            assert answer.status == expected
    async with http.delete("/_simulator/ledger") as answer:
        assert answer.status == 204
    assert (await shown(http))["posts_total"] == 0
    for expected in (201, 420):
        async with http.post("/session", json={**BODY, "id": str(expected)}, headers=GOOD) as answer:
            assert answer.status == expected


async def test_the_door_puts_a_session_into_a_state(http: aiohttp.ClientSession) -> None:
    async with http.post("/session", json=BODY, headers=GOOD):
        pass
    async with http.put("/_simulator/sessions/m-1", json={"status": "draining"}) as answer:
        assert (answer.status, (await answer.json())["status"]) == (200, "draining")
    async with http.get("/session/m-1", headers=GOOD) as answer:
        assert (await answer.json())["status"] == "draining"
    async with http.put("/_simulator/sessions/m-1", json={"status": "asleep"}) as answer:
        assert answer.status == 422
    async with http.put("/_simulator/sessions/m-2", json={"status": "dead"}) as answer:
        assert answer.status == 404


def test_a_script_holds_everything(tmp_path: Path) -> None:
    script = tmp_path / "busy.toml"
    script.write_text(SCRIPT)
    settings = load(script, Options())
    assert (settings.token, settings.throttle_status, settings.seed) == ("secret", 429, 5)
    assert settings.images["arena"].ports == ("7777/udp", "80/tcp")
    assert settings.regions["europe"].latency_ms == (50, 150)
    assert settings.regions["europe"].warm_pool == WarmPool(size=3, own_ids=True)
    assert settings.regions["asia"].closed == 420
    assert settings.faults == (LostReply(probability=0.25),)
    assert "secret" not in repr(settings)


def test_options_win_over_the_script(tmp_path: Path) -> None:
    script = tmp_path / "busy.toml"
    script.write_text(SCRIPT)
    options = Options(
        token="other",
        throttle_status=420,
        regions=("europe:rate=40,latency_ms=5-10,warm=9", "us-east:capacity=2"),
        faults=("status:status=503,probability=0.1,region=europe+asia,on=start+find",),
    )
    settings = load(script, options)
    assert (settings.token, settings.throttle_status, settings.seed) == ("other", 420, 5)
    europe = settings.regions["europe"]
    assert (europe.capacity, europe.starts_per_second, europe.latency_ms) == (20, 40, (5, 10))
    assert europe.warm_pool == WarmPool(size=9, own_ids=True)
    assert settings.regions["us-east"].capacity == 2
    assert settings.faults == (
        LostReply(probability=0.25),
        StatusFault(status=503, probability=0.1, regions=("europe", "asia"), on=("start", "find")),
    )


def test_options_alone_name_the_only_regions_and_keep_the_default_habit() -> None:
    settings = load(None, Options(regions=("europe",), faults=("slow:latency_ms=10",)))
    assert list(settings.regions) == ["europe"]
    assert isinstance(settings.faults[0], DuplicatedPorts)
    assert len(settings.faults) == 2


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (Options(regions=("europe:speed=4",)), "regions.europe.speed: unknown setting"),
        (Options(regions=("europe:rate",)), "'rate' is no key=value"),
        (Options(regions=(":rate=4",)), "the name before the colon is missing"),
        (Options(regions=("europe:latency_ms=150-50",)), "write it as 50-150"),
        (Options(regions=("europe:latency_ms=nan",)), "regions.europe.latency_ms"),
        (Options(faults=("explode",)), "faults.1"),
        (Options(faults=("late:on=find",)), "faults.1.late.on"),
        (Options(faults=("status:probability=2",)), "faults.1.status.probability"),
        (Options(throttle_status=200), "throttle_status"),
    ],
)
def test_a_bad_option_is_named(options: Options, named: str) -> None:
    with pytest.raises(ScriptError, match=r"options|--") as raised:
        load(None, options)
    assert named in str(raised.value)


def test_settings_do_not_change_after_they_are_made() -> None:
    with pytest.raises(ValidationError):
        SimulatorSettings().seed = 4  # type: ignore[misc]  # that it cannot be set is the point


async def test_a_script_is_read_again_when_it_changes_and_a_faulty_one_changes_nothing(
    tmp_path: Path, wait_until: Callable[..., Any]
) -> None:
    script = tmp_path / "busy.toml"
    script.write_text(SCRIPT)
    applied: list[SimulatorSettings] = []
    said: list[str] = []
    watching = asyncio.create_task(
        watch(
            script, partial(load, script, Options(seed=9)), apply=applied.append, say=said.append, every_seconds=0.005
        )
    )
    await asyncio.sleep(0)  # it has seen the script as it is
    try:
        for text, reason in (("token = ", "Invalid value"), ("speed = 1", "speed: unknown setting")):
            said.clear()
            script.write_text(text)
            await wait_until(lambda: said)
            assert "stay as they were" in said[0]
            assert reason in said[0]
        script.unlink()
        await wait_until(lambda: len(said) == 2)
        assert applied == []
        script.write_text("throttle_status = 429")
        await wait_until(lambda: applied)
        assert (applied[-1].throttle_status, applied[-1].seed) == (429, 9)
    finally:
        watching.cancel()
        await asyncio.wait([watching])


def test_a_bad_option_ends_the_command_with_2() -> None:
    outcome = CliRunner().invoke(app, ["gameye", "--region", "europe:speed=4"])
    assert outcome.exit_code == 2
    assert "regions.europe.speed: unknown setting" in outcome.output


def test_a_taken_address_ends_the_command_with_3() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        outcome = CliRunner().invoke(app, ["gameye", "--port", str(taken.getsockname()[1])])
    assert outcome.exit_code == 3
    assert "choose another --port" in outcome.output


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM on Windows: run it elsewhere")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_says_its_address_serves_and_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    script = tmp_path / "busy.toml"
    script.write_text(SCRIPT)
    command = [sys.executable, "-c", "from allocator.cli.simulate import app; app()"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    process = subprocess.Popen(
        [*command, "gameye", "--json", "--script", str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    try:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        with urllib.request.urlopen(f"{url}/_simulator/ledger", timeout=5) as answer:
            assert json.load(answer)["sessions_total"] == 0
        process.send_signal(number)
        _, errors = process.communicate(timeout=10)
        assert (process.returncode, errors) == (0, b"")
    finally:
        process.kill()
        process.communicate()
