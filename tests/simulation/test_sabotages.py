"""The simulation is worth something: an engine that lacks any one of its guards is found out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulation.sabotages import FOCUS, SABOTAGES
from tests.simulation.scenario import scenario
from tests.simulation.world import FAULT, play

SEEDS_MAX = 200


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: sabotage.__name__)
def test_an_engine_without_it_is_found_out(
    sabotage: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage(monkeypatch)
    focus = FOCUS.get(sabotage)
    for seed in range(1, SEEDS_MAX + 1):
        world = scenario(seed)
        broken = play(focus(world) if focus else world).violations
        if any(FAULT not in each for each in broken):
            return
    pytest.fail(f"{SEEDS_MAX} seeds did not find: {sabotage.__doc__}")
