"""Guards that whole worlds seldom need, each in the small world that needs it: without one of them its test fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from allocator.broker.broker import Entry, Hold, Reservation
from allocator.broker.levers import Levers, RegionLever
from allocator.broker.parking import Stay
from allocator.contract.allocation import Attempt, Outcome, Port
from allocator.contract.destination import Destination
from allocator.contract.identity import session_id
from allocator.contract.request import Decoded, Priority, decode_request
from allocator.engine.attempt import STALE_SECONDS, Call
from allocator.engine.course import Course
from allocator.engine.observer import Event, Finished, TakenOver
from allocator.engine.readiness import ReadyCheck
from allocator.engine.resolve import resolve
from allocator.engine.takeover import take_over
from allocator.engine.takeup import wait_seconds
from allocator.engine.ticket import Permit, Ticket
from allocator.providers.provider import FindOutcome, Session, StartOutcome
from tests.simulation.levers import PROVIDER
from tests.simulation.process import Process
from tests.simulation.scenario import Chaos, HostFaults, Scenario, scenario
from tests.simulation.virtual_loop import context_of
from tests.simulation.waits import Waits
from tests.simulation.wire import WireFaults
from tests.simulation.world import World

NAME = "w0"
BODY = b'{"id": "m-1", "image": "game", "regions": ["europe"], "timeout_seconds": 20, "labels": {"match": "m-1"}}'
END_SECONDS = 60
AT_ONCE_MS = 300


def calm(world: Scenario) -> Scenario:
    """A world in which nothing goes wrong but what a test does."""
    world = replace(world, neighbour=None, store=WireFaults(), host=HostFaults(), chaos=Chaos(), waits=Waits())
    return replace(world, first_capacity=None, eager=False, rate=40.0, backlog=64)


class House:
    """One worker over the twins, not yet running."""

    def __init__(self) -> None:
        self.world = World(calm(scenario(2)))
        self.fleet = self.world.fleets[0]
        self.store = self.fleet.store
        self.process = Process(NAME, self.fleet)
        self.parts = self.process.parts
        self.events: list[Event] = []
        self.parts.observe = self._observe
        self._finished = asyncio.Event()

    def live(self, story: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Tell a story as the worker's own process."""
        asyncio.set_event_loop(None)
        try:
            self.world.loop.run_until_complete(self.world.loop.create_task(story(), context=context_of(NAME)))
        finally:
            self.world.loop.bury([NAME])
            self.world.loop.close()

    async def serve(self, request_id: str) -> dict[str, str]:
        """Run the worker until a request has ended; its hash."""
        running = asyncio.get_running_loop().create_task(self.process.run())
        async with asyncio.timeout(END_SECONDS):
            await self._finished.wait()
        self.process.leave()
        await running
        return self.store.allocation(request_id)

    def _observe(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Finished):
            self._finished.set()

    async def hold(self) -> tuple[Hold, Decoded]:
        """A request that is held by nobody but the test."""
        await self.parts.broker.prepare()
        await self.parts.broker.look_back()
        self.store.add(BODY)
        (entry,) = await self.parts.broker.take(1, list(Priority))
        decoded = decode_request(BODY)
        assert isinstance(decoded, Decoded)
        (reply,) = await self.parts.broker.reserve([Reservation(entry, "m-1", decoded.digest, 20_000)])
        assert isinstance(reply, Hold)
        return reply, decoded

    def course(self, hold: Hold, decoded: Decoded, lease_seconds: float = 5.0) -> Course:
        until = asyncio.get_running_loop().time() + lease_seconds
        return Course.begin(hold, decoded.request, self.parts, lease_until=until)

    def slow_look_ups(self, *, before: float = 0.0, after_first: float = 0.0) -> list[Any]:
        """Let each wait so many leases for leave to ask, and the first so many for its answer; those made so far."""
        # all of it in virtual time, as the whole house is
        look_ups: Any = self.parts.look_ups
        real, lease_seconds, asked = look_ups.find, self.fleet.policy.lease_seconds, list[Any]()

        async def find(*words: Any, **options: Any) -> FindOutcome:
            await asyncio.sleep(before * lease_seconds)
            answer: FindOutcome = await real(*words, **options)
            await asyncio.sleep(0.0 if asked else after_first * lease_seconds)
            asked.append(words)
            return answer

        look_ups.find = find
        return asked

    def session(self, generation: int) -> Session:
        """One in play under a generation's id."""
        name, fleet = session_id(self.fleet.deployment, "m-1", generation), self.fleet
        session = Session(name, "127.0.0.1", (Port("7777/udp", "udp", 7777, 9_000 + generation),), "asia", "game")
        session = replace(session, mark=fleet.deployment, request_id="m-1", namespace=fleet.namespace)
        self.world.host.put(session)
        return session


def test_a_conflict_just_after_a_loss_of_redis_gives_the_match_that_was_served_last() -> None:
    house = House()

    async def story() -> None:
        house.session(1)
        latest = house.session(2)
        provider: Any = house.parts.providers[PROVIDER]
        real = provider.start

        async def start(*words: Any, **options: Any) -> StartOutcome:
            house.store.history += 1  # the loss: nobody can have noticed it yet
            outcome: StartOutcome = await real(*words, **options)
            return outcome

        provider.start = start
        house.store.add(BODY)
        hashed = await house.serve("m-1")
        assert hashed["session_id"] == latest.id
        assert not house.world.host.stops

    house.live(story)


@pytest.mark.parametrize(("renewal_seconds", "calls"), [(0.0, 1), (STALE_SECONDS + 0.1, 0)])
def test_a_permit_that_grew_old_while_the_lease_was_asked_for_is_not_used(renewal_seconds: float, calls: int) -> None:
    house = House()

    async def story() -> None:
        hold, decoded = await house.hold()
        course = house.course(hold, decoded, lease_seconds=-1.0)
        broker: Any = house.parts.broker
        real = broker.renew

        async def renew(holds: list[Hold]) -> list[bool]:
            await asyncio.sleep(renewal_seconds)
            kept: list[bool] = await real(holds)
            return kept

        broker.renew = renew
        route = house.parts.routes.of(course, house.parts)
        permit = await Ticket(Priority.NORMAL, (0, 0), route.lanes, 1.0).wait(5.0)
        assert isinstance(permit, Permit)
        await Call(course, route.candidate(permit.lane), permit, route.plan, house.parts).make()
        assert len(house.world.host.starts) == calls
        assert permit.lane._out == 0
        await house.process.lanes.close()

    house.live(story)


def test_a_destination_that_refused_a_match_before_it_was_parked_is_not_asked_again() -> None:
    house = House()

    async def story() -> None:
        hold, decoded = await house.hold()
        refused = Attempt("europe", PROVIDER, "europe", Outcome.REJECTED, 404, hold.enqueued_at_ms, 1.0, 0.0)
        course = house.course(replace(hold, attempts=(refused,)), decoded)
        assert Destination(PROVIDER, "europe") in course.passed_over
        assert not house.parts.routes.of(course, house.parts).lanes
        await house.process.lanes.close()

    house.live(story)


def test_a_location_whose_sessions_do_not_publish_the_checked_port_is_called_once() -> None:
    house = House()
    house.parts.policy = replace(house.parts.policy, ready_checks={"game": ReadyCheck("tcp", 8080, 3.0)})

    async def story() -> None:
        house.store.add(BODY)
        hashed = await house.serve("m-1")
        assert (hashed["state"], hashed["error_code"]) == ("failed", "not_found")
        assert len(house.world.host.starts) == 1

    house.live(story)


def test_who_was_parked_and_is_woken_is_no_take_over() -> None:
    house = House()

    async def story() -> None:
        hold, decoded = await house.hold()
        course = house.course(hold, decoded)
        course.tell(house.parts, "parked")
        stay = Stay(hold, (), house.parts.broker.now_ms() + 100, trail=course.trail_text)
        assert await house.parts.parking.park(stay)
        await asyncio.sleep(0.2)
        begun: list[Hold] = []
        assert await take_over(8, house.parts, lambda woken, *_: begun.append(woken)) == 1
        assert [each.request_id for each in begun] == ["m-1"]
        assert not house.events
        for _ in range(4):  # a broker that is left alone for a lease may have been away
            await asyncio.sleep(house.fleet.scenario.lease_seconds / 4 + 0.03)
            await take_over(8, house.parts, lambda lapsed, *_: begun.append(lapsed))
        assert [each.request_id for each in begun] == ["m-1", "m-1"]
        assert [type(event) for event in house.events] == [TakenOver]

    house.live(story)


def test_who_is_woken_after_a_loss_of_redis_is_doubted_at_once() -> None:
    house = House()

    async def story() -> None:
        await house.hold()
        await asyncio.sleep(house.fleet.scenario.lease_seconds + 0.1)
        house.store.history += 1
        begun: list[Hold] = []
        await take_over(8, house.parts, lambda hold, *_: begun.append(hold))
        assert [each.doubtful for each in begun] == [True]

    house.live(story)


@pytest.mark.parametrize(
    ("extra", "drained", "seconds"),
    [
        ({"regions": ["europe"]}, False, 10.0),
        ({"regions": ["europe", "asia"]}, False, 0.0),
        ({"regions": ["europe", "asia"]}, True, 10.0),
        ({"regions": ["asia"]}, True, 0.0),
        ({"regions": ["europe", "asia"], "latency_caps": [{"max_ms": 50}]}, False, 10.0),
        (
            {
                "regions": ["europe", "asia"],
                "latency_caps": [{"max_ms": 50}, {"max_ms": 500, "after_seconds": 5}],
            },
            False,
            0.0,
        ),
    ],
)
def test_the_wait_that_a_match_is_refused_for_is_that_where_it_may_go(
    extra: dict[str, Any], *, drained: bool, seconds: float
) -> None:
    house = House()
    players = [{"latency_ms": {"europe": 20, "asia": 200}}] if "latency_caps" in extra else []
    decoded = decode_request(json.dumps({"id": "m-1", "image": "game", "players": players, **extra}).encode())
    assert isinstance(decoded, Decoded)

    async def story() -> None:
        house.parts.lanes.of(Destination(PROVIDER, "europe")).outside.hear("allocator", {Priority.NORMAL: 400})
        house.process.levers.levers = Levers(regions={"asia": RegionLever(drained=drained)})
        house.parts.lanes.refresh()
        entry = Entry(Priority.NORMAL, f"{house.parts.broker.now_ms()}-0", None)
        assert wait_seconds(decoded.request, entry, house.parts) == pytest.approx(seconds)
        await house.process.lanes.close()

    house.live(story)


@pytest.mark.parametrize("after_seconds", [3.0, 3.2, 3.4, 3.6, 3.8])
def test_who_waits_for_a_looser_cap_alone_goes_on_as_soon_as_it_applies(after_seconds: float) -> None:
    house = House()
    caps = [{"max_ms": 100, "after_seconds": 0}, {"max_ms": 200, "after_seconds": after_seconds}]
    body = json.loads(BODY) | {"players": [{"latency_ms": {"europe": 150}}], "latency_caps": caps}

    async def story() -> None:
        house.store.add(json.dumps(body).encode())
        hashed = await house.serve("m-1")
        assert hashed["state"] == "allocated"
        late_ms = int(hashed["allocated_at"]) - int(hashed["enqueued_at"]) - 1000 * after_seconds
        assert 0 <= late_ms < AT_ONCE_MS

    house.live(story)


def test_a_look_up_that_had_to_wait_longer_than_the_lease_counts_where_the_lease_was_renewed() -> None:
    house = House()
    asked = house.slow_look_ups(before=1.5)  # hundreds wait for leave to ask

    async def story() -> None:
        await house.hold()  # by a worker that dies
        hashed = await house.serve("m-1")
        assert hashed["state"] == "allocated"
        assert len(asked) == 1

    house.live(story)


def test_an_absence_that_was_told_before_the_lease_was_over_is_asked_for_again() -> None:
    house = House()
    asked = house.slow_look_ups(after_first=1.5)  # and nobody renews

    async def story() -> None:
        course = house.course(*await house.hold(), lease_seconds=house.fleet.policy.lease_seconds)
        course.suspects.add(PROVIDER)
        assert await resolve(course, house.parts, "a test") is None
        assert len(asked) == 2
        await house.process.lanes.close()

    house.live(story)
