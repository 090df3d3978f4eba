"""`allocator watch`: what an operator sees, what a program reads, and that neither ends when Redis does."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from allocator.cli.main import app
from allocator.contract.allocation import State
from allocator.contract.keys import Keys
from tests.service.looking import announce, ended, fill

if TYPE_CHECKING:
    from tests.conftest import TestServer

Allocator = Callable[..., Result]
TERMINAL = {"FORCE_COLOR": "1", "COLUMNS": "150", "LINES": "24", "TERM": "xterm"}
NASTY = "\x1b]0;owned\x07 [red]x[/red] \x9b31m \u202e \x7f\r\n"
OWN_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
"""What rich itself writes to a terminal."""
SETTINGS = """
[gameye]
token = "t0ken"
account = "studio"
[regions.europe]
rate = 40
[regions.us-east]
"""
END_SECONDS = 30.0


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace)


@pytest.fixture
def allocator(redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Allocator:
    monkeypatch.chdir(tmp_path)
    Path("allocator.toml").write_text(SETTINGS)

    def run(*words: str, url: str = redis_url, **environment: str) -> Result:
        settings = ("--set", f"redis.url={url}", "--set", f"namespace={namespace}")
        return CliRunner().invoke(app, [*words, *settings], env=environment, catch_exceptions=False)

    return run


@contextmanager
def watching(url: str, namespace: str, directory: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A real one, with its output to be read as it comes."""
    (directory / "allocator.toml").write_text(SETTINGS)
    settings = ("--set", f"redis.url={url}", "--set", f"namespace={namespace}")
    with subprocess.Popen(
        [sys.executable, "-m", "allocator", "watch", "--every", "0.2", *settings, *options],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def next_told(process: subprocess.Popen[str], wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The next line that is as wanted."""
    assert process.stdout is not None
    for line in process.stdout:
        told: dict[str, Any] = json.loads(line)
        if wanted(told):
            return told
    pytest.fail("it ended")


def test_each_look_is_a_block_of_text_where_no_terminal_is(
    allocator: Allocator, redis_server: TestServer, keys: Keys
) -> None:
    fill(redis_server, keys)
    announce(redis_server, keys, [ended("m-1"), ended("m-2", State.EXPIRED, error_code="no_capacity")])
    allocator("regions", "drain", "us-east")
    result = allocator("watch", "--count", "2", "--every", "0.2")
    assert result.exit_code == 0, result.output
    first, second = result.stdout.strip().split("\n\n")
    lines = [" ".join(line.split()) for line in first.splitlines()]
    assert lines[0].startswith(f"{keys.namespace} 20")
    assert lines[1].startswith("us-east is drained; 'allocator regions resume us-east' ends it")
    assert lines[2].startswith("queue high 1 (oldest ")
    assert lines[3:9] == [
        "now allocating 2 parked 1 cancellations 1",
        "left condemned 2 orphans unexplained 1, superseded 2 dead letters 1",
        "ended -",
        "region destination rate now state shut for",
        "europe gameye/europe 40 40 open -",
        "us-east gameye/us-east 20 20 drained -",
    ]
    assert lines[10].endswith(" m-2 expired 2.500 s no_capacity")
    assert lines[11].endswith(" m-1 allocated 1.500 s europe 203.0.113.7:20113")
    assert "ended  0/s" in second


def test_each_look_is_one_object_on_a_line_for_programs(
    allocator: Allocator, redis_server: TestServer, keys: Keys
) -> None:
    fill(redis_server, keys)
    result = allocator("watch", "--json", "--count", "2", "--every", "0.2")
    assert result.exit_code == 0
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert list(first) == [
        *("at", "namespace", "queue", "allocating", "parked", "cancellations", "dead_letters", "condemned", "orphans"),
        *("paused", "paused_until", "levers", "regions", "ended", "results"),
    ]
    assert (first["ended"], second["ended"]["per_second"], second["ended"]["exact"]) == (None, {}, True)
    assert second["at"] > first["at"]
    assert first["regions"] == json.loads(allocator("regions", "--json").stdout)["regions"]


def test_on_a_terminal_it_stays_in_its_place_and_leaves_out_what_does_not_fit(
    allocator: Allocator, redis_server: TestServer, keys: Keys
) -> None:
    announce(redis_server, keys, [ended(f"m-{number}") for number in range(30)])
    regions = json.dumps({f"r-{number}": {} for number in range(50)})
    allocator("regions", "drain", "r-44", "--set", f"regions={regions}")
    result = allocator("watch", "--count", "2", "--every", "0.2", "--set", f"regions={regions}", **TERMINAL)
    assert result.exit_code == 0
    assert "\x1b[1A" in result.stdout
    plain = OWN_ESCAPES.sub("", result.stdout)
    assert "m-29" in plain
    assert "m-1 " not in plain
    assert re.search(r"r-44 +gameye/r-44 +20 +20 +drained", plain)
    assert "more: allocator regions" in plain
    shown = plain[plain.rindex(keys.namespace) :].splitlines()
    assert len(shown) < int(TERMINAL["LINES"])


@pytest.mark.parametrize("environment", [{}, TERMINAL])
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_no_control_character_of_anyones_reaches_the_terminal(
    allocator: Allocator,
    redis_server: TestServer,
    keys: Keys,
    options: tuple[str, ...],
    environment: dict[str, str],
) -> None:
    announce(redis_server, keys, [ended(NASTY, region=NASTY, endpoint=NASTY, error_code=NASTY)])
    redis_server.command("XADD", keys.results, "*", "request_id", "m-2", "state", NASTY, "event", "{}")
    redis_server.command("HSET", keys.levers, f"drained:{NASTY}", "0 ")
    result = allocator("watch", "--count", "1", *options, "--set", "unknown_regions=default", **environment)
    assert result.exit_code == 0
    assert "[red]x[/red]" in result.stdout
    written = OWN_ESCAPES.sub("", result.stdout) if environment else result.stdout
    assert all(char.isprintable() for char in written.replace("\n", ""))


def test_neither_env_nor_a_token_is_ever_shown(allocator: Allocator, redis_server: TestServer, keys: Keys) -> None:
    fill(redis_server, keys, secret="s3cr3t")
    announce(redis_server, keys, [ended("m-1", context={"a": "s3cr3t"})])
    for options in ((), ("--json",)):
        shown = allocator("watch", "--count", "1", *options).output
        assert "m-1" in shown
        assert "s3cr3t" not in shown
        assert "t0ken" not in shown


@pytest.mark.parametrize("every", ["0.1", "61", "nan", "inf", "-1", "x"])
def test_a_pace_out_of_bounds_exits_2(allocator: Allocator, every: str) -> None:
    result = allocator("watch", "--every", every, "--count", "1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--every" in result.stderr


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_redis_that_is_away_at_the_start_exits_3_with_one_line(
    private_server: TestServer, allocator: Allocator, options: tuple[str, ...]
) -> None:
    private_server.kill()
    result = allocator("watch", *options, url=private_server.url)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "cannot be reached" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_redis_that_goes_away_is_said_and_watched_again_when_it_is_back(
    private_server: TestServer, namespace: str, keys: Keys, tmp_path: Path
) -> None:
    with watching(private_server.url, namespace, tmp_path, "--json") as process:
        next_told(process, lambda told: "queue" in told)
        private_server.stop()
        told = next_told(process, lambda told: "error" in told)
        assert list(told) == ["error"]
        assert "cannot be reached" in told["error"]
        private_server.start()
        announce(private_server, keys, [ended("m-1")])
        back = next_told(process, lambda told: bool(told.get("results")))
        assert back["results"][0]["request_id"] == "m-1"
        process.send_signal(signal.SIGINT)
        assert process.wait(END_SECONDS) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_text_says_that_redis_went_away(private_server: TestServer, namespace: str, tmp_path: Path) -> None:
    with watching(private_server.url, namespace, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(namespace)
        private_server.kill()
        assert any("cannot be reached" in line for line in process.stdout)


@pytest.mark.parametrize("hangs", [False, True])
def test_ctrl_c_ends_it_at_once_with_exit_0_and_no_traceback(
    private_server: TestServer, namespace: str, tmp_path: Path, *, hangs: bool
) -> None:
    with watching(private_server.url, namespace, tmp_path, "--json") as process:
        next_told(process, lambda _: True)
        if hangs:
            private_server.pause()
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(END_SECONDS) == 0
        finally:
            private_server.resume()
        assert process.stderr is not None
        assert process.stderr.read() == ""
