"""What the end of a request that nothing served is called, and the sentence for it."""

from __future__ import annotations

import pytest

from allocator.contract.allocation import Attempt, Outcome
from allocator.contract.codes import Code
from allocator.contract.destination import Destination
from allocator.placement.plan import Candidate, LeftOut, Plan, deadline_code, why_nowhere

EUROPE, US = (Destination("gameye", name) for name in ("europe", "us"))


def attempt(destination: Destination, outcome: Outcome) -> Attempt:
    return Attempt("r", destination.provider, destination.location, outcome, None, 0, 0.0, 0.0)


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


@pytest.mark.parametrize(
    ("route", "sentence"),
    [
        (Plan(()), "the request names no regions and default_regions is empty"),
        (
            Plan((), (LeftOut("moon", "unknown here"), LeftOut("us", "knows no such image", US))),
            "no region of the request can serve it: moon (unknown here), us at gameye/us (knows no such image)",
        ),
        (Plan((), (LeftOut("us", "drained"),), waiting_for=(US,)), None),
        (Plan((Candidate("us", US),), (LeftOut("moon", "unknown here"),)), None),
    ],
)
def test_no_region_is_an_end_only_where_nothing_may_come_yet(route: Plan, sentence: str | None) -> None:
    assert why_nowhere(route) == sentence
