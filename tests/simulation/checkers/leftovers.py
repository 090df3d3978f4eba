"""After the last end nothing is left: no lease, no entry, no permit, no slot, no request in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.fleet import Fleet


class Leftovers:
    """Promises about what a fleet at rest holds."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def settled(self) -> bool:
        store = self._fleet.store
        waiting = any(stream.fresh or stream.pending for stream in store.streams.values())
        waiting = waiting or bool(store.orders_fresh or store.orders_pending)
        return self._fleet.matchmaker.done and not store.leases and not waiting

    def look(self) -> None:
        """A request that is reserved lives in its record alone."""
        store = self._fleet.store
        pending = {(priority, name) for priority, stream in store.streams.items() for name in stream.pending}
        for request_id in self._fleet.matchmaker.asked:
            record = store.record(request_id)
            if record is not None and (record.priority, record.entry_id) in pending:
                self._fleet.world.trace.violated(f"an entry is settled with its reserve: {request_id}")

    def judge(self) -> None:
        self._judge_lots()
        fleet, world = self._fleet, self._fleet.world
        say = world.trace.violated
        if fleet.store.leases:
            say(f"no lease is left: {sorted(fleet.store.leases)}")
        for priority, stream in fleet.store.streams.items():
            if stream.fresh or stream.pending:
                say(
                    f"no entry is left: {priority.value}: {len(stream.fresh)} untaken, {sorted(stream.pending)} pending"
                )
        if fleet.store.orders_fresh or fleet.store.orders_pending:
            say(f"no cancellation is left: {sorted(fleet.store.orders_pending)} pending")
        if world.scenario.through_the_horizon and fleet.store.condemned:
            say(f"nothing is condemned for ever: {sorted(fleet.store.condemned)}")
        for process in fleet.processes:
            if process.name in world.trace.muted:
                continue
            worker = process.worker
            if worker.held or worker._held_bytes:
                say(f"a worker that left holds nothing: {process.name}: {worker.held}, {worker._held_bytes} bytes")
            for lane in process.lanes:
                if lane._out or lane.waiting:
                    say(f"a lane at rest has nobody: {lane.destination}: {lane._out} out, {lane.waiting} waiting")
            held = sum(lane._held for lane in process.lanes if not lane.destination.location.startswith("*"))
            if process.lanes._slots.free + held != world.scenario.concurrency:
                say(f"every slot is given back: {process.name}: {process.lanes._slots.free} free, {held} held")

    def _judge_lots(self) -> None:
        store = self._fleet.store
        if store.parked or any(store.lots.values()):
            self._fleet.world.trace.violated(f"nobody is left in a lot: {sorted(store.parked)}, {store.lots}")
