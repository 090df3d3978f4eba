"""The order of destinations, and the word for an end: pure rules."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from allocator.contract.allocation import Attempt, Outcome
from allocator.contract.codes import Code
from allocator.contract.destination import Destination
from allocator.placement.plan import Candidate, LeftOut, deadline_code, plan

EUROPE, IRELAND, US = (Destination("gameye", name) for name in ("europe", "ireland", "us"))
ATLAS = {"eu": (EUROPE, IRELAND), "eu-only": (EUROPE,), "us": (US,)}


def atlas(region: str) -> tuple[Destination, ...]:
    return ATLAS.get(region, ())


def attempt(destination: Destination, outcome: Outcome) -> Attempt:
    return Attempt("r", destination.provider, destination.location, outcome, None, 0, 0.0, 0.0)


def test_destinations_come_in_the_order_of_the_regions_and_each_once() -> None:
    route = plan(["us", "eu", "eu-only"], atlas, passed_over=frozenset(), failures={})
    assert route.candidates == (Candidate("us", US), Candidate("eu", EUROPE), Candidate("eu", IRELAND))
    assert route.left_out == ()


def test_a_region_that_cannot_serve_is_left_out_with_its_reason() -> None:
    route = plan(["moon", "us", "eu"], atlas, passed_over=frozenset({US, EUROPE}), failures={})
    assert route.candidates == (Candidate("eu", IRELAND),)
    assert route.left_out == (LeftOut("moon", "unknown here"), LeftOut("us", "cannot serve this request"))


def test_a_destination_that_failed_the_request_goes_behind_those_that_failed_it_less() -> None:
    route = plan(["eu", "us"], atlas, passed_over=frozenset(), failures={EUROPE: 2, IRELAND: 1})
    assert [each.destination for each in route.candidates] == [US, IRELAND, EUROPE]


regions = st.lists(st.sampled_from([*ATLAS, "moon", "mars"]), max_size=6)
places = st.frozensets(st.sampled_from([EUROPE, IRELAND, US]))


@given(regions, places, st.dictionaries(st.sampled_from([EUROPE, IRELAND, US]), st.integers(0, 3)))
def test_every_region_is_a_candidate_or_left_out_and_nothing_passed_over_comes_back(
    asked: list[str], passed_over: frozenset[Destination], failures: dict[Destination, int]
) -> None:
    route = plan(asked, atlas, passed_over=passed_over, failures=failures)
    destinations = [each.destination for each in route.candidates]
    assert len(set(destinations)) == len(destinations)
    assert set(destinations) == {place for region in asked for place in atlas(region)} - passed_over
    counts = [failures.get(each, 0) for each in destinations]
    assert counts == sorted(counts)
    for region in asked:
        served = set(atlas(region)) & set(destinations)
        assert bool(served) != (region in {each.region for each in route.left_out})


@given(st.permutations([EUROPE, IRELAND, US]))
def test_without_failures_the_order_is_the_one_asked_for(order: list[Destination]) -> None:
    route = plan([str(n) for n in range(3)], lambda region: [order[int(region)]], passed_over=frozenset(), failures={})
    assert [each.destination for each in route.candidates] == order


def test_full_weighs_more_than_broken_and_broken_more_than_nothing() -> None:
    full, broken = attempt(EUROPE, Outcome.NO_CAPACITY), attempt(US, Outcome.UNAVAILABLE)
    assert deadline_code([full, broken], [], unauthorized=False) is Code.NO_CAPACITY
    assert deadline_code([attempt(EUROPE, Outcome.THROTTLED)], [], unauthorized=False) is Code.NO_CAPACITY
    assert deadline_code([broken], [], unauthorized=False) is Code.UNAVAILABLE
    assert deadline_code([attempt(US, Outcome.UNKNOWN)], [], unauthorized=False) is Code.UNAVAILABLE
    assert deadline_code([], [Outcome.NO_CAPACITY], unauthorized=False) is Code.NO_CAPACITY
    assert deadline_code([], [Outcome.UNAVAILABLE], unauthorized=False) is Code.UNAVAILABLE
    assert deadline_code([], [], unauthorized=False) is Code.DEADLINE
    assert deadline_code([attempt(EUROPE, Outcome.REJECTED)], [], unauthorized=False) is Code.DEADLINE


def test_only_the_last_answer_of_a_destination_counts() -> None:
    attempts = [attempt(EUROPE, Outcome.NO_CAPACITY), attempt(EUROPE, Outcome.UNAVAILABLE)]
    assert deadline_code(attempts, [], unauthorized=False) is Code.UNAVAILABLE


def test_a_refused_credential_names_the_end_only_where_no_region_was_full() -> None:
    refused = attempt(EUROPE, Outcome.UNAVAILABLE)
    assert deadline_code([refused], [], unauthorized=True) is Code.UNAUTHORIZED
    assert deadline_code([], [Outcome.UNAVAILABLE], unauthorized=True) is Code.UNAUTHORIZED
    assert deadline_code([refused, attempt(US, Outcome.NO_CAPACITY)], [], unauthorized=True) is Code.NO_CAPACITY
