"""Which leg of its way a hold is, and that what a request has spent outside is never told as added by this program."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from allocator.broker.broker import Hold
from allocator.contract.request import AllocationRequest, Priority
from allocator.engine.course import Course, was_parked
from allocator.engine.legs import leg_of
from allocator.engine.parts import Parts

NOW_MS = 1_800_000_000_000
PARKED = {"step": "parked", "for": ["gameye/europe"], "until": NOW_MS + 1000}


def hold(*trail: dict[str, Any], takes: int = 1, uncertain: bool = False) -> Hold:
    text = json.dumps(trail) if trail else ""
    return Hold("m-1", "f", "17-0", Priority.LOW, NOW_MS, b"{}", takes=takes, uncertain=uncertain, trail=text)


def course(of: Hold) -> Course:
    policy = SimpleNamespace(session_ttl="4h", port_names={}, deployment="d", namespace="n")
    broker = SimpleNamespace(now_ms=lambda: NOW_MS)
    parts = SimpleNamespace(policy=policy, providers={}, broker=broker)
    return Course.begin(of, AllocationRequest(id="m-1", image="game"), cast("Parts", parts), lease_until=0.0)


def test_time_parked_and_what_was_spent_before_it_are_no_latency_of_ours() -> None:
    begun = course(hold({"at": NOW_MS - 7000, **PARKED, "gate_ms": 2500, "provider_ms": 400}))
    assert (begun.gate_seconds, begun.provider_seconds) == (9.5, 0.4)


def test_a_stay_that_an_older_worker_wrote_down_counts_from_its_moment() -> None:
    begun = course(hold({"at": NOW_MS - 7000, **PARKED}))
    assert (begun.gate_seconds, begun.provider_seconds) == (7.0, 0.0)


def test_the_first_leg_goes_on_from_none_and_each_next_from_the_one_before() -> None:
    stays = [{"at": NOW_MS - 7000, **PARKED}, {"at": NOW_MS - 6000, "step": "called"}, {"at": NOW_MS - 5000, **PARKED}]
    legs = [
        course(each).leg for each in (hold(), hold(*stays[:1]), hold(*stays), hold(*stays, takes=2, uncertain=True))
    ]
    assert legs[0].before is None
    assert [leg.before for leg in legs[1:]] == [leg.place for leg in legs[:-1]]
    assert len({leg.place for leg in legs}) == 4


@given(st.integers(1, 6), st.lists(st.integers(1, NOW_MS), max_size=5, unique=True))
def test_a_leg_never_goes_on_from_itself(takes: int, stays: list[int]) -> None:
    trail = [{"at": at, **PARKED} for at in sorted(stays)]
    for uncertain in (False, True):
        of = hold(*trail, takes=takes, uncertain=uncertain)
        leg = leg_of(of, None, trail, parked=was_parked(of))
        assert leg.before != leg.place
