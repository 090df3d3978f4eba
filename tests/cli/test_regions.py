"""`allocator regions`, `pause`, `resume`, and the levers in `config`: what an operator sets and sees."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from allocator.cli.main import app
from allocator.contract.keys import Keys
from allocator.gate.fleet import FleetGate
from allocator.gate.gate import Cause, Limit
from allocator.redis_io.connect import connect

if TYPE_CHECKING:
    from tests.conftest import TestServer

Allocator = Callable[..., Result]
SETTINGS = """
deployment = "d"
default_regions = ["europe"]
[gameye]
token = "t"
account = "studio"
rate = 100
[regions.europe]
rate = 40
[regions.us-east]
[regions.west]
destinations = [{ provider = "gameye", location = "europe", rate = 40 }, { provider = "edgegap", location = "x" }]
"""


@pytest.fixture
def allocator(redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Allocator:
    monkeypatch.chdir(tmp_path)
    Path("allocator.toml").write_text(SETTINGS)

    def run(*words: str, url: str = redis_url) -> Result:
        settings = ("--set", f"redis.url={url}", "--set", f"namespace={namespace}")
        return CliRunner().invoke(app, [*words, *settings], catch_exceptions=False)

    return run


def rows(result: Result) -> list[list[str]]:
    assert result.exit_code == 0, result.output
    return [line.split() for line in result.stdout.splitlines()]


def facts(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def shut(url: str, scope: str, cause: Cause) -> None:
    """What a worker does whose call was turned away."""

    async def tell() -> None:
        async with await connect(url, name="test") as connection:
            gate = FleetGate(connection, probe_hold_seconds=1, chance=random.Random(1))
            await gate.shut(Limit("gameye", "studio", scope, 40), cause, 30)

    asyncio.run(tell())


def test_each_destination_of_each_region_is_a_row(allocator: Allocator) -> None:
    assert rows(allocator("regions")) == [
        ["region", "destination", "rate", "now", "state", "shut", "for"],
        ["europe", "gameye/europe", "40", "40", "open", "-"],
        ["us-east", "gameye/us-east", "20", "20", "open", "-"],
        ["west", "gameye/europe", "40", "40", "open", "-"],
        ["west", "edgegap/x", "20", "-", "-", "-"],
    ]


def test_a_shut_destination_says_why_and_for_how_long(allocator: Allocator, redis_url: str) -> None:
    shut(redis_url, "europe", Cause.FULL)
    told = {row[0]: row[4:] for row in rows(allocator("regions"))}
    assert told["europe"][0] == "full"
    assert 20 <= int(told["europe"][1]) <= 40
    assert told["us-east"] == ["open", "-"]
    shut(redis_url, "*", Cause.CREDENTIAL)
    states = {row["region"]: row["state"] for row in facts(allocator("regions", "--json"))["regions"][:2]}
    assert states == {"europe": "full", "us-east": "credential"}


def test_a_region_is_drained_and_resumed(allocator: Allocator) -> None:
    drained = allocator("regions", "drain", "europe", "--for", "1h30m")
    assert rows(drained)[1][4] == "drained"
    assert "europe is drained until " in drained.stdout
    assert "'allocator regions resume europe' ends it" in drained.stdout
    told = facts(allocator("regions", "--json"))["regions"][0]
    assert (told["state"], told["location"], told["rate_until"]) == ("drained", "europe", None)
    assert isinstance(told["drained_until"], int)
    resumed = allocator("regions", "resume", "europe")
    assert rows(resumed)[1][4] == "open"
    assert "drained" not in resumed.stdout


def test_a_rate_is_set_and_shown_beside_the_settings(allocator: Allocator) -> None:
    result = allocator("regions", "set", "us-east", "--rate", "2.5")
    assert rows(result)[2][:4] == ["us-east", "gameye/us-east", "20", "2.5"]
    assert "us-east has a rate of 2.5; 'allocator regions resume us-east' ends it" in result.stdout
    told = facts(allocator("regions", "resume", "us-east", "--json"))["regions"][1]
    assert (told["rate"], told["rate_now"], told["rate_set"]) == (20, 20, None)


def test_the_fleet_is_paused_for_a_time_and_resumed(allocator: Allocator) -> None:
    paused = allocator("pause", "--for", "10m")
    assert paused.stdout.startswith("the fleet is paused until 20")
    assert "the fleet is paused until 20" in allocator("regions").stdout
    told = facts(allocator("pause", "--json"))
    assert told == {"paused": True, "paused_until": None}
    assert allocator("resume").stdout == "the workers take requests up\n"
    assert facts(allocator("regions", "--json"))["paused"] is False


@pytest.mark.parametrize("verb", [("drain",), ("resume",), ("set", "--rate", "1")])
def test_an_unknown_region_is_refused_with_the_nearest_name(allocator: Allocator, verb: tuple[str, ...]) -> None:
    result = allocator("regions", *verb, "eurpoe")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no region 'eurpoe'; the nearest known one is 'europe'" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_region_is_any_name_where_unknown_ones_are_served(allocator: Allocator) -> None:
    result = allocator("regions", "drain", "asia", "--set", "unknown_regions=default")
    assert ["asia", "gameye/asia", "20", "20", "drained", "-"] in rows(result)
    assert "drained" not in allocator("regions", "resume", "asia").stdout


@pytest.mark.parametrize("span", ["", "5", "0s", "1x", "-1m", "30 m", "1m1h", "721h", "9" * 30 + "s", "\x1b[2Jh"])
def test_a_span_that_is_none_exits_2_and_sets_nothing(allocator: Allocator, span: str) -> None:
    for words in (("pause",), ("regions", "drain", "europe")):
        result = allocator(*words, "--for", span)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "write it like 30s, 30m, 2h or 1h30m" in result.stderr
        assert "\x1b" not in result.stderr
    assert facts(allocator("regions", "--json"))["paused"] is False


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf", "100001"])
def test_a_rate_out_of_bounds_exits_2(allocator: Allocator, rate: str) -> None:
    result = allocator("regions", "set", "europe", "--rate", rate)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--rate: must be" in result.stderr


def test_options_before_a_verb_are_refused_since_they_would_not_count(allocator: Allocator) -> None:
    result = allocator("regions", "--json", "drain", "europe")
    assert result.exit_code == 2
    assert "write the options after 'drain'" in result.stderr


def test_config_shows_the_levers_beside_the_settings(allocator: Allocator) -> None:
    assert "lever" not in allocator("config").stdout
    allocator("pause", "--for", "10m")
    allocator("regions", "drain", "us-east")
    allocator("regions", "set", "europe", "--rate", "5")
    shown = [row for row in rows(allocator("config")) if row and row[0].startswith("levers.")]
    assert shown[0][:4] == ["levers.paused", "true", "lever", "until"]
    assert ["levers.regions.us-east.drained", "true", "lever"] in shown
    assert ["levers.regions.europe.rate", "5", "lever"] in shown
    told = facts(allocator("config", "--json"))
    assert told["levers.regions.europe.rate"] == {"value": 5, "source": "lever", "until": None}
    assert told["regions.europe.rate"]["value"] == 40
    assert isinstance(told["levers.paused"]["until"], int)


@pytest.mark.parametrize(
    "words", [("regions",), ("regions", "drain", "europe"), ("regions", "resume", "europe"), ("pause",), ("resume",)]
)
def test_a_redis_that_cannot_be_reached_exits_3_with_one_line(
    private_server: TestServer, allocator: Allocator, words: tuple[str, ...]
) -> None:
    private_server.kill()
    result = allocator(*words, url=private_server.url)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "cannot be reached" in result.stderr
    assert result.stderr.count("\n") == 1


def test_config_works_without_redis_and_says_so(private_server: TestServer, allocator: Allocator) -> None:
    private_server.pause()
    try:
        hanging = allocator("config", url=private_server.url)
    finally:
        private_server.resume()
    assert hanging.exit_code == 0
    assert hanging.stdout.rstrip().endswith("levers: Redis not reachable")
    private_server.kill()
    result = allocator("config", "--json", url=private_server.url)
    assert facts(result)["regions.europe.rate"]["value"] == 40
    assert result.stderr == "levers: Redis not reachable\n"


def test_a_lever_outlives_the_command_in_one_key(allocator: Allocator, redis_server: TestServer, keys: Keys) -> None:
    allocator("regions", "drain", "europe")
    assert redis_server.command("HGETALL", keys.levers) in ([b"drained:europe", b"0 "], {b"drained:europe": b"0 "})


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace)
