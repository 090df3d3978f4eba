"""The engine under every fault that can be thought of, one world a seed.

SIMULATION_SEEDS=10000 plays so many in place of 150, SIMULATION_FIRST=151 begins there. A seed that fails is replayed
by `python -m tests.simulation --seed N -v`; once mended, it joins `regressions.txt` and is played for ever.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from allocator.engine import stock, worker
from tests.simulation.__main__ import replay
from tests.simulation.scenario import Switches, scenario
from tests.simulation.world import play
from tests.simulation.worlds import a_sleeper_whose_lease_holds_again

HERE = Path(__file__).parent
SEEDS = int(os.environ.get("SIMULATION_SEEDS", "150"))
FIRST = int(os.environ.get("SIMULATION_FIRST", "1"))
CHUNK = 25
HARSHER = {"other-ids": Switches(other_ids=True), "lost-tail": Switches(lost_tail=True)}
HARSHER_SEEDS = 20


def _regressions() -> list[int]:
    lines = (HERE / "regressions.txt").read_text(encoding="utf-8").splitlines()
    return [int(line.split()[0]) for line in lines if line.strip() and not line.startswith("#")]


def _holds(seed: int, switches: Switches | None = None) -> str:
    trace = play(scenario(seed, switches))
    return "\n".join([replay(seed, switches), *trace.violations[:5]]) if trace.violations else ""


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, CHUNK))
def test_every_promise_holds_in_every_world(first: int) -> None:
    broken = [said for seed in range(first, min(first + CHUNK, FIRST + SEEDS)) if (said := _holds(seed))]
    assert not broken, "\n" + "\n".join(broken)


@pytest.mark.parametrize("harsher", HARSHER)
def test_every_promise_holds_where_pools_give_ids_and_where_redis_loses_its_tail(harsher: str) -> None:
    seeds = range(FIRST, FIRST + HARSHER_SEEDS)
    broken = [said for seed in seeds if (said := _holds(seed, HARSHER[harsher]))]
    assert not broken, "\n" + "\n".join(broken)


def test_every_promise_holds_where_a_worker_holds_little_beyond_its_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "AHEAD_MAX", 1)
    for seed in range(FIRST, FIRST + HARSHER_SEEDS):
        trace = play(replace(scenario(seed), concurrency=2))
        assert not trace.violations, f"seed {seed}: {trace.violations[:5]}"


def test_every_promise_holds_where_every_lane_has_permits_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stock, "LEAST", 1)
    monkeypatch.setattr(stock, "USUAL_SECONDS", 5.0)
    monkeypatch.setattr(stock, "EARLY_SECONDS", 10.0)
    real, taken = stock.Stock.take, list[bool]()

    def take(self: stock.Stock) -> bool:
        taken.append(real(self))
        return taken[-1]

    monkeypatch.setattr(stock.Stock, "take", take)
    for seed in range(FIRST, FIRST + HARSHER_SEEDS):
        trace = play(scenario(seed))
        assert not trace.violations, f"seed {seed}: {trace.violations[:5]}"
    assert sum(taken) > HARSHER_SEEDS // 2, "else nothing was tried"


@pytest.mark.parametrize("seed", _regressions())
def test_a_world_that_once_broke_a_promise_keeps_it(seed: int) -> None:
    assert not (said := _holds(seed)), "\n" + said


def test_a_loss_that_nobody_has_noticed_yet_is_found_out_before_one_that_is_sent_again_starts_anew() -> None:
    assert not (said := _holds(998010, Switches(lost_tail=True))), "\n" + said


def test_a_sleeper_whose_lease_holds_again_ends_no_match_in_play() -> None:
    trace = play(a_sleeper_whose_lease_holds_again())
    assert not trace.violations


def test_one_seed_is_one_course_of_events_whatever_the_hash_seed() -> None:
    code = (
        "from tests.simulation.world import play\n"
        "from tests.simulation.scenario import scenario\n"
        "print('\\n'.join(play(scenario(7)).lines))"
    )
    root = HERE.parents[1]
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": number, "PYTHONPATH": str(root)},
            check=True,
            capture_output=True,
        ).stdout
        for number in ("1", "2")
    }
    assert len(told) == 1
    assert len(told.pop().splitlines()) > 100
