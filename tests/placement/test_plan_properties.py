"""What holds of every plan, whatever the wish, the atlas, the policy and what befell the request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.contract.destination import Destination
from allocator.contract.request import LatencyCap, Player
from allocator.placement.plan import Place, Plan, Policy, Region, Wish, plan, why_nowhere
from allocator.placement.policies import AsNamed, ByLatency

NAMES = ("eu", "us", "ap", "sa", "moon")
QUICK = settings(max_examples=50)
"""Most of the time goes into making scenes: in this file every property sees its own."""
SPOTS = tuple(Destination("at", name) for name in "abcdef")


@dataclass(frozen=True)
class Picks:
    """A policy that knows only some regions, and some that nobody asked for."""

    regions: tuple[str, ...]

    def order(self, wish: Wish) -> Sequence[str]:
        del wish
        return self.regions


@dataclass(frozen=True)
class Scene:
    wish: Wish
    regions: dict[str, Region]
    policy: Policy
    passed_over: dict[Destination, str]
    setbacks: dict[Destination, int]

    def plan(self, *, age_seconds: float | None = None) -> Plan:
        wish = self.wish if age_seconds is None else replace(self.wish, age_seconds=age_seconds)
        return plan(wish, self.regions.get, self.policy, passed_over=self.passed_over, setbacks=self.setbacks)


latencies = st.integers(0, 200).map(float)
players = st.lists(
    st.dictionaries(st.sampled_from(NAMES), latencies).map(lambda ms: Player(latency_ms=ms)), max_size=4
).map(tuple)
caps = st.lists(st.builds(LatencyCap, max_ms=latencies, after_seconds=st.integers(0, 60).map(float)), max_size=4).map(
    tuple
)
ages = st.integers(-2, 70).map(float)
weights = st.none() | st.just(0.0) | st.floats(5e-324, 1000)
places = st.lists(
    st.builds(Place, st.sampled_from(SPOTS), weights), max_size=4, unique_by=lambda each: each.destination
)
regions = st.builds(Region, places.map(tuple), st.sampled_from(["", "", "drained"]))
named = st.permutations(NAMES).flatmap(lambda names: st.integers(0, len(names)).map(lambda n: tuple(names[:n])))
scenes = st.builds(
    Scene,
    wish=st.builds(Wish, st.text(min_size=1, max_size=8), named, players, caps, ages),
    regions=st.dictionaries(st.sampled_from(NAMES[:-1]), regions),
    policy=st.sampled_from([AsNamed(), ByLatency(), ByLatency("average")]) | named.map(Picks),
    passed_over=st.dictionaries(st.sampled_from(SPOTS), st.sampled_from(["", "no such image"]), max_size=3),
    setbacks=st.dictionaries(st.sampled_from(SPOTS), st.integers(0, 3)),
)


@QUICK
@given(scenes)
def test_no_destination_comes_twice_and_none_that_cannot_serve(scene: Scene) -> None:
    route = scene.plan()
    candidates = [each.destination for each in route.candidates]
    assert len(set(candidates)) == len(candidates)
    assert len(set(route.waiting_for)) == len(route.waiting_for)
    assert not set(route.waiting_for) & set(candidates)
    assert not (set(route.waiting_for) | set(candidates)) & scene.passed_over.keys()
    for each in route.candidates:
        places = scene.regions[each.region].places
        assert each.destination in {place.destination for place in places}
        assert scene.regions[each.region].drained == ""


@QUICK
@given(scenes)
def test_every_region_of_the_wish_is_tried_or_left_out_with_a_reason(scene: Scene) -> None:
    route = scene.plan()
    tried = {each.region for each in route.candidates}
    told = {each.region for each in route.left_out if each.reason}
    assert tried | told == set(scene.wish.regions)
    assert all(each.reason for each in route.left_out)
    whole = {each.region for each in route.left_out if each.destination is None}
    assert not tried & whole


@QUICK
@given(scenes)
def test_a_plan_is_the_same_whoever_makes_it(scene: Scene) -> None:
    assert scene.plan() == scene.plan()


@QUICK
@given(scenes)
def test_fewer_setbacks_come_first_and_among_equals_the_order_is_what_it_was(scene: Scene) -> None:
    route, before = scene.plan(), replace(scene, setbacks={}).plan()
    assert route.candidates == tuple(
        sorted(before.candidates, key=lambda each: scene.setbacks.get(each.destination, 0))
    )
    order = [each.region for each in before.candidates]
    assert order == sorted(order, key=order.index)


@QUICK
@given(scenes)
def test_who_is_waited_for_may_come_and_an_end_is_told_only_where_nobody_may(scene: Scene) -> None:
    route = scene.plan()
    assert (why_nowhere(route) is None) == bool(route.candidates or route.waiting_for)
    last = max((cap.after_seconds for cap in scene.wish.latency_caps), default=0)
    ages_to_come = {age for cap in scene.wish.latency_caps if (age := cap.after_seconds) > scene.wish.age_seconds}
    undrained = {name: replace(region, drained="") for name, region in scene.regions.items()}
    then = [replace(scene, regions=undrained).plan(age_seconds=age) for age in {scene.wish.age_seconds, *ages_to_come}]
    assert set(route.waiting_for) <= {each.destination for later in then for each in later.candidates}
    if why_nowhere(route) is not None:
        assert not scene.plan(age_seconds=max(last, scene.wish.age_seconds)).candidates


@QUICK
@given(scenes)
def test_nothing_changes_before_the_age_that_the_plan_tells(scene: Scene) -> None:
    route = scene.plan()
    steps = sorted({cap.after_seconds for cap in scene.wish.latency_caps if cap.after_seconds > scene.wish.age_seconds})
    for step in steps:
        if route.again_at_seconds is not None and step >= route.again_at_seconds:
            break
        assert scene.plan(age_seconds=step).candidates == route.candidates
        assert scene.plan(age_seconds=step).waiting_for == route.waiting_for


@QUICK
@given(scenes, st.lists(latencies, min_size=1, max_size=4), ages, ages)
def test_a_later_age_never_removes_a_region_while_caps_only_loosen(
    scene: Scene, limits: list[float], one: float, other: float
) -> None:
    loosening = tuple(LatencyCap(max_ms=ms, after_seconds=10.0 * n) for n, ms in enumerate(sorted(limits)))
    scene = replace(scene, wish=replace(scene.wish, latency_caps=loosening))
    early, late = (scene.plan(age_seconds=age) for age in sorted((one, other)))
    assert {each.destination for each in early.candidates} <= {each.destination for each in late.candidates}


@QUICK
@given(scenes)
def test_a_weight_of_0_never_comes_before_a_positive_one_of_its_region(scene: Scene) -> None:
    route = replace(scene, setbacks={}).plan()
    for name, region in scene.regions.items():
        weight_of = {place.destination: place.weight for place in region.places}
        own = [weight_of[each.destination] for each in route.candidates if each.region == name]
        assert all(before != 0 or after == 0 for before, after in pairwise(own))


@QUICK
@given(scenes)
def test_places_of_a_region_without_weights_keep_their_order(scene: Scene) -> None:
    bare: Callable[[Place], Place] = lambda place: Place(place.destination)  # noqa: E731 - one line says it
    unweighted = {
        name: replace(region, places=tuple(map(bare, region.places))) for name, region in scene.regions.items()
    }
    route = replace(scene, regions=unweighted, setbacks={}).plan()
    for name, region in unweighted.items():
        order = [place.destination for place in region.places]
        own = [order.index(each.destination) for each in route.candidates if each.region == name]
        assert own == sorted(own)


@QUICK
@given(scenes)
def test_only_the_first_region_of_the_policy_is_no_guest(scene: Scene) -> None:
    order = [each for each in dict.fromkeys(scene.policy.order(scene.wish)) if each in scene.wish.regions]
    for each in scene.plan().candidates:
        assert each.guest == (each.region != order[0])
