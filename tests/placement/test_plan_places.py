"""Weights, drained regions, what cannot serve, setbacks: what holds whatever the policy.

A region's places: `a b` in order, `a:3 b` with a weight. Everything is at the provider of the tests, `at`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from allocator.contract.destination import Destination
from allocator.contract.request import LatencyCap, Player
from allocator.placement.plan import Atlas, LeftOut, Place, Plan, Policy, Region, Wish, plan
from allocator.placement.policies import AsNamed, ByLatency

DRAINED = "drained by an operator"


def at(location: str) -> Destination:
    return Destination("at", location)


def atlas_of(regions: Mapping[str, str], drained: str = "") -> Atlas:
    def place(text: str) -> Place:
        location, _, weight = text.partition(":")
        return Place(at(location), float(weight) if weight else None)

    known = {
        name: Region(tuple(map(place, text.split())), DRAINED if name in drained.split() else "")
        for name, text in regions.items()
    }
    return known.get


def route_of(case: Case) -> Plan:
    return plan(
        Wish("m-1", tuple(case.named.split())),
        atlas_of(case.regions, case.drained),
        AsNamed(),
        passed_over={at(location): reason for location, reason in case.passed_over.items()},
        setbacks={at(location): count for location, count in case.setbacks.items()},
    )


@dataclass(frozen=True)
class Case:
    promise: str
    regions: Mapping[str, str]
    named: str
    tried: str
    """`region/location`, with `*` behind it for a guest."""
    drained: str = ""
    passed_over: Mapping[str, str] = field(default_factory=dict)
    setbacks: Mapping[str, int] = field(default_factory=dict)
    waits_for: str = ""
    left_out: Sequence[LeftOut] = ()


TWO = {"eu": "a b", "us": "c"}
SHARED = {"eu": "a b", "only": "a", "us": "c"}

CASES = [
    Case("places without weights come in the order given", TWO, "us eu", "us/c eu/a* eu/b*"),
    Case("a destination that stands in two regions comes once, in the better", SHARED, "only eu", "only/a eu/b*"),
    Case(
        "a region whose places all stand in a better one says so",
        SHARED,
        "eu only",
        "eu/a eu/b",
        left_out=[LeftOut("only", "all that it leads to stands under a better region")],
    ),
    Case("a region named twice is tried once", TWO, "eu us eu", "eu/a eu/b us/c*"),
    Case("an unknown region says so", TWO, "moon us", "us/c*", left_out=[LeftOut("moon", "unknown here")]),
    Case(
        "a region that leads nowhere is as good as unknown",
        {"eu": "", "us": "c"},
        "eu us",
        "us/c*",
        left_out=[LeftOut("eu", "unknown here")],
    ),
    Case(
        "nothing starts in a drained region, and it is waited for",
        TWO,
        "eu us",
        "us/c*",
        drained="eu",
        waits_for="a b",
        left_out=[LeftOut("eu", DRAINED)],
    ),
    Case(
        "with every region drained all are waited for",
        TWO,
        "eu us",
        "",
        drained="eu us",
        waits_for="a b c",
        left_out=[LeftOut("eu", DRAINED), LeftOut("us", DRAINED)],
    ),
    Case(
        "a drained region shuts its name, not a place that another region names",
        SHARED,
        "only eu",
        "eu/a* eu/b*",
        drained="only",
        left_out=[LeftOut("only", DRAINED)],
    ),
    Case(
        "a destination that cannot serve keeps its reason",
        TWO,
        "eu us",
        "eu/b us/c*",
        passed_over={"a": "knows no such image"},
        left_out=[LeftOut("eu", "knows no such image", at("a"))],
    ),
    Case(
        "a destination that cannot serve and gave no reason has one all the same",
        TWO,
        "us",
        "",
        passed_over={"c": ""},
        left_out=[LeftOut("us", "cannot serve this request", at("c"))],
    ),
    Case(
        "what cannot serve is not waited for",
        TWO,
        "eu us",
        "us/c*",
        drained="eu",
        passed_over={"a": "knows no such image"},
        waits_for="b",
        left_out=[LeftOut("eu", "knows no such image", at("a")), LeftOut("eu", DRAINED)],
    ),
    Case("a destination with more setbacks goes behind", TWO, "eu us", "us/c* eu/b eu/a", setbacks={"a": 2, "b": 1}),
    Case("equal setbacks keep the order", TWO, "eu us", "eu/a eu/b us/c*", setbacks={"a": 1, "b": 1, "c": 1}),
    Case("a setback elsewhere changes nothing", TWO, "eu us", "eu/a eu/b us/c*", setbacks={"z": 3}),
    Case("without regions there is no candidate", TWO, "", ""),
    Case("a weight of 0 comes last in its region", {"eu": "a:0 b", "us": "c"}, "eu us", "eu/b eu/a us/c*"),
    Case("where all weigh 0 the order is the one given", {"eu": "b:0 a:0 c:0"}, "eu", "eu/b eu/a eu/c"),
    Case("a setback weighs more than a weight", {"eu": "a:0 b:9"}, "eu", "eu/a eu/b", setbacks={"b": 1}),
    Case("a single place needs no luck", {"eu": "a:0.001"}, "eu", "eu/a"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.promise)
def test_who_may_serve_and_who_may_not(case: Case) -> None:
    route = route_of(case)
    assert [f"{e.region}/{e.destination.location}{'*' if e.guest else ''}" for e in route.candidates] == (
        case.tried.split()
    )
    assert [each.location for each in route.waiting_for] == case.waits_for.split()
    assert list(route.left_out) == list(case.left_out)


def one_region(places: str, request_id: str, region: str = "eu") -> list[str]:
    route = plan(Wish(request_id, (region,)), atlas_of({region: places}), AsNamed(), passed_over={}, setbacks={})
    return [each.destination.location for each in route.candidates]


def test_a_weighted_order_is_drawn_anew_for_each_request_and_each_region() -> None:
    ids = [f"m-{n}" for n in range(200)]
    assert {tuple(one_region("a:1 b:1", each)) for each in ids} == {("a", "b"), ("b", "a")}
    assert any(one_region("a:1 b:1", each, "eu") != one_region("a:1 b:1", each, "us") for each in ids)


def test_the_order_of_a_known_request_is_what_it_was_in_every_release() -> None:
    """A fleet that is being upgraded draws alike, so that a request taken over by a newer worker keeps its way."""
    assert [one_region("a:1 b:2 c:3", f"m-{n}") for n in range(4)] == [
        [*"cba"],
        [*"abc"],
        [*"cab"],
        [*"bac"],
    ]


@pytest.mark.parametrize("passed_over", ["", "a"])
def test_who_cannot_serve_leaves_the_order_of_the_others_as_it_was(passed_over: str) -> None:
    places = atlas_of({"eu": "a:1 b:2 c:3 d"})
    for n in range(50):
        wish = Wish(f"m-{n}", ("eu",))
        out = {at(each): "no" for each in passed_over}
        all_of_them = plan(wish, places, AsNamed(), passed_over={}, setbacks={}).candidates
        rest = plan(wish, places, AsNamed(), passed_over=out, setbacks={}).candidates
        assert rest == tuple(each for each in all_of_them if each.destination not in out)


@pytest.mark.parametrize(
    ("places", "shares"),
    [
        ("a:1 b:1", {"a": 0.5, "b": 0.5}),
        ("a:3 b:1", {"a": 0.75, "b": 0.25}),
        ("a:95 b:5", {"a": 0.95, "b": 0.05}),
        ("a b:2 c:7", {"a": 0.1, "b": 0.2, "c": 0.7}),
        ("a:0 b:1 c:1", {"b": 0.5, "c": 0.5}),
        ("a:0.001 b:0.003", {"a": 0.25, "b": 0.75}),
        ("a:1000 b:1000", {"a": 0.5, "b": 0.5}),
    ],
)
def test_first_places_are_spread_by_the_weights(places: str, shares: Mapping[str, float]) -> None:
    firsts = [one_region(places, f"match-{n}")[0] for n in range(10_000)]
    assert set(firsts) == set(shares)
    for location, share in shares.items():
        # Four standard deviations of 10,000 draws are two per cent at most.
        assert firsts.count(location) / len(firsts) == pytest.approx(share, abs=0.02)


def test_second_places_are_spread_by_the_weights_of_those_that_are_left() -> None:
    orders = [one_region("a:5 b:3 c:1", f"match-{n}") for n in range(10_000)]
    seconds = [order[1] for order in orders if order[0] == "a"]
    assert seconds.count("b") / len(seconds) == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize(
    ("region", "waits_for", "again", "reason"),
    [
        ("near", (at("a"),), None, DRAINED),
        ("far", (at("a"),), 9, DRAINED),
        (
            "farthest",
            (),
            None,
            "the worst player's 400 ms are over the latency cap of 50 ms, and no later cap lets it in",
        ),
    ],
)
def test_a_drained_region_is_waited_for_only_where_a_cap_will_let_it_in(
    region: str, waits_for: tuple[Destination, ...], again: float | None, reason: str
) -> None:
    players = (Player(latency_ms={"near": 20.0, "far": 90.0, "farthest": 400.0}),)
    wish = Wish("m-1", (region,), players, (LatencyCap(max_ms=50.0), LatencyCap(max_ms=100.0, after_seconds=9)))
    route = plan(wish, atlas_of({region: "a"}, region), ByLatency(), passed_over={}, setbacks={})
    assert (route.candidates, route.waiting_for, route.again_at_seconds) == ((), waits_for, again)
    assert route.left_out == (LeftOut(region, reason),)


class Answers:
    """A policy that returns whatever it was made with, or raises it."""

    def __init__(self, answer: object) -> None:
        self._answer = answer

    def order(self, wish: Wish) -> Sequence[str]:
        del wish
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer  # type: ignore[return-value]  # the answers of policies that are not typed


def by(policy: Policy) -> Plan:
    return plan(Wish("m-1", ("eu", "us")), atlas_of(TWO), policy, passed_over={}, setbacks={})


def test_a_policy_may_refuse_a_region_and_name_one_that_was_not_asked_for() -> None:
    route = by(Answers(["moon", "us", "us"]))
    assert [(each.region, each.guest) for each in route.candidates] == [("us", False)]
    assert route.left_out == (LeftOut("eu", "the placement policy leaves it out"),)
    assert route.fault == ""


def test_a_policy_that_refuses_every_region_leaves_none() -> None:
    route = by(Answers([]))
    assert route.candidates == ()
    assert route.waiting_for == ()
    assert [each.region for each in route.left_out] == ["eu", "us"]
    assert route.fault == ""


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (ValueError("no\nprices"), "raised ValueError: no prices"),
        (None, "returned NoneType"),
        ("us", "returned str"),
        (iter(["us"]), "returned list_iterator"),
        ({"us": 1}, "returned dict"),
        (["us", 3], "returned a list that holds more than names"),
        (RuntimeError("x" * 9999), "raised RuntimeError: xxx"),
    ],
)
def test_a_policy_that_fails_costs_no_match_its_regions(answer: object, said: str) -> None:
    route = by(Answers(answer))
    assert [each.region for each in route.candidates] == ["eu", "eu", "us"]
    assert route.left_out == ()
    assert route.fault.startswith(f"the placement policy Answers {said}")
    assert route.fault.endswith("mend it, or set placement.policy to 'latency'")
    assert "\n" not in route.fault
    assert len(route.fault) < 400
