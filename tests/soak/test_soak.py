"""The soak in little, and the arithmetic by which the whole one is judged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TestServer
from tests.soak.matchmaker import Match
from tests.soak.run import Plan, soak
from tests.soak.samples import BOUNDS, Sample, of_process, rows, table
from tests.soak.verdict import long_doubles, stopped_in_play

LITTLE = Plan(
    30, rate=20, worker_every_seconds=8, redis_every_seconds=13, sample_every_seconds=2, play_seconds=5, seed=1
)


@pytest.mark.skipif(not os.environ.get("LONG_TESTS"), reason="takes a minute: LONG_TESTS=1")
async def test_a_soak_of_half_a_minute_loses_nothing(private_server: TestServer, tmp_path: Path) -> None:
    outcome = await soak(LITTLE, tmp_path, private_server, lambda _: None)
    assert not outcome.faults
    assert outcome.workers_killed >= 3
    assert outcome.redis_killed >= 2
    assert outcome.states["released"] > 0.9 * sum(outcome.states.values())
    assert set(outcome.samples[-1].values) == set(BOUNDS)


def series(name: str, *values: float) -> list[Sample]:
    return [Sample(float(at), {name: value}) for at, value in enumerate(values)]


@pytest.mark.parametrize(
    ("name", "values", "grows"),
    [
        ("veteran rss MB", (80, 81, 80, 82, 81, 83), False),
        ("veteran rss MB", (80, 90, 100, 110, 120, 130), True),
        ("veteran rss MB", (80, 80, 300, 300, 80, 80), False),
        ("veteran fds", (20, 25, 22, 24, 27, 28), False),
        ("veteran fds", (20, 25, 40, 55, 70, 85), True),
        ("keys without a lifetime", (50, 60, 70, 400, 500, 600), True),
    ],
)
def test_what_the_last_third_has_more_than_allowed_grows(name: str, values: tuple[float, ...], *, grows: bool) -> None:
    (row,) = rows(series(name, *values), 0)
    assert row.grows is grows
    assert ("grows" if grows else "flat") in table([row])


def test_the_warm_up_is_not_compared() -> None:
    assert not rows(series("keys", 0, 0, 0, 0, 0, 0, 9000, 9000), warm_up_seconds=3)
    (row,) = rows(series("keys", 0, 0, *[9000.0] * 6), warm_up_seconds=2)
    assert not row.grows


def test_a_process_is_measured_by_its_id() -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("looks into /proc: run it on Linux")
    values = of_process("veteran", os.getpid())
    assert values["veteran rss MB"] > 1
    assert values["veteran fds"] >= 3
    assert values["veteran threads"] >= 1
    assert of_process("gone", 2**22 + 1) == {}


def test_a_server_that_ends_before_its_release_was_stopped_in_play() -> None:
    sessions: list[dict[str, Any]] = [{"id": "s-1", "ended_at_ms": 5000}, {"id": "s-2", "ended_at_ms": None}]
    assert stopped_in_play({"m": Match("released", "s-1", 4000.0)}, sessions) == []
    assert stopped_in_play({"m": Match("released", "s-1", 6000.0)}, sessions) == ["m"]
    assert stopped_in_play({"m": Match("allocated", "s-1", None)}, sessions) == ["m"]
    assert stopped_in_play({"m": Match("allocated", "s-2", None)}, sessions) == []


def test_two_servers_of_a_match_may_overlap_only_for_a_while() -> None:
    def session(name: str, begin: int, end: int | None) -> dict[str, Any]:
        labels = {"allocator_request": "m"}
        return {"id": name, "labels": labels, "created_at_ms": begin * 1000, "ended_at_ms": end and end * 1000}

    assert long_doubles([session("a", 0, 10), session("b", 9, 100)], 0) == []
    assert long_doubles([session("a", 0, 50), session("b", 9, 100)], 0) == ["m"]
    assert long_doubles([session("a", 0, None), session("b", 9, None)], 100_000) == ["m"]
