"""`allocator dead-letters`: what a person sees of what could not be taken up, and what a replay does."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from allocator.cli.main import app
from allocator.contract.keys import Keys
from allocator.contract.request import Priority

if TYPE_CHECKING:
    from tests.conftest import TestServer

DeadLetters = Callable[..., Result]
NASTY = "\x1b]0;owned\x07 [red]x[/red] \x9b31m \u202e \x7f\r\n"
BODY = b'{"id":"m-1","image":"g","env":{"TOKEN":"s3cr3t"},"new":1}'


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace)


@pytest.fixture
def dead_letters(redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DeadLetters:
    monkeypatch.chdir(tmp_path)

    def run(*words: str, url: str = redis_url) -> Result:
        settings = ("--set", f"redis.url={url}", "--set", f"namespace={namespace}")
        return CliRunner().invoke(app, ["dead-letters", *words, *settings], catch_exceptions=False)

    return run


@pytest.fixture
def bury(redis_server: TestServer, keys: Keys) -> Callable[..., str]:
    """What a worker writes, and the failed hash with its record."""

    def write(request_id: str = "m-1", request: bytes = BODY, **fields: str) -> str:
        given: dict[str, Any] = {
            "code": "invalid_request",
            "message": "new: unknown key",
            "request_id": request_id,
            "stream": keys.requests(Priority.HIGH),
            "entry_id": "1-1",
            "request": request,
            **fields,
        }
        if request_id:
            redis_server.command("HSET", keys.record(request_id), "final", "failed", "digest", "unreadable")
            redis_server.command("HSET", keys.allocation(request_id), "state", "failed", "final", "1")
        words = [word for pair in given.items() for word in pair]
        entry_id: bytes = redis_server.command("XADD", keys.dead_letters, "*", *words)
        return entry_id.decode()

    return write


def test_letters_are_listed_newest_last_and_counted(dead_letters: DeadLetters, bury: Callable[..., str]) -> None:
    assert dead_letters("list").stdout == "0 dead letters\n"
    first, second = bury(""), bury("m-2", code="poisoned", message="x" * 300)
    result = dead_letters("list")
    assert result.exit_code == 0
    one, two, count = result.stdout.splitlines()
    assert re.fullmatch(rf"{first}  invalid_request  -  \d s  new: unknown key", one)
    assert re.match(rf"{second}  poisoned  m-2  \d s  xxx", two)
    assert two.endswith("...")
    assert count == "2 dead letters"
    assert "s3cr3t" not in result.stdout


def test_a_list_as_json_is_an_object_a_line_without_the_bytes(
    dead_letters: DeadLetters, bury: Callable[..., str], keys: Keys
) -> None:
    assert dead_letters("list", "--json").stdout == ""
    entry_id = bury()
    bury("")
    result = dead_letters("list", "--json")
    one, two = [json.loads(line) for line in result.stdout.splitlines()]
    assert one.pop("age_seconds") < 60
    assert one == {
        "entry_id": entry_id,
        "code": "invalid_request",
        "message": "new: unknown key",
        "request_id": "m-1",
        "stream": keys.requests(Priority.HIGH),
        "request_entry_id": "1-1",
        "size_bytes": len(BODY),
    }
    assert two["request_id"] is None
    assert "s3cr3t" not in result.stdout


def test_a_letter_is_shown_with_its_bytes(dead_letters: DeadLetters, bury: Callable[..., str], keys: Keys) -> None:
    entry_id = bury()
    shown = dead_letters("show", entry_id)
    assert shown.exit_code == 0
    rows = dict(line.split(maxsplit=1) for line in shown.stdout.splitlines())
    assert (rows["entry"], rows["id"], rows["request"]) == (entry_id, "m-1", BODY.decode())
    assert rows["from"] == f"1-1 of {keys.requests(Priority.HIGH)}"
    as_json = json.loads(dead_letters("show", entry_id, "--json").stdout)
    assert (as_json["request"], base64.b64decode(as_json["request_base64"])) == (BODY.decode(), BODY)


@pytest.mark.parametrize("raw", [BODY, b"", b"\x00\xff\x1b[2J\r\n\n"])
def test_raw_writes_the_exact_bytes_and_nothing_else(
    dead_letters: DeadLetters, bury: Callable[..., str], raw: bytes
) -> None:
    entry_id = bury(request=raw)
    result = dead_letters("show", entry_id, "--raw")
    assert (result.exit_code, result.stdout_bytes, result.stderr) == (0, raw, "")
    assert base64.b64decode(json.loads(dead_letters("show", entry_id, "--json").stdout)["request_base64"]) == raw


@pytest.mark.parametrize("words", [("list",), ("list", "--json"), ("show",), ("show", "--json"), ("replay",)])
def test_no_control_character_of_a_foreign_text_reaches_the_terminal(
    dead_letters: DeadLetters, bury: Callable[..., str], words: tuple[str, ...]
) -> None:
    entry_id = bury(request=NASTY.encode() + b"\xff", code=NASTY, message=NASTY, stream=NASTY, entry_id=NASTY)
    result = dead_letters(*words, *([] if words[0] == "list" else [entry_id]))
    said = result.stdout + result.stderr
    assert all(char.isprintable() or char == "\n" for char in said)
    assert "owned" in said


def test_a_replay_sends_the_bytes_again_and_clears_the_failure(
    dead_letters: DeadLetters, bury: Callable[..., str], redis_server: TestServer, keys: Keys
) -> None:
    result = dead_letters("replay", bury())
    stream = keys.requests(Priority.HIGH)
    ((entry_id, fields),) = redis_server.command("XRANGE", stream, "-", "+")
    assert dict(fields) == {b"request": BODY}
    assert (result.exit_code, result.stdout) == (0, f"replayed as {entry_id.decode()} of {stream}\n")
    assert redis_server.command("EXISTS", keys.allocation("m-1"), keys.record("m-1")) == 0
    assert redis_server.command("XLEN", keys.dead_letters) == 0
    assert json.loads(dead_letters("replay", bury("m-2"), "--json").stdout)["stream"] == stream


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"body": "{}"}, "m-1 is under way (allocating): wait for its end, or cancel it"),
        ({"final": "allocated", "session": "s-1"}, "m-1 is allocated: ask for another server under a new id"),
        ({"final": "cancelled"}, "m-1 has ended as cancelled: send the request again under a new id"),
    ],
)
def test_an_id_that_is_not_free_is_refused_with_a_sentence(
    dead_letters: DeadLetters,
    bury: Callable[..., str],
    redis_server: TestServer,
    keys: Keys,
    *,
    record: dict[str, str],
    said: str,
) -> None:
    entry_id = bury()
    redis_server.command("DEL", keys.record("m-1"))
    redis_server.command("HSET", keys.record("m-1"), *[word for pair in record.items() for word in pair])
    result = dead_letters("replay", entry_id)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"{said}\n")
    assert redis_server.command("XLEN", keys.dead_letters) == 1
    assert redis_server.command("EXISTS", keys.requests(Priority.HIGH)) == 0


@pytest.mark.parametrize(
    ("fields", "said"), [({"stream": "nowhere"}, "came in on nowhere, which"), ({"request": b""}, "holds no request")]
)
def test_a_letter_that_cannot_be_sent_is_refused_with_a_sentence(
    dead_letters: DeadLetters, bury: Callable[..., str], fields: dict[str, Any], said: str
) -> None:
    result = dead_letters("replay", bury(**fields))
    assert result.exit_code == 1
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["show", "replay"])
def test_a_letter_that_is_not_there_exits_1(dead_letters: DeadLetters, command: str) -> None:
    result = dead_letters(command, "1-1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "there is no dead letter 1-1" in result.stderr


@pytest.mark.parametrize(
    "words", [("show", "m-1"), ("replay", "-"), ("replay", "1-1\x1b[2J"), ("show", "1-1", "--raw", "--json")]
)
def test_wrong_usage_exits_2_with_one_line(dead_letters: DeadLetters, words: tuple[str, ...]) -> None:
    result = dead_letters(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize("words", [("list",), ("show", "1-1"), ("replay", "1-1")])
def test_a_redis_that_cannot_be_reached_exits_3_with_one_line(
    private_server: TestServer, dead_letters: DeadLetters, words: tuple[str, ...]
) -> None:
    private_server.kill()
    result = dead_letters(*words, url=private_server.url)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "cannot be reached" in result.stderr
    assert result.stderr.count("\n") == 1
