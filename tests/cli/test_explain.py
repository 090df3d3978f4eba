"""`allocator explain`: the life of a match as a person reads it, and as one object for programs."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from allocator.broker.broker import Ending, Hold, Reservation
from allocator.broker.parking import Stay
from allocator.broker.streams import StreamsBroker
from allocator.broker.streams_parking import StreamsParking
from allocator.cli.main import app
from allocator.contract.allocation import Allocation, Attempt, Outcome, Port, State
from allocator.contract.codes import Code
from allocator.contract.keys import Keys
from allocator.contract.request import Priority
from allocator.redis_io.connect import RedisConnection
from allocator.service.life import Held, Parked, Unheld, Untaken, life_of

if TYPE_CHECKING:
    from tests.conftest import TestServer

Explain = Callable[..., Result]
Keep = Callable[..., None]
TERMINAL = {"FORCE_COLOR": "1", "COLUMNS": "200", "TERM": "xterm"}
T0 = 1_700_000_000_000
NASTY = "\x1b]0;owned\x07 [red]x[/red] \x9b31m \u202e \x7f\r\n"
BODY = b'{"id":"m-1","image":"g","regions":["europe","us-east"],"env":{"TOKEN":"s3cr3t"},"args":["s3cr3t"]}'
THROTTLED = Attempt("europe", "gameye", "europe", Outcome.THROTTLED, 420, T0 + 20, 48.2, 12.0)
CREATED = Attempt("us-east", "gameye", "us-east", Outcome.CREATED, 201, T0 + 3000, 1500.0, 0.0)
PLANNED = {
    "at": T0 + 5,
    "step": "planned",
    "order": ["europe gameye/europe", "us-east gameye/us-east"],
    "left_out": [
        {"region": "asia", "destination": "gameye/asia", "reason": "drained until 12:30 UTC"},
        {"region": "moon", "destination": None, "reason": "unknown here"},
    ],
}
TRAIL = [
    PLANNED,
    {"at": T0 + 90, "step": "parked", "for": ["gameye/europe", "gameye/us-east"], "until": T0 + 9000},
    {"at": T0 + 2900, "step": "called", "from": "gameye/us-east"},
]
ALLOCATED: dict[str, Any] = {
    "state": State.ALLOCATED,
    "final": True,
    "updated_at": T0 + 4600,
    "allocated_at": T0 + 4500,
    "attempts": (THROTTLED, CREATED),
    "host": "203.0.113.7",
    "ports": (Port("game", "udp", 7777, 20113),),
    "endpoint": "203.0.113.7:20113",
    "region": "us-east",
    "provider": "gameye",
    "location": "us-east",
    "session_id": "s-1",
}


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace)


@pytest.fixture
def keys_without_ttl() -> tuple[str, ...]:
    return ("*",)


@pytest.fixture
def explain(redis_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Explain:
    monkeypatch.chdir(tmp_path)

    def run(*words: str, url: str = redis_url, **environment: str) -> Result:
        settings = ("--set", f"redis.url={url}", "--set", f"namespace={namespace}")
        return CliRunner().invoke(app, ["explain", *words, *settings], env=environment, catch_exceptions=False)

    return run


@pytest.fixture
def keep(redis_server: TestServer, keys: Keys) -> Keep:
    """What the broker keeps of m-1: its hash, its record, its lease."""

    def write(hashed: dict[str, Any], lease_ms: int | None = None, **record: Any) -> None:
        allocation = Allocation(**{"request_id": "m-1", "enqueued_at": T0, **hashed})
        words = [word for pair in allocation.to_hash().items() for word in pair]
        redis_server.command("HSET", keys.allocation("m-1"), *words)
        fields = {"deadline": T0 + 60_000, "generation": 1, "takes": 1, **record}
        trail = fields.pop("trail", None)
        if trail is not None:
            fields["trail"] = trail if isinstance(trail, str) else json.dumps(trail)
        redis_server.command("HSET", keys.record("m-1"), *[word for pair in fields.items() for word in pair])
        if lease_ms is not None:
            redis_server.command("ZADD", keys.leases, lease_ms, "m-1")

    return write


def now_ms() -> int:
    return int(time.time() * 1000)


def test_a_match_is_told_from_its_entry_to_where_it_runs(explain: Explain, keep: Keep) -> None:
    keep(ALLOCATED, generation=2, takes=3, trail=TRAIL)
    result = explain("m-1")
    assert result.exit_code == 0
    assert result.stdout == (
        "m-1  allocated  generation 2  taken up 3 times\n"
        "   +0.000 s  taken        by Redis at 2023-11-14T22:13:20.000Z; priority normal; expires at +60.000 s\n"
        "   +0.005 s  planned      europe gameye/europe, then us-east gameye/us-east\n"
        "                          without asia (gameye/asia): drained until 12:30 UTC\n"
        "                          without moon: unknown here\n"
        "   +0.020 s  throttled    europe gameye/europe: 420 after 48 ms, having waited 12 ms\n"
        "   +0.090 s  parked       for gameye/europe, gameye/us-east; looked at again by +9.000 s\n"
        "   +2.900 s  called       from gameye/us-east\n"
        "   +3.000 s  created      us-east gameye/us-east: 201 after 1.500 s\n"
        "   +4.500 s  allocated    203.0.113.7:20113; in us-east (gameye/us-east); session s-1; 4.500 s in all\n"
    )


def test_a_bad_end_says_its_code_message_and_when_to_try_again(explain: Explain, keep: Keep) -> None:
    failed = {"error_code": "no_capacity", "error_message": "all full", "retry_after_ms": 2000}
    keep({"state": State.EXPIRED, "final": True, "updated_at": T0 + 60_000, **failed}, priority="high")
    result = explain("m-1")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == (
        "  +60.000 s  expired      no_capacity: all full; try again in 2.000 s; 60.000 s in all"
    )


def test_a_release_follows_the_allocation(explain: Explain, keep: Keep) -> None:
    keep(ALLOCATED | {"state": State.RELEASED, "updated_at": T0 + 9000})
    *_, allocated, released = explain("m-1").stdout.splitlines()
    assert "+4.500 s  allocated " in allocated
    assert released == "   +9.000 s  released     the server was stopped"


def test_what_is_parked_says_for_what_and_why(explain: Explain, keep: Keep) -> None:
    until_ms = now_ms() + 60_000
    waiting = {"error_code": "no_capacity", "error_message": "too fast"}
    keep({"state": State.PARKED, **waiting}, lease_ms=until_ms, parked="gameye/europe\ngameye/asia", body=BODY)
    *_, taken, now, so_far = explain("m-1").stdout.splitlines()
    assert taken.endswith("priority normal; asks for europe, us-east; expires at +60.000 s")
    assert "now          parked for gameye/europe, gameye/asia; looked at again by +" in now
    assert so_far.strip() == "so far no_capacity: too fast"


@pytest.mark.parametrize(
    ("lots", "sentence"),
    [
        ("gameye/europe~guests\ngameye/asia", "parked for gameye/europe as a guest, gameye/asia"),
        ("", "looser latency cap"),
    ],
)
def test_a_guest_is_told_from_others_and_who_waits_for_a_cap_says_so(
    explain: Explain, keep: Keep, lots: str, sentence: str
) -> None:
    keep({"state": State.PARKED}, lease_ms=now_ms() + 60_000, parked=lots, body=BODY)
    assert sentence in explain("m-1").stdout


def test_what_a_worker_holds_says_until_when_and_a_lapsed_lease_that_nobody_does(explain: Explain, keep: Keep) -> None:
    keep({"state": State.ALLOCATING}, lease_ms=now_ms() + 60_000, body=BODY)
    assert "now          a worker has it, by a lease until +" in explain("m-1").stdout
    assert json.loads(explain("m-1", "--json").stdout)["standing"]["is"] == "held"
    keep({"state": State.ALLOCATING}, lease_ms=now_ms() - 1)
    assert "now          no worker has it; the next one that looks takes it over" in explain("m-1").stdout


def test_what_a_client_has_submitted_and_nobody_took_is_told(
    explain: Explain, redis_server: TestServer, keys: Keys
) -> None:
    redis_server.command("HSET", keys.allocation("m-1"), "state", "queued", "request_id", "m-1")
    assert "now          no worker has taken it up" in explain("m-1").stdout


def test_an_id_that_nobody_knows_is_exit_1_and_a_sentence(explain: Explain) -> None:
    result = explain("m-9")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "m-9 is not known: not submitted, not taken up yet, refused as overloaded, or aged out\n"
    result = explain("m-9", "--json")
    assert (result.exit_code, result.stdout) == (1, "null\n")


def test_an_id_that_no_match_can_have_is_refused(explain: Explain) -> None:
    result = explain("m 9")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("id: must be 1 to 128 of ")


def test_json_is_one_object_with_the_fields_of_get_and_the_steps(explain: Explain, keep: Keep) -> None:
    keep(ALLOCATED, trail=TRAIL, body=BODY)
    told = json.loads(explain("m-1", "--json").stdout)
    assert told["state"] == "allocated"
    assert told["endpoint"] == "203.0.113.7:20113"
    assert told["regions"] == ["europe", "us-east"]
    assert (told["deadline_at"], told["generation"], told["takes"]) == (T0 + 60_000, 1, 1)
    assert "attempts" not in told
    assert "standing" not in told
    names = ["taken", "planned", "attempt", "parked", "called", "attempt", "allocated"]
    assert [step["step"] for step in told["steps"]] == names
    assert told["steps"][1] == PLANNED | {"after_ms": 5}
    assert told["steps"][2]["outcome"] == "throttled"
    assert told["steps"][2]["waited_ms"] == 12.0
    assert told["steps"][-1]["total_ms"] == 4500


def test_the_other_steps_of_a_trail_read_as_sentences(explain: Explain, keep: Keep) -> None:
    steps: list[dict[str, Any]] = [
        {"step": "woken"},
        {"step": "taken_over", "uncertain": True},
        {"step": "taken_over", "uncertain": False},
        {"step": "not_ready", "session": "s-1", "reason": "8080/tcp did not answer"},
        {"step": "planned", "order": []},
    ]
    keep({"state": State.ALLOCATING}, trail=[{"at": T0 + number, **step} for number, step in enumerate(steps, 1)])
    lines = [line[13:] for line in explain("m-1").stdout.splitlines()[2:-1]]
    assert lines == [
        "woken        from its parking, to be looked at again",
        "taken_over   from another worker, which may have made a call without an answer",
        "taken_over   from another worker",
        "not_ready    session s-1: 8080/tcp did not answer",
        "planned      nothing can be called now",
    ]


def test_a_step_that_is_not_known_or_not_as_expected_is_shown_as_it_is(explain: Explain, keep: Keep) -> None:
    trail = [
        {"at": T0 + 1, "step": "blessed", "by": "the host", "times": 3},
        {"at": T0 + 2, "step": "planned", "order": "europe"},
        {"at": T0 + 3, "step": "planned", "order": ["europe"], "left_out": [7, {"region": "us"}]},
        {"at": T0 + 4, "step": "parked", "for": [], "until": None},
    ]
    keep({"state": State.ALLOCATING}, trail=trail)
    lines = [line[13:] for line in explain("m-1").stdout.splitlines()[2:-1]]
    assert lines == [
        "blessed      by=the host times=3",
        "planned      order=europe",
        "planned      europe",
        "             without 7",
        '             without {"region":"us"}',
        "parked       for=[] until=null",
    ]


@pytest.mark.parametrize(
    "trail",
    [
        "",
        "no JSON",
        "{}",
        "[" * 100_000,
        '[{"at":1,"step":"a","b":"\\ud800"}]',
        '[1,null,{},{"at":"1","step":"a"},{"at":1},{"at":1,"step":[]},{"at":-1,"step":"a"},{"at":1e3,"step":"a"}]',
        '[{"at":1' + "0" * 400 + ',"step":"a"}]',
        '[{"at":1,"step":"attempt"},{"at":1,"step":"taken"},{"at":1,"step":"failed"}]',
    ],
)
def test_a_faulty_trail_is_passed_over(explain: Explain, keep: Keep, trail: str) -> None:
    keep(ALLOCATED, trail=trail)
    names = [step["step"] for step in json.loads(explain("m-1", "--json").stdout)["steps"]]
    assert names == ["taken", "attempt", "attempt", "allocated"]
    assert len(explain("m-1").stdout.splitlines()) == 5


def test_an_entry_id_that_its_sender_made_up_is_told_all_the_same(explain: Explain, keep: Keep) -> None:
    keep({"state": State.ALLOCATING, "enqueued_at": 10**17})
    assert f"by Redis at {10**17} ms" in explain("m-1").stdout


@pytest.mark.parametrize("environment", [{}, TERMINAL])
def test_no_control_character_of_anyones_text_reaches_the_terminal(
    explain: Explain, keep: Keep, environment: dict[str, str]
) -> None:
    step = {"at": T0 + 1, "step": NASTY, "x": NASTY}
    left_out = {"region": NASTY, "destination": NASTY, "reason": NASTY}
    keep(
        {
            "state": State.FAILED,
            "final": True,
            "updated_at": T0,
            "error_code": NASTY,
            "error_message": NASTY,
            "attempts": (Attempt(NASTY, NASTY, NASTY, NASTY, 420, T0, 1.0, 0.0),),
        },
        trail=[step, {"at": T0, "step": "planned", "order": [NASTY], "left_out": [left_out]}],
    )
    printed = explain("m-1", **environment).stdout
    assert "[red]x[/red]" in printed
    assert not set("\x07\x9b\u202e\x7f\r") & set(printed)
    assert "\x1b]" not in printed
    assert "\\x1b]0;owned" in printed
    printed = explain("m-1", "--json").stdout
    assert not [char for char in printed.rstrip("\n") if not char.isprintable()]


def test_a_terminal_gets_the_same_words_drawn(explain: Explain, keep: Keep) -> None:
    keep(ALLOCATED, trail=TRAIL)
    plain = explain("m-1").stdout.split()
    drawn = explain("m-1", **TERMINAL).stdout
    assert "\x1b[" in drawn
    assert re.sub(r"\x1b\[[0-9;]*m", "", drawn).split() == plain


def test_nothing_of_env_and_args_is_told(explain: Explain, keep: Keep) -> None:
    keep({"state": State.ALLOCATING}, body=BODY, trail=TRAIL)
    assert "s3cr3t" not in explain("m-1").stdout + explain("m-1", "--json").stdout


def test_a_redis_that_is_away_is_exit_3(explain: Explain) -> None:
    assert explain("m-1", url="redis://127.0.0.1:1").exit_code == 3


async def test_what_the_broker_keeps_is_what_is_read(connection: RedisConnection, keys: Keys) -> None:
    numbers = iter(range(100))
    broker = StreamsBroker(
        connection,
        keys,
        deployment="d",
        worker="w-1",
        lease_ms=60_000,
        result_ttl_ms=60_000,
        results_max_age_ms=60_000,
        fence=lambda: f"fence-{next(numbers)}",
    )
    parking = StreamsParking(
        broker.steps,
        keys,
        lease_ms=60_000,
        fence=lambda: f"fence-{next(numbers)}",
        loss_ms=broker.loss_ms,
        now_ms=broker.now_ms,
    )
    await broker.prepare()
    assert await life_of(connection, keys, "m-1") is None
    await connection.execute("HSET", keys.allocation("m-0"), "state", "queued", "request_id", "m-0")
    queued = await life_of(connection, keys, "m-0")
    assert queued is not None
    assert queued.standing == Untaken()

    await connection.execute("XADD", keys.requests(Priority.HIGH), "*", "request", BODY)
    (entry,) = await broker.take(1, (Priority.HIGH,))
    (hold,) = await broker.reserve([Reservation(entry, "m-1", "digest", 60_000)])
    assert isinstance(hold, Hold)
    life = await life_of(connection, keys, "m-1")
    assert life is not None
    assert isinstance(life.standing, Held)
    assert life.regions == ("europe", "us-east")
    assert life.deadline_ms == hold.deadline_ms
    assert (life.generation, life.takes) == (1, 1)
    assert [step.name for step in life.steps] == ["taken"]

    wake_ms = broker.now_ms() + 30_000
    stay = Stay(hold, ("gameye/a", "gameye/b"), wake_ms, (THROTTLED,), Code.NO_CAPACITY, "full", json.dumps(TRAIL[:1]))
    assert await parking.park(stay)
    life = await life_of(connection, keys, "m-1")
    assert life is not None
    assert life.standing == Parked(("gameye/a", "gameye/b"), wake_ms)
    assert sorted(step.name for step in life.steps) == ["attempt", "planned", "taken"]

    await connection.execute("ZADD", keys.leases, "1", "m-1")
    (again,) = await broker.reclaim(1)
    await connection.execute("ZREM", keys.leases, "m-1")
    life = await life_of(connection, keys, "m-1")
    assert life is not None
    assert life.standing == Unheld()
    fields = {"state": "expired", "final": "1", "updated_at": str(again.deadline_ms), "error_code": "deadline"}
    await broker.commit(Ending(again, fields, "{}", 60_000))
    life = await life_of(connection, keys, "m-1")
    assert life is not None
    assert (life.standing, life.regions) == (None, ())
    assert {step.name for step in life.steps} == {"attempt", "planned", "taken", "expired"}
    assert life.steps[-1].facts["total_ms"] == 60_000
    await parking.close()
    await broker.close()
