"""Players' latencies and caps that loosen: a table that reads like a specification.

Players: `eu 30 us 80 | eu 50` is one who measured two regions and one who measured one. Caps: `50@0 120@10` is a cap
of 50 ms from the start and one of 120 ms from 10 s on. Each region leads to the destination of its own name.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from allocator.contract.destination import Destination
from allocator.contract.request import LatencyCap, Player
from allocator.placement.plan import Place, Region, Wish, plan
from allocator.placement.policies import AsNamed, ByLatency, LatencyBy, Policy

UNMEASURED = "no player has measured a latency to it, so that it is over every latency cap"


def atlas(region: str) -> Region:
    return Region((Place(Destination("gameye", region)),))


def players_of(text: str) -> tuple[Player, ...]:
    rows = [each.split() for each in text.split("|")] if text else []
    return tuple(Player(latency_ms=dict(zip(row[::2], map(float, row[1::2]), strict=True))) for row in rows)


def caps_of(text: str) -> tuple[LatencyCap, ...]:
    pairs = [each.split("@") for each in text.split()]
    return tuple(LatencyCap(max_ms=float(most), after_seconds=float(after)) for most, after in pairs)


@dataclass(frozen=True)
class Case:
    promise: str
    named: str
    tried: str
    """The regions tried, in this order."""
    players: str = ""
    caps: str = ""
    age: float = 0
    by: LatencyBy | None = "worst"
    """None: the regions as named."""
    waits_for: str = ""
    again: float | None = None

    @property
    def wish(self) -> Wish:
        named = tuple(self.named.split())
        return Wish("m-1", named, players_of(self.players), caps_of(self.caps), age_seconds=self.age)

    @property
    def policy(self) -> Policy:
        return AsNamed() if self.by is None else ByLatency(self.by)


ORDER = [
    Case("without players the order is the one named", "eu us ap", "eu us ap"),
    Case("players who measured nothing change nothing", "eu us ap", "eu us ap", players="|"),
    Case("the nearest region of a single player comes first", "eu us ap", "us ap eu", players="eu 90 us 20 ap 50"),
    Case("a region is as far as its worst player has it", "eu us", "us eu", players="eu 10 us 60 | eu 90 us 70"),
    Case(
        "the average does not outweigh the worst player",
        "eu us",
        "us eu",
        players="eu 10 us 80 | eu 10 us 80 | eu 90 us 80",
    ),
    Case("of two equal worst players the lower average decides", "eu us", "us eu", players="eu 80 us 10 | eu 80 us 80"),
    Case("of two equal regions the one named first stays first", "us eu", "us eu", players="eu 40 us 40"),
    Case(
        "by the average, a single far player decides nothing",
        "us eu",
        "eu us",
        players="eu 10 us 80 | eu 10 us 80 | eu 90 us 80",
        by="average",
    ),
    Case(
        "of two equal averages the lower worst player decides",
        "eu us",
        "us eu",
        players="eu 10 us 50 | eu 90 us 50",
        by="average",
    ),
    Case("a region that nobody measured comes last", "ap eu us", "us eu ap", players="eu 90 us 20"),
    Case("regions that nobody measured keep the order named", "ap sa eu", "eu ap sa", players="eu 400"),
    Case("whoever did not measure a region does not count for it", "eu us", "us eu", players="eu 50 us 40 | eu 60"),
    Case("who measured only other regions leaves the order named", "eu us", "eu us", players="moon 5"),
    Case("a region that was measured and not named is not tried", "eu us", "us eu", players="eu 9 us 8 ap 1"),
    Case("a latency of 0 is a measurement", "eu us", "us eu", players="eu 1 us 0"),
    Case("the policy `named` does not look at latencies", "eu us", "eu us", players="eu 90 us 20", by=None),
]

CAPS = [
    Case("caps say nothing where nobody measured anything", "eu us", "eu us", caps="1@0"),
    Case("caps say nothing where players bring no latency", "eu us", "eu us", players="|", caps="1@0 2@9"),
    Case("a region under the cap is tried, one over it is not", "eu us", "us", players="eu 90 us 20", caps="50@0"),
    Case("a latency that equals the cap is under it", "eu", "eu", players="eu 50", caps="50@0"),
    Case("the cap is for the worst player", "eu us", "us", players="eu 5 us 30 | eu 51 us 30", caps="50@0"),
    Case(
        "the cap is for the worst player where the order is by the average",
        "eu us",
        "us",
        players="eu 1 us 30 | eu 51 us 30",
        caps="50@0",
        by="average",
    ),
    Case("caps hold where the order is the one named", "eu us", "us", players="eu 90 us 20", caps="50@0", by=None),
    Case("a region that nobody measured is over every cap", "eu ap", "eu", players="eu 20", caps="50@0 60000@5"),
    Case("with every region over the last cap none is tried", "eu us", "", players="eu 90 us 80", caps="50@0"),
    Case(
        "a region waits for the cap that will let it in",
        "eu us",
        "us",
        players="eu 90 us 20",
        caps="50@0 100@10",
        waits_for="eu",
        again=10,
    ),
    Case(
        "just before the looser cap the region still waits",
        "eu us",
        "us",
        players="eu 90 us 20",
        caps="50@0 100@10",
        age=9.999,
        waits_for="eu",
        again=10,
    ),
    Case(
        "the looser cap applies from its very second on",
        "eu us",
        "us eu",
        players="eu 90 us 20",
        caps="50@0 100@10",
        age=10,
    ),
    Case("the last cap stays in force", "eu us", "us", players="eu 190 us 20", caps="50@0 100@10", age=3000),
    Case(
        "a cap that changes nothing is passed over for the next that does",
        "eu us",
        "us",
        players="eu 90 us 20",
        caps="50@0 60@5 80@8 90@20",
        waits_for="eu",
        again=20,
    ),
    Case(
        "regions come in one after another as caps loosen",
        "eu us ap",
        "us",
        players="eu 90 us 20 ap 200",
        caps="50@0 100@10 250@30",
        waits_for="eu ap",
        again=10,
    ),
    Case(
        "after the second step the third is waited for",
        "eu us ap",
        "us eu",
        players="eu 90 us 20 ap 200",
        caps="50@0 100@10 250@30",
        age=12,
        waits_for="ap",
        again=30,
    ),
    Case(
        "with nothing under the cap yet, everything waits",
        "eu us",
        "",
        players="eu 90 us 80",
        caps="50@0 100@4",
        waits_for="us eu",
        again=4,
    ),
    Case("before the earliest cap nothing is capped", "eu us", "us eu", players="eu 90 us 20", caps="50@10", again=10),
    Case("once the earliest cap applies, it caps", "eu us", "us", players="eu 90 us 20", caps="50@10", age=10),
    Case(
        "before the earliest cap a region that nobody measured is tried, last",
        "ap us",
        "us ap",
        players="us 20",
        caps="50@10",
        again=10,
    ),
    Case(
        "a clock behind Redis's makes no time before the first cap",
        "eu us",
        "us",
        players="eu 90 us 20",
        caps="50@0",
        age=-0.5,
    ),
    Case(
        "a later cap that is tighter is simply the one in force",
        "eu us",
        "us",
        players="eu 90 us 20",
        caps="100@0 50@10",
        age=11,
    ),
    Case(
        "a tighter cap to come is the next change",
        "eu us",
        "us eu",
        players="eu 90 us 20",
        caps="100@0 50@10",
        again=10,
    ),
    Case(
        "a region that a tighter cap shuts out waits for the looser one after it",
        "eu us",
        "us",
        players="eu 90 us 20",
        caps="100@0 50@10 95@20",
        age=10,
        waits_for="eu",
        again=20,
    ),
    Case(
        "caps may be written in any order",
        "eu us",
        "us eu",
        players="eu 90 us 20",
        caps="100@10 50@0",
        age=10,
    ),
    Case("of two caps from one age on the last written counts", "eu", "eu", players="eu 90", caps="50@0 100@0"),
]


def check(case: Case) -> None:
    route = plan(case.wish, atlas, case.policy, passed_over={}, setbacks={})
    assert [each.region for each in route.candidates] == case.tried.split()
    assert [each.location for each in route.waiting_for] == case.waits_for.split()
    assert route.again_at_seconds == case.again
    assert {each.region for each in route.left_out} == set(case.named.split()) - set(case.tried.split())
    assert route.fault == ""


@pytest.mark.parametrize("case", ORDER, ids=lambda case: case.promise)
def test_regions_come_in_the_order_of_the_players_latencies(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", CAPS, ids=lambda case: case.promise)
def test_a_region_over_the_cap_is_not_tried_before_a_looser_cap_applies(case: Case) -> None:
    check(case)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (
            Case("", "eu us", "us", players="eu 90 us 20", caps="50@0 70@5 100@10.5"),
            "the worst player's 90 ms are over the latency cap of 50 ms; the cap of 100 ms after 10.5 s lets it in",
        ),
        (
            Case("", "eu us", "us", players="eu 90 us 20", caps="50@0 70@5"),
            "the worst player's 90 ms are over the latency cap of 50 ms, and no later cap lets it in",
        ),
        (Case("", "eu us", "us", players="us 20", caps="50@0 100@10"), UNMEASURED),
    ],
)
def test_who_is_over_the_cap_is_told_by_how_much_and_until_when(case: Case, reason: str) -> None:
    (left_out,) = plan(case.wish, atlas, case.policy, passed_over={}, setbacks={}).left_out
    assert (left_out.region, left_out.destination, left_out.reason) == ("eu", None, reason)


def test_the_request_is_a_guest_wherever_its_players_would_rather_not_be() -> None:
    wish = Wish("m-1", ("eu", "us", "ap"), players_of("eu 90 us 20 ap 50"))
    route = plan(wish, atlas, ByLatency(), passed_over={}, setbacks={})
    assert [(each.region, each.guest) for each in route.candidates] == [("us", False), ("ap", True), ("eu", True)]
