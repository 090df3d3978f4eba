"""What befalls the processes: crashes and pauses at any await, partitions, drains, a store that is away or full.

In: a world and the weights of its scenario. Out: a world in disorder until the last fault, and one in which everything
is whole again afterwards. A crash or a pause is set a random number of steps ahead, so that it falls on any await of
what the worker does then, not only on its rests.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

from allocator.providers.provider import SessionState

if TYPE_CHECKING:
    from tests.simulation.world import World

STEPS_AHEAD_MAX = 80


class Havoc:
    """The disorder of one world."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self._world = world
        self._chance = chance
        self._snapshots: dict[str, dict[str, Any]] = {}

    async def run(self) -> None:
        """Go on until the last fault, then make everything whole."""
        chaos, world, chance = self._world.scenario.chaos, self._world, self._chance
        acts = {
            self._crash: chaos.crash,
            self._pause: chaos.pause,
            self._cut_store: chaos.cut_store,
            self._cut_host: chaos.cut_host,
            self._store_away: chaos.store_away,
            self._store_full: chaos.store_full,
            self._drain: chaos.drain,
            self._skew: chaos.skew,
            self._restore: chaos.restore,
            self._exit: world.scenario.host.exits,
            self._unclear: world.scenario.host.unclear,
        }
        acts = {act: weight for act, weight in acts.items() if weight}
        if chaos.restore:
            self._save()
        loop, ends = asyncio.get_running_loop(), world.scenario.faults_seconds
        while acts:
            await asyncio.sleep(min(chance.expovariate(1 / chaos.every_seconds), max(0.0, ends - loop.time())))
            if loop.time() >= ends:
                break
            (act,) = chance.choices(list(acts), list(acts.values()))
            act()
        await asyncio.sleep(max(0.0, ends - loop.time()))
        world.heal()

    def _crash(self) -> None:
        world, chance = self._world, self._chance
        if not (alive := world.running()):
            return
        victim = chance.choice(alive)

        def kill() -> None:
            if not world.calm and victim.running:
                world.kill(victim)
                self._later(chance.uniform(0.0, 2 * world.scenario.lease_seconds), world.keep_staffed)

        world.loop.after_steps(victim.name, chance.randint(1, STEPS_AHEAD_MAX), kill)

    def _pause(self) -> None:
        world, chance = self._world, self._chance
        if not (alive := world.running()):
            return
        victim, seconds = chance.choice(alive), chance.uniform(0.1, 3 * world.scenario.lease_seconds)

        def resume() -> None:
            world.loop.resume(victim.name)
            victim.levers.wakes()

        def stand_still() -> None:
            if not world.calm and victim.running:
                world.trace.say(f"PAUSE {victim.name} for {seconds:.3f} s")
                world.loop.pause(victim.name)
                victim.levers.sleeps()
                self._later(seconds, resume)

        world.loop.after_steps(victim.name, chance.randint(1, STEPS_AHEAD_MAX), stand_still)

    def _cut_store(self) -> None:
        if alive := self._world.running():
            wire = self._chance.choice(alive).store_wire
            wire.cut = True
            self._world.trace.say("CUT a worker off the store")
            self._later(self._some_seconds(), lambda: setattr(wire, "cut", False))

    def _cut_host(self) -> None:
        if alive := self._world.running():
            wire = self._chance.choice(alive).host_wire
            wire.cut = True
            self._world.trace.say("CUT a worker off the host")
            self._later(self._some_seconds(), lambda: setattr(wire, "cut", False))

    def _store_away(self) -> None:
        store = self._chance.choice(self._world.fleets).store
        store.away = True
        self._world.trace.say("STORE away")
        self._later(self._some_seconds(), lambda: setattr(store, "away", False))

    def _store_full(self) -> None:
        store = self._chance.choice(self._world.fleets).store
        store.full = True
        self._world.trace.say("STORE full")
        self._later(self._some_seconds(), lambda: setattr(store, "full", False))

    def _drain(self) -> None:
        if alive := self._world.running():
            leaver = self._chance.choice(alive)
            self._world.trace.say(f"DRAIN {leaver.name}")
            leaver.leave()
            self._later(self._chance.uniform(0.0, 1.0), self._world.keep_staffed)

    def _skew(self) -> None:
        if alive := self._world.running():
            view = self._chance.choice(alive).view
            view.skew_ms = self._chance.choice((-3000, -500, 500, 3000))
            self._world.trace.say(f"SKEW {view.skew_ms} ms")
            self._later(self._some_seconds(), lambda: setattr(view, "skew_ms", 0))

    def _save(self) -> None:
        self._snapshots = {fleet.name: fleet.store.snapshot() for fleet in self._world.fleets}
        self._later(self._chance.uniform(0.2, 4.0), self._save)

    def _restore(self) -> None:
        fleet = self._chance.choice(self._world.fleets)
        self._world.trace.say(f"STORE of {fleet.name} restored, its tail is lost")
        fleet.store.restore(self._snapshots[fleet.name])
        fleet.lever_log.look()

    def _exit(self) -> None:
        if alive := self._world.host.alive():
            session = self._chance.choice(alive)
            self._world.trace.say(f"EXIT of {session.id[:8]}")
            self._world.host.set_state(session.id, SessionState.ENDED)

    def _unclear(self) -> None:
        world = self._world
        if alive := world.host.alive():
            session = self._chance.choice(alive)
            world.trace.say(f"UNCLEAR is {session.id[:8]}")
            world.host.set_state(session.id, SessionState.UNCLEAR)

            def clear() -> None:
                if world.host.ledger[session.id].session.state is SessionState.UNCLEAR:
                    world.host.set_state(session.id, SessionState.ALIVE)

            self._later(self._some_seconds(), clear)

    def _some_seconds(self) -> float:
        return self._chance.uniform(0.1, 2 * self._world.scenario.lease_seconds)

    def _later(self, seconds: float, act: object) -> None:
        asyncio.get_running_loop().call_later(seconds, act)  # type: ignore[arg-type]  # a callable without arguments
