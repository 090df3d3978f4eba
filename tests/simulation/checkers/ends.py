"""Every request has one end, in time, announced, the same each time it is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from allocator.contract.allocation import Allocation, State
from allocator.contract.codes import Code
from allocator.engine.observer import Event, Finished, LeaseLost, TakenOver

if TYPE_CHECKING:
    from tests.simulation.fleet import Fleet

SWEEP_SECONDS = 5.0


class Ends:
    """Promises about the states of requests."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._late: set[str] = set()
        self._told: set[str] = set()
        self.changed_hands: set[str] = set()

    def heard(self, event: Event) -> None:
        """Judge what the engine tells of itself."""
        fleet, world = self._fleet, self._fleet.world
        if isinstance(event, Finished):
            record = fleet.store.record(event.request_id)
            state = "allocated" if record is not None and record.final == "released" else record and record.final
            if (state != event.state.value or event.request_id in self._told) and not fleet.store.losses:
                world.trace.violated(f"an end is told once, as it is recorded: {event.request_id} {event.state}")
            self._told.add(event.request_id)
        if isinstance(event, TakenOver | LeaseLost):
            self.changed_hands.add(event.request_id)
        if isinstance(event, TakenOver) and world.calm:
            healed_seconds = world.loop.time() - world.healed_at
            if healed_seconds > 2 * world.scenario.lease_seconds + SWEEP_SECONDS:
                world.trace.violated(f"in calm no request changes hands: {event.request_id}")

    def settled(self) -> bool:
        fleet = self._fleet
        if not all(self._final(request_id) for request_id in fleet.matchmaker.asked):
            return False
        return not any(fleet.store.allocation(each).get("state") == "allocated" for each in fleet.matchmaker.cancelled)

    def look(self) -> None:
        fleet, world = self._fleet, self._fleet.world
        grace_ms = round((world.scenario.lease_seconds + SWEEP_SECONDS) * 1000)
        healed_ms = fleet.store.now_ms() - round(1000 * (world.loop.time() - world.healed_at))
        for asked in fleet.matchmaker.asked.values():
            due_ms = max(asked.deadline_ms, healed_ms) + grace_ms
            late = fleet.store.now_ms() > due_ms and not self._final(asked.request_id)
            if late and asked.request_id not in self._late:
                self._late.add(asked.request_id)
                world.trace.violated(f"every request ends in time: {asked.request_id} has not")

    def judge(self) -> None:
        fleet, world = self._fleet, self._fleet.world
        said: dict[str, set[tuple[str, str | None]]] = {}
        for each in fleet.store.results:
            event = json.loads(each.event)
            if event["data"]["state"] != each.state:
                world.trace.violated(f"an event says the state of its entry: {each.request_id}")
            if each.state != "refused":
                said.setdefault(each.request_id, set()).add((each.state, event["data"].get("session_id")))
        for asked in fleet.matchmaker.asked.values():
            self._judge(asked.request_id, said.get(asked.request_id, set()), calm=asked.calm)

    def _judge(self, request_id: str, said: set[tuple[str, str | None]], *, calm: bool) -> None:
        fleet, world = self._fleet, self._fleet.world
        hashed = fleet.store.allocation(request_id)
        record = fleet.store.record(request_id)
        if record is None and self._declined(request_id) and not calm:
            return
        if record is None or record.final is None or not hashed:
            world.trace.violated(f"every request ends: {request_id} has not")
            return
        allocation = Allocation.from_hash(hashed)
        if not allocation.final or allocation.state != record.final:
            world.trace.violated(f"hash and record agree: {request_id}: {allocation.state} and {record.final}")
        named = record.session[1] if record.session else None
        expected = {(record.final, named)}
        if record.final == "released":
            expected.add(("allocated", named))
        if said != expected and not fleet.store.losses:
            world.trace.violated(f"an end is announced, always the same: {request_id}: {sorted(map(str, said))}")
        if request_id in fleet.matchmaker.cancelled and allocation.state is State.ALLOCATED:
            world.trace.violated(f"what was cancelled is cancelled: {request_id}")
        if allocation.state is State.ALLOCATED:
            last = str(allocation.attempts[-1].outcome) if allocation.attempts else None
            adopted_after_take_over = last not in ("created", "adopted")
            if adopted_after_take_over and record.takes == 1:
                world.trace.violated(f"an allocated request tells of the attempt that served: {request_id}: {last}")
        elif calm:
            world.trace.violated(f"in calm a request is served: {request_id}: {allocation.error_message}")

    def _final(self, request_id: str) -> bool:
        record = self._fleet.store.record(request_id)
        if record is None:
            return self._declined(request_id)
        return record.final is not None

    def _declined(self, request_id: str) -> bool:
        """Whether it was refused at take-up, as it could not be served in time: an answer, and no record."""
        refused = (each for each in self._fleet.store.results if each.state == "refused")
        return any(
            each.request_id == request_id and json.loads(each.event)["data"]["error_code"] == Code.OVERLOADED
            for each in refused
        )
