"""What the simulated Edgegap does with deployments and time, without HTTP and without waiting."""

from __future__ import annotations

import json
from typing import Any

import pytest

from allocator.simulator.dice import Fate
from allocator.simulator.edgegap import (
    ApplicationSettings,
    Clock,
    Deployment,
    Doubled,
    Event,
    Failed,
    LocationSettings,
    NeverReady,
    SimulatorSettings,
    SlowStart,
    State,
    Unplaced,
)
from allocator.simulator.edgegap.deploy_body import Asked
from allocator.simulator.edgegap.fleet import Fleet, NoPlace, Stopped
from allocator.simulator.edgegap.list_query import read_query
from allocator.simulator.edgegap.paging import Page, read_page
from allocator.simulator.edgegap.placement import Player
from allocator.simulator.edgegap.refused import Refused

AMSTERDAM, BERLIN = Player(lat=52.37, lon=4.89), Player(lat=52.52, lon=13.4)
PLACES = {
    "amsterdam": LocationSettings(lat=52.37, lon=4.89),
    "frankfurt": LocationSettings(lat=50.11, lon=8.68),
    "new-york": LocationSettings(lat=40.71, lon=-74.01),
}


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.now, wall=lambda: 1_700_000_000 + self.now)


class Told:
    """Every webhook that was due, as (id, event, the state at that moment)."""

    def __init__(self) -> None:
        self.all: list[tuple[str, Event, State]] = []

    def __call__(self, deployment: Deployment, event: Event) -> None:
        self.all.append((deployment.request_id, event, deployment.state))


@pytest.fixture
def time() -> HandClock:
    return HandClock()


def fleet_of(time: HandClock, told: Told | None = None, **settings: Any) -> Fleet:
    given = {"locations": PLACES, "start_seconds": (10, 10), "stop_seconds": 2, **settings}
    return Fleet(SimulatorSettings(**given), time.clock(), told=told or Told())


def ask(*players: Player, tags: tuple[str, ...] = (), application: str = "arena", version: str = "v1") -> Asked:
    return Asked(application=application, version=version, players=players or (AMSTERDAM,), tags=tags)


def deployed(outcome: object) -> Deployment:
    assert isinstance(outcome, Deployment), outcome
    return outcome


def deploy(fleet: Fleet, *players: Player, fate: Fate | None = None, **asked: Any) -> Deployment:
    return deployed(fleet.deploy(ask(*players, **asked), fate or Fate()))


def stopped(outcome: object) -> Stopped:
    assert isinstance(outcome, Stopped), outcome
    return outcome


def test_a_start_goes_through_every_state_in_its_time(time: HandClock) -> None:
    told = Told()
    fleet = fleet_of(time, told)
    made = deploy(fleet)
    seen = [(0.0, made.state)]
    for _ in range(120):
        time.now += 0.1
        fleet.settle()
        if made.state is not seen[-1][1]:
            seen.append((round(time.now - 1000, 1), made.state))
    expected = [
        (0.0, State.INITIALIZING),
        (0.5, State.SEEKING),
        (1.5, State.SEEKED),
        (2.0, State.SCANNING),
        (3.0, State.DEPLOYING),
        (10.0, State.READY),
    ]
    assert [state for _, state in seen] == [state for _, state in expected]
    assert [at for at, _ in seen] == pytest.approx([at for at, _ in expected], abs=0.11)
    assert (made.ready_at_seconds, made.last_state) == (1010.0, State.DEPLOYING)
    assert told.all == [(made.request_id, Event.READY, State.READY)]


def test_host_and_ports_are_known_from_deploying_on(time: HandClock) -> None:
    fleet = fleet_of(time)
    made = deploy(fleet)
    assert not made.placed
    time.now += 4
    fleet.settle()
    assert (made.state, made.placed, made.host) == (State.DEPLOYING, True, "10.0.0.1")
    (port,) = made.ports
    assert (port.name, port.internal, port.external, port.protocol) == ("gameport", 7777, 30_000, "UDP")


def test_a_stop_of_a_ready_deployment_ends_it_and_a_second_stop_is_410(time: HandClock) -> None:
    told = Told()
    fleet = fleet_of(time, told)
    made = deploy(fleet)
    time.now += 10
    assert not stopped(fleet.stop(made.request_id)).deferred
    assert made.state is State.TERMINATING
    assert not made.serves
    assert not stopped(fleet.stop(made.request_id)).deferred
    time.now += 2
    assert deployed(fleet.find(made.request_id)).state is State.TERMINATED
    again = fleet.stop(made.request_id)
    assert isinstance(again, Refused)
    assert again.status == 410
    assert [event for _, event, _ in told.all] == [Event.READY, Event.TERMINATED]
    assert list(fleet.active()) == []
    assert made.ended_why == "stopped"


def test_a_stop_before_ready_waits_until_it_is_ready(time: HandClock) -> None:
    told = Told()
    fleet = fleet_of(time, told)
    made = deploy(fleet)
    time.now += 1
    assert stopped(fleet.stop(made.request_id)).deferred
    assert stopped(fleet.stop(made.request_id)).deferred
    time.now += 8.9
    assert deployed(fleet.find(made.request_id)).state is State.DEPLOYING
    time.now += 0.2
    assert deployed(fleet.find(made.request_id)).state is State.TERMINATING
    assert fleet.ledger.serving() == ()
    assert told.all == [(made.request_id, Event.READY, State.READY)]
    time.now += 2
    assert deployed(fleet.find(made.request_id)).state is State.TERMINATED


def test_a_deployment_that_is_never_ready_ends_in_error_much_later_and_its_stop_waits_for_that(time: HandClock) -> None:
    fleet = fleet_of(time)
    made = deploy(fleet, fate=Fate(others=(NeverReady(seconds=300),)))
    fleet.stop(made.request_id)
    time.now += 299
    assert deployed(fleet.find(made.request_id)).state is State.DEPLOYING
    time.now += 1
    assert deployed(fleet.find(made.request_id)).state is State.TERMINATING


def test_an_error_is_kept_for_a_while_and_removed_unless_it_is_stopped_before(time: HandClock) -> None:
    told = Told()
    fleet = fleet_of(time, told, error_kept_seconds=60)
    left, ended = (deploy(fleet, fate=Fate(others=(Failed(detail="no image"),))) for _ in range(2))
    time.now += 10
    assert deployed(fleet.find(left.request_id)).error_detail == "no image"
    fleet.stop(ended.request_id)
    time.now += 60
    assert deployed(fleet.find(left.request_id)).state is State.TERMINATING
    assert ended.state is State.TERMINATED
    assert [event for _, event, _ in told.all] == [Event.ERROR, Event.ERROR, Event.TERMINATED]
    time.now += 2
    fleet.settle()
    assert (left.ended_why, ended.ended_why) == ("removed", "stopped")


def test_a_deployment_ends_with_the_max_duration_of_its_version(time: HandClock) -> None:
    versions = {"v1": {"max_duration": 60}, "v2": {"max_duration": -1}}
    fleet = fleet_of(time, applications={"arena": ApplicationSettings(versions=versions)})
    short, endless = deploy(fleet), deploy(fleet, version="v2")
    time.now += 10 + 3600 - 1
    fleet.settle()
    assert short.state is State.READY
    time.now += 3
    fleet.settle()
    assert (short.state, short.ended_why, endless.state) == (State.TERMINATED, "max_duration", State.READY)
    time.now += 86_400
    fleet.settle()
    assert endless.state is State.TERMINATED


def test_a_deployment_goes_where_its_players_have_the_least_way(time: HandClock) -> None:
    fleet = fleet_of(time)
    assert deploy(fleet).location == "amsterdam"
    assert deploy(fleet, Player(lat=40.0, lon=-70.0)).location == "new-york"
    assert deploy(fleet, AMSTERDAM, BERLIN, BERLIN, Player(lat=48.1, lon=11.6)).location == "frankfurt"
    here = {deploy(fleet, Player(ip="203.0.113.7")).location for _ in range(5)}
    assert len(here) == 1
    assert here <= PLACES.keys()


def test_a_full_location_is_passed_over_only_as_far_as_the_settings_say(time: HandClock) -> None:
    full = {**PLACES, "amsterdam": LocationSettings(lat=52.37, lon=4.89, capacity=1)}
    fleet = fleet_of(time, locations=full)
    first = deploy(fleet)
    refused = fleet.deploy(ask(), Fate())
    assert isinstance(refused, NoPlace)
    assert refused.deployment is not None
    assert (refused.deployment.state, refused.deployment.location) == (State.ERROR, None)
    fleet.apply(SimulatorSettings(locations=full, spill_km=500, start_seconds=(10, 10)))
    assert deploy(fleet).location == "frankfurt"
    time.now += 10
    fleet.stop(first.request_id)
    assert deploy(fleet).location == "frankfurt"  # a place is free once the deployment has terminated
    time.now += 2
    assert deploy(fleet).location == "amsterdam"


def test_an_unknown_or_inactive_application_or_version_is_refused_with_400(time: HandClock) -> None:
    arena = ApplicationSettings(versions={"v1": {}, "off": {"is_active": False}})
    fleet = fleet_of(time, applications={"arena": arena, "shut": {"is_active": False, "versions": {"v1": {}}}})
    for application, version in (("arena", "v2"), ("arena", "off"), ("shut", "v1")):
        outcome = fleet.deploy(ask(application=application, version=version), Fate())
        assert isinstance(outcome, Refused)
        assert outcome.status == 400
    assert deploy(fleet, application="anything").application == "anything"
    fleet.apply(SimulatorSettings(locations=PLACES, any_application=False))
    outcome = fleet.deploy(ask(application="anything"), Fate())
    assert isinstance(outcome, Refused)
    assert len(fleet.ledger.deployments) == 1


def test_ports_come_from_the_version_and_are_no_others_on_that_host(time: HandClock) -> None:
    ports = [{"port": 7777, "protocol": "UDP", "name": "game"}, {"port": 0, "protocol": "TCP", "name": "same"}]
    ports.append({"port": 9000, "protocol": "WS"})
    fleet = fleet_of(time, applications={"arena": ApplicationSettings(versions={"v1": {"ports": ports}})})
    made = [deploy(fleet) for _ in range(1500)]
    first = made[0].ports
    assert [port.name for port in first] == ["game", "same", "9000"]
    assert first[1].internal == first[1].external
    taken = {(each.host, port.external) for each in made for port in each.ports}
    assert len(taken) == 4500
    assert {host for host, _ in taken} == {"10.0.0.1", "10.0.0.2"}


def test_the_fates_of_a_deployment(time: HandClock) -> None:
    fleet = fleet_of(time, refused_is_kept=False)
    slow = deploy(fleet, fate=Fate(others=(SlowStart(seconds=(50, 60)),)))
    assert 1050 <= slow.ready_due_seconds <= 1060
    outcome = fleet.deploy(ask(), Fate(others=(Unplaced(),)))
    assert outcome == NoPlace(outcome.request_id if isinstance(outcome, NoPlace) else "", None)
    second = deploy(fleet, fate=Fate(others=(Doubled(),)), tags=("alloc-1",))
    twins = fleet.ledger.tagged("alloc-1")
    assert [each.started_by for each in twins] == ["doubled", "post"]
    assert twins[1] is second
    fleet.deploy_late(ask(tags=("alloc-2",)), Fate(), 5)
    assert fleet.ledger.tagged("alloc-2") == ()
    time.now += 5
    fleet.settle()
    (late,) = fleet.ledger.tagged("alloc-2")
    assert (late.started_by, late.created_at_seconds) == ("late", 1005)


def test_a_new_deployment_may_be_missing_from_the_list(time: HandClock) -> None:
    fleet = fleet_of(time, listed_after_seconds=3)
    made = deploy(fleet)
    assert list(fleet.active()) == []
    assert fleet.find(made.request_id) is made
    time.now += 3
    assert list(fleet.active()) == [made]


def wanted(fleet: Fleet, *filters: tuple[str, str, Any], order: str | None = None) -> list[str]:
    query: dict[str, Any] = {
        "filters": [dict(zip(("field", "operator", "value"), each, strict=True)) for each in filters]
    }
    if order is not None:
        query["order_by"] = [{"field": "created_at", "order": order}]
    read = read_query(json.dumps(query))
    assert not isinstance(read, Refused), read
    return [each.tags[0] for each in read(fleet.active())]


def test_the_list_is_filtered_and_ordered_as_documented(time: HandClock) -> None:
    fleet = fleet_of(time)
    one = deploy(fleet, tags=("a", "ours"))
    time.now += 20
    two = deploy(fleet, tags=("b", "ours"), version="v2")
    deploy(fleet, tags=("c",), application="other")
    time.now += 4
    assert wanted(fleet) == ["c", "b", "a"]
    assert wanted(fleet, order="asc") == ["a", "b", "c"]
    assert wanted(fleet, ("tags", "eq", "ours")) == ["b", "a"]
    assert wanted(fleet, ("tags", "neq", "ours")) == ["c"]
    assert wanted(fleet, ("tags", "in", ["a", "c"]), order="asc") == ["a", "c"]
    assert wanted(fleet, ("tags", "nin", ["a", "c"])) == ["b"]
    assert wanted(fleet, ("status", "eq", "ready")) == ["a"]
    assert wanted(fleet, ("status", "neq", "ready"), ("application", "eq", "arena")) == ["b"]
    assert wanted(fleet, ("request_id", "in", [one.request_id, two.request_id]), ("version", "eq", "v2")) == ["b"]
    since = "2023-11-14T22:30:10Z"  # 1,700,001,010: between the first and the others
    assert wanted(fleet, ("created_at", "gte", since)) == ["c", "b"]
    assert wanted(fleet, ("created_at", "lte", since)) == ["a"]


@pytest.mark.parametrize(
    "query",
    [
        "no json",
        '{"filters":[{"field":"status","operator":"eq","value":"Status.READY"}]}',
        '{"filters":[{"field":"status","operator":"in","value":["ready"]}]}',
        '{"filters":[{"field":"colour","operator":"eq","value":"red"}]}',
        '{"filters":[{"field":"tags","operator":"in","value":"one"}]}',
        '{"filters":[{"field":"tags","operator":"eq","value":"a"},{"field":"tags","operator":"neq","value":"b"}]}',
        '{"filters":[{"field":"created_at","operator":"gte","value":"yesterday"}]}',
        '{"filters":[{"field":"created_at","operator":"gte","value":"2026-01-01T00:00:00"}]}',
        '{"order_by":[{"field":"status","order":"asc"}]}',
        '{"sort":"created_at"}',
    ],
)
def test_a_query_that_is_not_as_documented_is_400(query: str) -> None:
    read = read_query(query)
    assert isinstance(read, Refused)
    assert read.status == 400


def test_pages_follow_each_other_to_the_end() -> None:
    settings = SimulatorSettings(page_limit=10, page_limit_max=20)
    rows = list(range(45))
    page = read_page({"limit": "1000"}, settings)
    assert page == Page(1, 20)
    seen: list[int] = []
    number: int | None = 1
    while number is not None:
        page = read_page({"limit": "20", "page": str(number)}, settings)
        assert isinstance(page, Page)
        seen += page.of(rows)
        envelope = page.envelope(len(rows))
        number = envelope["pagination"]["next_page_number"]
        assert envelope["total_count"] == 45
        assert envelope["pagination"]["paginator"] == {"num_pages": 3}
        assert envelope["pagination"]["has_next"] is (number is not None)
    assert seen == rows
    assert Page(9, 20).of(rows) == []
    assert Page(1, 20).envelope(0)["pagination"]["has_next"] is False
