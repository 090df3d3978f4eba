"""`allocator bench --capacity`: which rate counts as kept up with, and how it is sought; never how high it was."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from allocator.cli.bench import capacity as capacity_module
from allocator.cli.bench import rounds
from allocator.cli.bench.capacity import HALVINGS, Capacity, highest
from allocator.cli.bench.growth import SERVED, _for_all
from allocator.cli.bench.plan import Arrivals, Backlog, Load, OpenLoop, Setup, Side
from allocator.cli.bench.rounds import falls_behind, left_over
from allocator.engine.worker import AHEAD_MAX
from tests.cli.test_bench import a_round

PATIENCE_SECONDS = 120.0


@pytest.mark.parametrize(
    ("growth", "behind"),
    [
        pytest.param(0.0, 0.0, id="all are served as they come"),
        pytest.param(0.1, 0.1, id="one in ten is left for later"),
        pytest.param(-0.2, 0.0, id="what had gathered is worked off"),
    ],
)
def test_a_queue_that_grows_shows_in_the_second_half(growth: float, behind: float) -> None:
    due_at = [number / 100 for number in range(400)]
    warming_up = [due + 5.0 for due in due_at[:200]]
    later = [due + 1.0 + growth * (due - 2.0) for due in due_at[200:]]
    assert falls_behind(due_at, warming_up + later) == pytest.approx(behind, abs=1e-6)


def test_who_gave_no_answer_in_the_end_fell_behind_wholly() -> None:
    due_at = [1 + number / 100 for number in range(400)]
    assert falls_behind(due_at, [*due_at[:-1], 0.0]) == 1.0
    assert falls_behind(due_at, [0.0, *due_at[1:]]) == 0.0, "the first half only warms up"
    for few in range(4):
        assert falls_behind(due_at[:few], due_at[:few]) == 0.0


@pytest.mark.parametrize(("waits_seconds", "share"), [(0.05, 0.0), (0.3, 0.222), (5.0, 1.0)])
def test_who_is_answered_only_after_the_load_has_ended_was_left_over(waits_seconds: float, share: float) -> None:
    due_at = [number / 1000 for number in range(1001)]
    in_bursts = [due + waits_seconds for due in due_at]
    assert left_over(due_at, in_bursts, 0.1) == pytest.approx(share, abs=0.01)
    assert left_over(due_at, [0.0] * len(due_at), 0.1) == 1.0
    assert left_over(due_at[:5], in_bursts[:5], 0.1) == 0.0, "a load of a moment tells nothing"


@pytest.mark.parametrize("capacity", [0.0, 20.0, 500.0, 777.0, 5000.0])
async def test_the_highest_rate_is_found_to_a_step_and_none_that_is_not_kept_up_with(capacity: float) -> None:
    asked: list[float] = []

    async def keeps_up(rate: float) -> bool:
        asked.append(rate)
        return rate <= capacity

    found = await highest(1000.0, keeps_up)
    step = 1000.0 / 2**HALVINGS
    assert found <= capacity
    assert min(capacity, 1000.0) - found <= step
    assert found in {0.0, *asked}
    assert len(asked) == HALVINGS


async def test_a_rate_is_too_high_only_if_it_is_so_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[float] = []

    async def spoiled_at_first(_rig: object, _side: Side, load: Load) -> rounds.Round:
        if not isinstance(load, OpenLoop):
            return a_round(Side.ALLOCATOR, 1024.0)
        tried.append(load.rate)
        behind = 0.5 if tried.count(load.rate) == 1 else 0.0
        taken = rounds.Percentiles(1, 2, 3, 4)
        return replace(a_round(Side.ALLOCATOR, load.rate), falls_behind=behind, added_ms=taken, less_calls_ms=taken)

    monkeypatch.setattr(capacity_module, "run_round", spoiled_at_first)
    sought = Capacity(Setup(), 10, 1.0, Arrivals.EVEN, 1, 1, lambda _: None)
    found = await sought._round(cast(Any, None))
    assert found.capacity == 1024 * (1 - 2**-HALVINGS)
    assert len(tried) == 2 * HALVINGS + 1


async def test_a_backlog_is_sent_while_those_who_drain_it_stand_still() -> None:
    steps: list[object] = []

    async def send() -> None:
        steps.append("sent")
        raise OSError("away")

    fleet = SimpleNamespace(signal=steps.append)
    for load, seen in ((Backlog(10), [signal.SIGSTOP, "sent", signal.SIGCONT]), (OpenLoop(1, 1), ["sent"])):
        steps.clear()
        with pytest.raises(OSError, match="away"):
            await rounds._send(cast(Any, SimpleNamespace(load=load, send=send)), cast(Any, fleet))
        assert steps == seen


def test_many_processes_do_not_hold_all_of_their_backlog_from_the_first_moment_on() -> None:
    assert [_for_all(processes) for processes in (1, 2, 4)] == [Backlog(SERVED)] * 3
    assert _for_all(16).matches > 2 * 16 * (Setup().in_flight + AHEAD_MAX)


@pytest.mark.parametrize(("waits_seconds", "behind"), [(0.05, False), (0.3, True)])
def test_a_round_falls_behind_where_answers_come_in_one_burst_after_it(waits_seconds: float, *, behind: bool) -> None:
    due_at = [number / 1000 for number in range(1000)]
    told = SimpleNamespace(due_at=due_at, answered_at=[due + waits_seconds for due in due_at])
    assert falls_behind(told.due_at, told.answered_at) == 0.0
    assert (rounds._falls_behind(cast(Any, told), 0.0) > rounds.BEHIND_MAX) is behind
    assert rounds._falls_behind(cast(Any, told), 1000 * waits_seconds) == 0.0, "the host's time is not ours"


async def test_the_search_and_the_half_are_told_as_json(tmp_path: Path) -> None:
    options = ("--capacity", "--seconds", "1", "--backlog", "300", "--no-pin", "--json")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "allocator", "bench", *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        out, err = await process.communicate()

    assert process.returncode == 0, err.decode()
    report = json.loads(out)
    (only,) = report["rounds"]
    assert report["complete"]
    assert 0 < only["capacity_per_second"] < only["drained_per_second"]
    assert only["half"]["allocated"] == pytest.approx(only["capacity_per_second"] / 2, abs=1)
    for latency in ("added_ms", "less_calls_ms"):
        assert report["median"][latency] == only["half"][latency]
    assert only["half"]["less_calls_ms"]["p50"] < only["half"]["added_ms"]["p50"]
    assert report["median"]["capacity_per_second"] == only["capacity_per_second"]
    _drained, *tried, _half = [line for line in err.decode().splitlines() if line.startswith("allocator")]
    kept_up = ["falls behind" not in line for line in tried]
    assert any(kept_up)
    found = iter(kept_up)
    assert sum(kept or next(found) or True for kept in found) == HALVINGS, "a rate that is too high at first, twice"
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - a Path's own is not for async functions
