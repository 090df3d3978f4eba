"""What the log says of a pass: one line where the counts have changed, by the worker that made it."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from allocator.engine.observer import Reconciled
from allocator.telemetry.logging import Log, configure_logging


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Standard error."""
    root, handlers, level = logging.getLogger(), logging.getLogger().handlers[:], logging.getLogger().level
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    configure_logging("info", json=True)
    yield stderr
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def told(
    unexplained: int = 0, superseded: int = 0, alive: int = 0, *, passed: bool = True, **failures: str
) -> Reconciled:
    return Reconciled({"unexplained": unexplained, "superseded": superseded}, alive, failures, passed=passed)


def lines(written: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_only_a_change_of_the_counts_is_told(written: io.StringIO) -> None:
    log = Log()
    for event in (told(), told(), told(2, 1), told(2, 1), told(2, 1, passed=False), told(3), told(0, 0, 1), told()):
        log.observe(event)
    found = lines(written)
    assert {line["event"] for line in found} == {"sessions reconciled"}
    counted = [(line["level"], line["unexplained"], line["superseded"], line["condemned_alive"]) for line in found]
    assert counted == [("warning", 2, 1, 0), ("warning", 3, 0, 0), ("info", 0, 0, 1), ("info", 0, 0, 0)]
    assert "allocator orphans" in found[0]["hint"]


def test_a_list_that_fails_is_told_with_its_cause(written: io.StringIO) -> None:
    Log().observe(told(gameye="403: no right"))
    (line,) = lines(written)
    assert (line["event"], line["provider"], line["message"]) == (
        "sessions cannot be listed",
        "gameye",
        "403: no right",
    )
    assert "gameye.token" in line["hint"]


def test_a_worker_that_made_no_pass_says_nothing(written: io.StringIO) -> None:
    Log().observe(told(5, passed=False, gameye="out of order"))
    assert lines(written) == []
