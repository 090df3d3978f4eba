"""The simulation is worth something: an engine that lacks any one of its guards is found out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulation import sabotages, sabotages_account, sabotages_waiting
from tests.simulation.fleet import FAULT
from tests.simulation.scenario import Scenario, scenario
from tests.simulation.world import play

SEEDS_MAX = 200
Sabotage = Callable[[pytest.MonkeyPatch], None]
FOCUS = sabotages.FOCUS | sabotages_account.FOCUS | sabotages_waiting.FOCUS
FIRST_SEED = sabotages.FIRST_SEED | sabotages_waiting.FIRST_SEED
ALL: list[Sabotage] = [*sabotages.SABOTAGES, *sabotages_account.SABOTAGES, *sabotages_waiting.SABOTAGES]


@pytest.mark.parametrize("sabotage", ALL, ids=lambda sabotage: str(sabotage.__name__))
def test_an_engine_without_it_is_found_out(sabotage: Sabotage, monkeypatch: pytest.MonkeyPatch) -> None:
    focus = FOCUS.get(sabotage)
    first = FIRST_SEED.get(sabotage, 1)
    for seed in range(first, first + SEEDS_MAX):
        world = focus(scenario(seed)) if focus else scenario(seed)
        with monkeypatch.context() as patch:
            sabotage(patch)
            broken = play(world).violations
        if any(FAULT not in each for each in broken) and not play(world).violations:
            return
    pytest.fail(f"{SEEDS_MAX} seeds did not find: {sabotage.__doc__}")


@pytest.mark.parametrize("focus", list(dict.fromkeys(FOCUS.values())))
def test_an_engine_that_is_whole_keeps_its_promises_in_the_same_worlds(
    focus: Callable[[Scenario], Scenario],
) -> None:
    for seed in (1, 2):
        assert not play(focus(scenario(seed))).violations, f"seed {seed}"
