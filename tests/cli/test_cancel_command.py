"""`allocator cancel`: what a person or a script sees, and the exit codes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner, Result

from allocator.cli.main import app
from allocator.client import client as client_module
from allocator.contract.keys import Keys

if TYPE_CHECKING:
    from tests.conftest import TestServer

Cancel = Callable[..., Result]


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace)


@pytest.fixture
def cancel(redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cancel:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(client_module, "GONE_LOOK_SECONDS", 0.01)

    def run(*words: str, url: str = redis_url) -> Result:
        settings = ("--set", f"redis.url={url}", "--set", f"namespace={namespace}")
        return CliRunner().invoke(app, ["cancel", *words, *settings], catch_exceptions=False)

    return run


@pytest.fixture
def worker(redis_server: TestServer, keys: Keys) -> Iterator[Callable[..., None]]:
    """Once an order has come, let its id go through these states."""
    going, threads = threading.Event(), list[threading.Thread]()

    def start(*states: str) -> None:
        def work() -> None:
            while not redis_server.command("XLEN", keys.cancellations):
                if going.wait(0.005):
                    return
            for state in states:
                words = ("state", state, "final", "1", "request_id", "m-1")
                redis_server.command("HSET", keys.allocation("m-1"), *words)
                going.wait(0.05)

        threads.append(threading.Thread(target=work))
        threads[-1].start()

    yield start
    going.set()
    for thread in threads:
        thread.join()


def orders(server: TestServer, keys: Keys) -> list[bytes]:
    return [dict(fields)[b"id"] for _, fields in server.command("XRANGE", keys.cancellations, "-", "+")]


def test_a_cancellation_is_sent_and_said(cancel: Cancel, redis_server: TestServer, keys: Keys) -> None:
    plain, as_json = cancel("m-1"), cancel("m-2", "--json")
    assert (plain.exit_code, plain.stdout) == (0, "cancellation of m-1 sent\n")
    said = json.loads(as_json.stdout)
    assert (as_json.exit_code, said["request_id"]) == (0, "m-2")
    assert redis_server.command("XRANGE", keys.cancellations, said["entry_id"], said["entry_id"])
    assert orders(redis_server, keys) == [b"m-1", b"m-2"]


@pytest.mark.parametrize(
    ("states", "code"),
    [
        (("cancelled",), 0),
        (("allocated", "released"), 0),
        (("failed",), 1),
        (("expired",), 1),
        (("unheard_of",), 1),
    ],
)
def test_a_wait_ends_when_no_server_is_left_or_none_ever_came(
    cancel: Cancel, worker: Callable[..., None], states: tuple[str, ...], code: int
) -> None:
    worker(*states)
    result = cancel("m-1", "--wait")
    assert (result.exit_code, result.stdout) == (code, f"m-1  {states[-1]}\n")


def test_a_wait_prints_the_answer_as_json(cancel: Cancel, worker: Callable[..., None]) -> None:
    worker("allocated", "released")
    result = cancel("m-1", "--wait", "--json")
    assert (result.exit_code, json.loads(result.stdout)["state"]) == (0, "released")


def test_a_wait_that_gives_up_exits_1_and_the_order_stays(cancel: Cancel, redis_server: TestServer, keys: Keys) -> None:
    began_at = time.monotonic()
    result = cancel("m-1", "--wait", "--timeout", "0.1")
    assert time.monotonic() - began_at < 5
    assert (result.exit_code, result.stdout) == (1, "")
    assert "m-1 was not cancelled or released within 0.1 s" in result.stderr
    assert orders(redis_server, keys) == [b"m-1"]


def test_an_id_that_cannot_be_exits_2_and_sends_nothing(cancel: Cancel, redis_server: TestServer) -> None:
    result = cancel("m 1\x1b[2J")
    assert result.exit_code == 2
    assert result.stderr.startswith("id: must be")
    assert "\x1b" not in result.stderr
    assert redis_server.command("DBSIZE") == 0


@pytest.mark.parametrize("words", [("m-1",), ("m-1", "--wait")])
def test_a_redis_that_cannot_be_reached_exits_3_with_one_line(
    private_server: TestServer, cancel: Cancel, words: tuple[str, ...]
) -> None:
    private_server.kill()
    result = cancel(*words, url=private_server.url)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "cannot be reached" in result.stderr
    assert result.stderr.count("\n") == 1
