"""Worlds that were drawn by hand: what once broke a promise, where no seed of `scenario` is likely to.

In: a seed's world. Out: another to play for ever.
"""

from __future__ import annotations

from dataclasses import replace

from tests.simulation.sabotages_account import many_losses
from tests.simulation.scenario import Chaos, HostFaults, Scenario, scenario


def a_sleeper(world: Scenario) -> Scenario:
    """A worker sleeps past its lease, and Redis loses the tail that had taken its request over."""
    host = HostFaults(late_create=0.4, late_seconds_max=4.0, lost_reply=0.2)
    return replace(many_losses(world), chaos=Chaos(every_seconds=1.0, restore=0.3, pause=1.0), host=host)


def a_sleeper_whose_lease_holds_again(seed: int = 101) -> Scenario:
    """The world of that kind in which it was found."""
    return a_sleeper(scenario(seed))
