"""What is written and what is not: few lines, constant names, no secret, nothing that a terminal would obey."""

import io
import json
import logging
import sys
from collections.abc import Callable, Collection, Iterator
from typing import Any, Protocol

import pytest
import structlog

from allocator.contract.allocation import Outcome, State
from allocator.contract.codes import Code
from allocator.contract.destination import Destination
from allocator.contract.request import Priority
from allocator.engine.observer import (
    Attempted,
    BrokerBack,
    BrokerTrouble,
    Crashed,
    Event,
    FellBack,
    Finished,
    GateOpened,
    GateShut,
    LeaseLost,
    Left,
    Leg,
    LookedUp,
    NotReady,
    Parked,
    Received,
    Refused,
    SessionStopped,
    Slowed,
    TakenOver,
)
from allocator.gate.gate import Cause
from allocator.telemetry.logging import LINES_A_SECOND, Log, OnceInAWhile, configure_logging

EUROPE, US_EAST = Destination("gameye", "europe"), Destination("gameye", "us-east")
TOKEN = "tok-3f9a-secret"
LEG = Leg("m-1", "1700000000000-0", Priority.NORMAL)
OF_ONE_ALLOCATION: tuple[Event, ...] = (
    Received(LEG, 0.01),
    Attempted(LEG, "europe", EUROPE, Outcome.NO_CAPACITY, 420, 0.0, 0.1, 0.0, "full"),
    FellBack("europe", "us-east", "no_capacity"),
    Attempted(LEG, "us-east", US_EAST, Outcome.CREATED, 201, 0.0, 0.3, 0.2),
    Parked("m-1"),
    LookedUp(LEG, "gameye", "absent", 0.0, 0.1),
    Left(LEG, "parked", 0.4),
    Finished(
        LEG,
        State.ALLOCATED,
        None,
        total_seconds=0.5,
        provider_seconds=0.4,
        gate_seconds=0.0,
        commit_seconds=0.001,
        first_choice=False,
        leg_seconds=0.5,
        attempts=2,
        region="us-east",
        destination=US_EAST,
    ),
)


class Configured(Protocol):
    """Sends the lines of a level to the fixture `stderr`."""

    def __call__(self, level: str, *, json: bool | None = None, secrets: Collection[str] = ()) -> Log: ...


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """Standard error, as a terminal or not."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    def lines(self) -> list[dict[str, Any]]:
        """What was written, as JSON."""
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture(autouse=True)
def _leave_logging_as_it_was() -> Iterator[None]:
    root, handlers, level = logging.getLogger(), logging.getLogger().handlers[:], logging.getLogger().level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stderr() -> Terminal:
    return Terminal(is_terminal=False)


@pytest.fixture
def configured(stderr: Terminal, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Configured:
    """`configured(level, json)`: an observer that writes to the fixture `stderr`."""

    def configure(level: str, *, json: bool | None = None, secrets: Collection[str] = (TOKEN,)) -> Log:
        # Within the test: pytest puts its own in place before each test begins.
        monkeypatch.setattr(sys, "stderr", stderr)
        configure_logging(level, json, secrets=secrets)
        return Log(clock=clock)

    return configure


@pytest.fixture
def log(configured: Configured) -> Log:
    return configured("info")


def test_no_line_is_written_for_an_allocation(log: Log, stderr: Terminal) -> None:
    for event in OF_ONE_ALLOCATION:
        log.observe(event)
    log.turn()
    assert stderr.getvalue() == ""


def test_at_debug_each_step_of_an_allocation_is_a_line(configured: Configured, stderr: Terminal) -> None:
    log = configured("debug")
    for event in OF_ONE_ALLOCATION:
        log.observe(event)
    names = [line["event"] for line in stderr.lines()]
    assert names == [
        *("request received", "attempt", "fell back", "attempt", "request parked", "session looked up"),
        *("request left", "request finished"),
    ]
    assert stderr.lines()[-1]["level"] == "debug"


def test_one_line_at_the_end_of_a_match_where_it_is_asked_for(configured: Configured, stderr: Terminal) -> None:
    configured("info")
    log = Log(match_lines=True, trace_of=lambda leg: f"trace of {leg.request_id}")
    for event in OF_ONE_ALLOCATION * (LINES_A_SECOND + 1):
        log.observe(event)
    assert len(stderr.lines()) == LINES_A_SECOND + 1, "none of them is held back"
    assert stderr.lines()[-1] | {"timestamp": ""} == {
        "event": "request finished",
        "request_id": "m-1",
        "state": "allocated",
        "code": None,
        "region": "us-east",
        "destination": "gameye/us-east",
        "attempts": 2,
        "total_seconds": 0.5,
        "gate_seconds": 0.0,
        "provider_seconds": 0.4,
        "trace_id": "trace of m-1",
        "level": "info",
        "timestamp": "",
    }


@pytest.mark.parametrize(
    ("event", "line_is", "told"),
    [
        (GateShut(EUROPE, Cause.FULL, 2.0, "full"), "info: gate shut", {"cause": "full", "seconds": 2.0}),
        (GateShut(EUROPE, Cause.UNAVAILABLE, 4.0, "503"), "warning: gate shut", {"cause": "unavailable"}),
        (GateOpened(EUROPE), "info: gate opened", {"destination": "gameye/europe"}),
        (BrokerTrouble("commit", "timeout", "late"), "warning: redis cannot be asked", {"kind": "timeout"}),
        (Slowed(EUROPE, 12.3456), "info: rate lowered", {"destination": "gameye/europe", "rate": 12.35}),
        (NotReady("m-1", EUROPE, "closed"), "warning: session not ready", {"request_id": "m-1", "message": "closed"}),
        (BrokerBack(1.23456), "info: redis answers again", {"away_seconds": 1.235}),
        (LeaseLost("m-1"), "warning: lease lost", {"request_id": "m-1"}),
        (SessionStopped("gameye", "id-1", "ended failed"), "info: session stopped", {"session_id": "id-1"}),
        (
            Refused(Code.INVALID_REQUEST, "image: missing", "m-1", buried=True),
            "warning: request refused",
            {"code": "invalid_request", "message": "image: missing", "buried": True},
        ),
        (Crashed("take", ValueError("x")), "error: fault of this program", {"where": "take"}),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str | dict) else "",
)
def test_what_a_person_has_to_know_is_one_line(
    log: Log, stderr: Terminal, event: Event, line_is: str, told: dict[str, object]
) -> None:
    log.observe(event)
    (line,) = stderr.lines()
    assert f"{line['level']}: {line['event']}" == line_is
    assert told.items() <= line.items()


def test_a_refused_credential_says_which_setting_to_check(log: Log, stderr: Terminal) -> None:
    log.observe(GateShut(Destination("gameye", "*"), Cause.CREDENTIAL, 10.0, "401: token expired"))
    (line,) = stderr.lines()
    assert line["level"] == "warning"
    assert "gameye.token or gameye.token_file" in line["hint"]
    assert (line["cause"], line["message"]) == ("credential", "401: token expired")


def test_of_the_calls_that_come_back_from_one_shut_gate_one_is_told(log: Log, stderr: Terminal, clock: Clock) -> None:
    for _ in range(3):
        log.observe(GateShut(EUROPE, Cause.FULL, 2.0, ""))
        clock.now += 0.5
    assert len(stderr.lines()) == 1
    clock.now += 2.0
    log.observe(GateShut(EUROPE, Cause.FULL, 4.0, ""))
    assert [line["seconds"] for line in stderr.lines()] == [2.0, 4.0]
    log.observe(GateOpened(EUROPE))
    log.observe(GateShut(EUROPE, Cause.FULL, 2.0, ""))
    assert [line["event"] for line in stderr.lines()] == ["gate shut", "gate shut", "gate opened", "gate shut"]


@pytest.mark.parametrize(
    "event_of",
    [
        lambda number: Refused(Code.ID_CONFLICT, "other body", f"m-{number}", buried=False),
        lambda number: LeaseLost(f"m-{number}"),
        lambda number: Crashed(f"request m-{number}", ValueError("x")),
        lambda number: GateShut(Destination("gameye", f"r-{number}"), Cause.UNAVAILABLE, 2.0, ""),
    ],
    ids=["refused", "lease lost", "crashed", "gate shut"],
)
def test_a_flood_of_one_kind_is_a_few_lines_a_second_and_a_sum(
    log: Log, stderr: Terminal, clock: Clock, event_of: Callable[[int], Event]
) -> None:
    for number in range(1000):
        log.observe(event_of(number))
    assert len(stderr.lines()) == LINES_A_SECOND
    log.observe(BrokerBack(1.0))
    assert len(stderr.lines()) == LINES_A_SECOND + 1, "another kind is not held back"
    clock.now += 2.0
    log.turn()
    last = stderr.lines()[-1]
    assert (last["event"], last["of"]) == ("more of the same", stderr.lines()[0]["event"])
    assert last["count"] == 1000 - LINES_A_SECOND


def test_requests_taken_over_are_summed_at_most_once_a_second(log: Log, stderr: Terminal, clock: Clock) -> None:
    for _ in range(300):
        log.observe(TakenOver("m-1", uncertain=True))
    assert stderr.getvalue() == ""
    clock.now += 1.0
    for _ in range(2):
        log.turn()
    assert [(line["event"], line["count"]) for line in stderr.lines()] == [("requests taken over", 300)]
    log.observe(TakenOver("m-2", uncertain=True))
    log.flush()
    assert stderr.lines()[-1]["count"] == 1


def test_a_crash_shows_its_traceback_and_no_local_variable(log: Log, stderr: Terminal) -> None:
    def start(env: dict[str, str], args: list[str], token: str) -> None:
        raise ValueError(f"{len(env)} {len(args)} {len(token)}")

    # Put together here, so that the source lines of the traceback do not hold them either.
    values = [f"value-{each}" for each in range(3)]
    try:
        start({"KEY": values[0]}, [values[1]], values[2])
    except ValueError as error:
        log.observe(Crashed("request m-1", error))
    (line,) = stderr.lines()
    assert "Traceback" in line["exception"]
    assert "in start" in line["exception"]
    assert line["exception"].endswith("ValueError: 1 1 7")
    assert not any(value in stderr.getvalue() for value in values)


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_secret_is_masked_wherever_it_stands(configured: Configured, stderr: Terminal, form: str) -> None:
    secrets = {TOKEN}
    log = configured("debug", json=form == "json", secrets=secrets)
    log.observe(GateShut(EUROPE, Cause.CREDENTIAL, 10.0, f"Bearer {TOKEN} refused"))
    log.observe(Crashed("take", ValueError(f"header {TOKEN}\r\n")))
    structlog.get_logger("allocator").info("nested", told={"header": [f"Bearer {TOKEN}"], TOKEN: (TOKEN,)})
    logging.getLogger("aiohttp.client").warning("sent %s", TOKEN)
    secrets.add("token-read-anew")
    log.observe(BrokerTrouble("take", "refused", "password token-read-anew"))
    text = stderr.getvalue()
    assert TOKEN not in text
    assert "token-read-anew" not in text
    assert text.count("***") >= 6


def test_a_reader_of_text_gets_no_control_character_and_no_forged_line(
    configured: Configured, stderr: Terminal
) -> None:
    log = configured("debug", json=False)
    nasty = "x\x1b[2J\r\n2026 [error] forged\x07\u202e\x9b"
    log.observe(Refused(Code.INVALID_REQUEST, nasty, None, buried=True))
    log.observe(Crashed(nasty, ValueError(nasty)))
    logging.getLogger("aiohttp").warning(nasty)
    text = stderr.getvalue()
    assert [char for char in text if not char.isprintable() and char != "\n"] == []
    assert "\\x1b[2J\\r\\n" in text
    assert not any(line.startswith("2026 [error] forged") for line in text.splitlines())


def test_a_terminal_gets_text_and_anything_else_json(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    for is_terminal in (True, False):
        stderr = Terminal(is_terminal=is_terminal)
        monkeypatch.setattr(sys, "stderr", stderr)
        configure_logging("info")
        Log(clock=clock).observe(LeaseLost("m-1"))
        assert ("\x1b[" in stderr.getvalue()) is is_terminal
        assert stderr.getvalue().startswith("{") is not is_terminal


def test_an_endless_text_is_cut(log: Log, stderr: Terminal) -> None:
    log.observe(BrokerTrouble("take", "other", "x" * 1_000_000))
    log.observe(Crashed("take", ValueError("y" * 1_000_000)))
    assert len(stderr.getvalue()) < 40_000


def test_other_libraries_speak_from_a_warning_on_and_in_the_same_form(log: Log, stderr: Terminal) -> None:
    del log
    logging.getLogger("aiohttp").info("request with headers")
    logging.getLogger("asyncio").error("a task failed", exc_info=ValueError("x"))
    (line,) = stderr.lines()
    assert (line["event"], line["level"]) == ("a task failed", "error")
    assert line["exception"].endswith("ValueError: x")


def test_what_a_library_says_again_and_again_is_a_line_in_half_a_minute(stderr: Terminal, log: Log) -> None:
    del log
    for number in range(100):
        logging.getLogger("opentelemetry.sdk").warning("Queue full, dropping %s.", number)
        logging.getLogger("aiohttp.client").warning("Queue full, dropping %s.", number)
    assert len(stderr.lines()) == 2
    clock = Clock()
    once, record = OnceInAWhile(clock), logging.makeLogRecord({"name": "x", "msg": "again"})
    passed = []
    for _ in range(3):
        passed += [once.filter(record), once.filter(record)]
        clock.now += 31.0
    assert passed == [True, False] * 3


def test_an_unknown_level_says_which_there_are() -> None:
    with pytest.raises(ValueError, match="'loud' is unknown; use debug, info, warning or error"):
        configure_logging("loud")
