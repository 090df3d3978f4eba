"""After the last end nothing is left: no lease, no entry, no permit, no slot, no request in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.world import World


class Leftovers:
    """Promises about what a fleet at rest holds."""

    def __init__(self, world: World) -> None:
        self._world = world

    def settled(self) -> bool:
        store = self._world.store
        waiting = any(stream.fresh or stream.pending for stream in store.streams.values())
        waiting = waiting or bool(store.orders_fresh or store.orders_pending)
        return self._world.matchmaker.done and not store.leases and not waiting

    def look(self) -> None:
        """A request that is reserved lives in its record alone."""
        store = self._world.store
        pending = {(priority, name) for priority, stream in store.streams.items() for name in stream.pending}
        for request_id in self._world.matchmaker.asked:
            record = store.record(request_id)
            if record is not None and (record.priority, record.entry_id) in pending:
                self._world.trace.violated(f"an entry is settled with its reserve: {request_id}")

    def judge(self) -> None:
        world, say = self._world, self._world.trace.violated
        if world.store.leases:
            say(f"no lease is left: {sorted(world.store.leases)}")
        for priority, stream in world.store.streams.items():
            if stream.fresh or stream.pending:
                say(
                    f"no entry is left: {priority.value}: {len(stream.fresh)} untaken, {sorted(stream.pending)} pending"
                )
        if world.store.orders_fresh or world.store.orders_pending:
            say(f"no cancellation is left: {sorted(world.store.orders_pending)} pending")
        if world.scenario.through_the_horizon and world.store.condemned:
            say(f"nothing is condemned for ever: {sorted(world.store.condemned)}")
        for process in world.processes:
            if process.name in world.trace.muted:
                continue
            worker = process.worker
            if worker.held or worker._held_bytes:
                say(f"a worker that left holds nothing: {process.name}: {worker.held}, {worker._held_bytes} bytes")
            for lane in process.lanes:
                if lane._out or lane._waiting:
                    say(f"a lane at rest has nobody: {lane.destination}: {lane._out} out, {lane._waiting} waiting")
            held = sum(lane._held for lane in process.lanes if not lane.destination.location.startswith("*"))
            if process.lanes._slots.free + held != world.scenario.concurrency:
                say(f"every slot is given back: {process.name}: {process.lanes._slots.free} free, {held} held")
