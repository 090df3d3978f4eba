"""What the simulated vendor does with starts, stops and time, without HTTP and without waiting."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from allocator.simulator.bodies import Violation
from allocator.simulator.gameye import Clock, ImageSettings, RegionSettings, SimulatorSettings, Status, WarmPool
from allocator.simulator.gameye.fleet import Fleet, Refused
from allocator.simulator.gameye.ledger import Session
from allocator.simulator.gameye.start_body import Asked, read_start, read_ttl
from allocator.simulator.limits import RollingPeak


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.now, wall=lambda: 1_700_000_000 + self.now)


@pytest.fixture
def time() -> HandClock:
    return HandClock()


def fleet_of(time: HandClock, region: RegionSettings | None = None, **settings: Any) -> Fleet:
    regions = {"europe": region or RegionSettings(), "us-east": RegionSettings()}
    return Fleet(SimulatorSettings(regions=regions, **settings), time.clock())


def ask(session_id: str | None = None, location: str = "europe", **more: Any) -> Asked:
    return Asked(location=location, image=more.pop("image", "arena"), id=session_id, **more)


def started(outcome: Session | Refused) -> Session:
    assert isinstance(outcome, Session), outcome
    return outcome


def refused(outcome: object) -> int:
    assert isinstance(outcome, Refused), outcome
    return outcome.status


def test_a_full_region_takes_no_more_until_a_session_ends(time: HandClock) -> None:
    fleet = fleet_of(time, RegionSettings(capacity=2))
    fleet.start(ask("a"))
    fleet.start(ask("b"))
    assert refused(fleet.start(ask("c"))) == 420
    assert fleet.locations("arena") == {"us-east": "10.1.0.1"}
    fleet.stop("a")
    assert started(fleet.start(ask("c"))).id == "c"


def test_a_session_that_is_still_shutting_down_holds_its_place(time: HandClock) -> None:
    fleet = fleet_of(time, RegionSettings(capacity=1), stop_seconds=3)
    fleet.start(ask("a"))
    assert started(fleet.stop("a")).status is Status.SHUTTINGDOWN
    assert refused(fleet.stop("a")) == 409
    assert refused(fleet.start(ask("b"))) == 420
    time.now += 3
    assert started(fleet.find("a")).status is Status.EXITED
    assert started(fleet.start(ask("b"))).id == "b"


def test_a_sliding_limit_holds_in_every_rolling_second(time: HandClock) -> None:
    fleet = fleet_of(time, RegionSettings(starts_per_second=10, burst=2), throttle_status=429)
    answers = Counter[int]()
    for _ in range(500):
        outcome = fleet.start(ask())
        answers[outcome.status if isinstance(outcome, Refused) else 201] += 1
        time.now += 0.01
    assert fleet.ledger.starts_per_second_max() == {"europe": 12}
    assert answers == {201: 60, 429: 440}


def test_a_fixed_window_lets_two_windows_meet(time: HandClock) -> None:
    fleet = fleet_of(time, RegionSettings(starts_per_second=10, window="fixed"))
    time.now = 1000.9
    for _ in range(10):
        started(fleet.start(ask()))
    assert refused(fleet.start(ask())) == 420
    time.now = 1001.0
    for _ in range(10):
        started(fleet.start(ask()))
    assert fleet.ledger.starts_per_second_max() == {"europe": 20}


def test_a_rate_under_one_a_second_is_kept(time: HandClock) -> None:
    fleet = fleet_of(time, RegionSettings(starts_per_second=0.5))
    outcomes = []
    for _ in range(5):
        outcomes.append(isinstance(fleet.start(ask()), Session))
        time.now += 1
    assert outcomes == [True, False, True, False, True]


def test_events_a_second_apart_are_not_in_one_rolling_second() -> None:
    peak = RollingPeak()
    for at in (0.0, 0.5, 1.0, 1.25):
        peak.add(at)
    assert peak.per_second_max == 3


def test_a_ttl_ends_a_session_at_its_time_however_late_one_looks(time: HandClock) -> None:
    fleet = fleet_of(time)
    session = started(fleet.start(ask("a", ttl_seconds=60)))
    fleet.ready(session)
    time.now += 59.9
    assert started(fleet.find("a")).status is Status.RUNNING
    time.now += 500
    assert started(fleet.find("a")).status is Status.DEAD
    assert session.ended_why == "ttl"
    assert session.ended_at_ms == session.created_at_ms + 60_000


@pytest.mark.parametrize(
    ("reuse", "scope", "same_region", "other_region", "after_end"),
    [
        ("never", "account", 409, 409, 409),
        ("never", "region", 409, 201, 409),
        ("after_end", "account", 409, 409, 201),
        ("after_end", "region", 409, 201, 201),
    ],
)
def test_an_id_is_unique_as_far_as_the_settings_say(
    *, time: HandClock, reuse: str, scope: str, same_region: int, other_region: int, after_end: int
) -> None:
    def status(outcome: Session | Refused) -> int:
        return outcome.status if isinstance(outcome, Refused) else 201

    for location, stop_first, expected in (
        ("europe", False, same_region),
        ("us-east", False, other_region),
        ("europe", True, after_end),
    ):
        fleet = fleet_of(time, id_reuse=reuse, id_scope=scope)
        fleet.start(ask("a"))
        if stop_first:
            fleet.stop("a")
        assert status(fleet.start(ask("a", location))) == expected


def test_a_refused_start_leaves_its_id_free(time: HandClock) -> None:
    fleet = fleet_of(time, RegionSettings(capacity=0))
    assert refused(fleet.start(ask("a"))) == 420
    assert started(fleet.start(ask("a", "us-east"))).location == "us-east"


def test_a_late_session_lands_all_the_same_after_a_stop_that_found_nothing(time: HandClock) -> None:
    fleet = fleet_of(time, RegionSettings(capacity=1))
    fleet.start_late(ask("a", ttl_seconds=60), 5.0)
    assert refused(fleet.find("a")) == 404
    assert refused(fleet.stop("a")) == 404
    assert refused(fleet.start(ask("b"))) == 420, "its place is taken already"
    time.now += 7
    landed = started(fleet.find("a"))
    assert (landed.status, landed.started_by, landed.started_at_seconds) == (Status.RUNNING, "late", 1005.0)
    time.now = 1065.0
    assert started(fleet.find("a")).status is Status.DEAD


def test_a_late_session_does_not_land_on_an_id_that_was_started_meanwhile(time: HandClock) -> None:
    fleet = fleet_of(time)
    fleet.start_late(ask("a"), 5.0)
    fleet.start(ask("a", "us-east"))
    time.now += 5
    assert [session.location for session in fleet.sessions()] == ["us-east"]


def test_a_warm_session_ignores_what_was_asked_and_the_pool_refills(time: HandClock) -> None:
    pool = WarmPool(size=1, image="arena", env={"POOL": "1"}, labels={"pool": "yes"}, tag="warm", refill_seconds=10)
    fleet = fleet_of(time, RegionSettings(warm_pool=pool))
    asked: dict[str, Any] = {
        "env": {"A": "b"},
        "args": ("-x",),
        "labels": {"mine": "1"},
        "restart": True,
        "version": "v1",
    }
    warm, cold = started(fleet.start(ask("a", **asked))), started(fleet.start(ask("b", **asked)))
    assert (warm.id, warm.env, warm.args, warm.labels, warm.restart, warm.tag, warm.started_by) == (
        *("a", {"POOL": "1"}, (), {"pool": "yes"}, False, "warm", "warm_pool"),
    )
    assert (cold.env, cold.args, cold.labels, cold.restart, cold.tag, cold.started_by) == (*asked.values(), "post")
    time.now += 10
    assert started(fleet.start(ask("c"))).started_by == "warm_pool"
    assert started(fleet.start(ask("d", image="other"))).started_by == "post"


def test_a_warm_pool_of_own_ids_makes_the_callers_id_name_nothing(time: HandClock) -> None:
    fleet = fleet_of(time, RegionSettings(warm_pool=WarmPool(size=5, own_ids=True)))
    session = started(fleet.start(ask("a")))
    assert session.id != "a"
    assert session.asked_id == "a"
    assert refused(fleet.find("a")) == 404
    assert started(fleet.find(session.id)) is session


def test_no_two_sessions_share_a_port_of_a_host(time: HandClock) -> None:
    fleet = fleet_of(time, images={"arena": ImageSettings(ports=("1/tcp", "1/udp", "2/udp"))})
    for number in range(9000):
        fleet.start(ask(location=("europe", "us-east")[number % 2]))
    fleet.apply(SimulatorSettings(regions={"asia": RegionSettings(), "us-east": RegionSettings()}))
    for number in range(9000):
        fleet.start(ask(location=("asia", "us-east")[number % 2]))
    sessions = tuple(fleet.sessions())
    addresses = [(session.host, port.host) for session in sessions for port in session.ports]
    assert len(sessions) == 18_000
    assert len(set(addresses)) == len(addresses)
    assert {port for _, port in addresses} <= set(range(20_000, 30_001))


def test_known_images_are_the_only_ones_and_their_first_tag_is_preferred(time: HandClock) -> None:
    fleet = fleet_of(time, images={"arena": ImageSettings(tags=("v2", "v1"))})
    assert started(fleet.start(ask())).tag == "v2"
    assert started(fleet.start(ask(version="v1"))).tag == "v1"
    assert refused(fleet.start(ask(version="v3"))) == 404
    assert refused(fleet.start(ask(image="other"))) == 404
    assert fleet.has_tag("europe", "arena", "v1") is True
    assert fleet.has_tag("europe", "arena", "v3") is False


@pytest.mark.parametrize("status", [402, 403])
def test_an_exhausted_quota_starts_nothing_more(time: HandClock, status: int) -> None:
    fleet = fleet_of(time, quota=2, quota_status=status)
    started(fleet.start(ask()))
    fleet.start_late(ask(), 1.0)
    assert refused(fleet.start(ask())) == status


def test_a_closed_region_answers_its_status_and_its_sessions_are_still_found(time: HandClock) -> None:
    fleet = fleet_of(time)
    fleet.start(ask("a"))
    fleet.apply(SimulatorSettings(regions={"europe": RegionSettings(closed=503)}))
    assert refused(fleet.start(ask("b"))) == 503
    assert refused(fleet.has_tag("europe", "arena", "v1")) == 503
    assert fleet.locations("arena") == {}
    assert started(fleet.stop("a")).status is Status.EXITED


def test_a_player_is_in_one_session_at_a_time(time: HandClock) -> None:
    fleet = fleet_of(time)
    first, second = started(fleet.start(ask("a"))), started(fleet.start(ask("b")))
    fleet.join("a", ("ann", "bob", "ann"))
    fleet.join("b", ("ann",))
    assert (first.players, second.players) == (("bob",), ("ann",))
    assert fleet.leave(("ann", "nobody")) == 0
    fleet.stop("a")
    assert refused(fleet.leave(("bob",))) == 404


def test_counts_stay_true_through_every_change(time: HandClock) -> None:
    fleet = fleet_of(time)
    for number in range(6):
        fleet.ready(started(fleet.start(ask(str(number), ("europe", "us-east")[number % 2]))))
    fleet.stop("0")
    fleet.set_status("1", Status.SERVER_UNREACHABLE)
    fleet.set_status("3", Status.DEAD)
    counted: dict[str, dict[str, int]] = {}
    for session in fleet.sessions():
        at = counted.setdefault(session.location, {})
        at[session.status] = at.get(session.status, 0) + 1
    assert fleet.ledger.sessions_by_status() == counted
    assert (fleet.ledger.alive("europe"), fleet.ledger.alive("us-east"), fleet.ledger.alive("asia")) == (2, 2, 0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1h", 3600), ("1m", 60), ("2h30m", 9000), ("0m", 60), ("", None), ("30s", None), ("30m2h", None), ("1h\n", None)],
)
def test_a_ttl_is_hours_and_minutes_and_at_least_a_minute(text: str, seconds: int | None) -> None:
    assert read_ttl(text) == seconds


def test_every_violation_of_a_body_is_named() -> None:
    body = {
        "id": "",
        "image": 7,
        "env": {"EMPTY": "", "N": 1},
        "args": ["", 2],
        "labels": ["a"],
        "restart": "yes",
        "ttl": "soon",
        "region": "europe",
    }
    wrong = read_start(body)
    assert isinstance(wrong, tuple)
    assert all(isinstance(each, Violation) for each in wrong)
    named = {each.field for each in wrong}
    assert named == {
        *("id", "image", "env.EMPTY", "env.N", "args[0]", "args[1]", "labels", "restart", "ttl", "region", "location"),
    }
