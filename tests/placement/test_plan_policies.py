"""Where a policy comes from: built in, a package's entry point, a module; and what is said where it does not."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from allocator.placement.plan import Wish
from allocator.placement.policies import AsNamed, ByLatency, PolicyError, load_policy

MODULE = """
class Cheapest:
    def order(self, wish):
        return sorted(wish.regions)

class Bound:
    def __init__(self, prices):
        self.prices = prices
    def order(self, wish):
        return ()

class Slow:
    async def order(self, wish):
        return wish.regions

class Odd:
    def order(self):
        return ()

class Fields:
    order = ("eu", "us")

def make():
    return Cheapest()

def broken():
    raise OSError("no price list:\\nprices.csv")

cheapest = Cheapest()
slow = Slow()
number = 7

class rack:
    cheapest = Cheapest()
"""
WISH = Wish("m-1", ("us", "eu", "ap"))
_numbers = itertools.count()

Brought = Callable[..., str]


@pytest.fixture
def brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Brought:
    """Put a module, and packages with these entry points, where Python finds them; its name is a new one each time."""
    monkeypatch.syspath_prepend(tmp_path)

    def bring(text: str = MODULE, **packages: str) -> str:
        name = f"studio_policies_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(text)
        for package, entries in packages.items():
            info = tmp_path / f"{package}-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
            (info / "entry_points.txt").write_text(f"[allocator.placement]\n{entries.replace('MODULE', name)}\n")
        return name

    return bring


def refusal(name: str) -> str:
    with pytest.raises(PolicyError) as caught:
        load_policy(name, "worst")
    said = str(caught.value)
    assert said.startswith("placement.policy: ")
    assert "\n" not in said
    return said


def test_the_policies_built_in_need_no_package() -> None:
    assert load_policy("named", "worst") == AsNamed()
    assert load_policy("latency", "worst") == ByLatency("worst")
    assert load_policy("latency", "average") == ByLatency("average")


@pytest.mark.parametrize("attribute", ["cheapest", "Cheapest", "make", "rack.cheapest"])
def test_a_module_gives_a_policy_or_what_makes_one(brought: Brought, attribute: str) -> None:
    assert load_policy(f"{brought()}:{attribute}", "worst").order(WISH) == ["ap", "eu", "us"]


def test_a_package_gives_a_policy_by_its_entry_point(brought: Brought) -> None:
    brought(studio_a="cheapest = MODULE:Cheapest\nother = MODULE:make")
    assert load_policy("cheapest", "worst").order(WISH) == ["ap", "eu", "us"]


def test_a_package_never_takes_the_place_of_a_policy_built_in(brought: Brought) -> None:
    brought(studio_b="latency = MODULE:Cheapest")
    assert load_policy("latency", "worst") == ByLatency()


def test_two_packages_of_one_name_are_told_apart_by_the_module(brought: Brought) -> None:
    name = brought(studio_c="best = MODULE:Cheapest", studio_d="best = MODULE:make")
    choices = f"'{name}:Cheapest', '{name}:make'"
    assert refusal("best") == (
        f"placement.policy: packages bring 'best' as each of {choices}; set the one that is meant"
    )


def test_two_packages_that_bring_the_same_are_no_contradiction(brought: Brought) -> None:
    brought(studio_e="twin = MODULE:Cheapest", studio_f="twin = MODULE:Cheapest")
    assert load_policy("twin", "worst").order(WISH) == ["ap", "eu", "us"]


def test_an_unknown_name_is_told_what_there_is_and_what_to_set(brought: Brought) -> None:
    brought(studio_h="cheapest-first = MODULE:Cheapest")
    said = refusal("cheepest")
    assert "no policy 'cheepest' is known (entry points: " in said
    assert "cheapest-first" in said
    assert "set placement.policy to 'latency', 'named', an entry point of the group allocator.placement" in said


@pytest.mark.parametrize(
    ("attribute", "said"),
    [
        ("Dearest", "has no 'Dearest'; name what it has"),
        ("rack.dearest", "has no 'rack.dearest'; name what it has"),
        ("", "names no module or no attribute"),
        ("number", "is no policy; give it a plain method order(wish)"),
        ("Fields", "is no policy; give it a plain method order(wish)"),
        ("Odd", "is no policy; give it a plain method order(wish)"),
        ("slow", "is no policy; give it a plain method order(wish)"),
        ("Bound", "calling it without arguments failed with TypeError"),
        ("broken", "calling it without arguments failed with OSError: no price list: prices.csv; mend it, or set"),
    ],
)
def test_what_is_no_policy_is_refused_with_what_to_mend(brought: Brought, attribute: str, said: str) -> None:
    name = f"{brought()}:{attribute}"
    assert said in refusal(name)


def test_a_module_that_is_absent_or_broken_is_told_by_its_own_fault(brought: Brought) -> None:
    absent = refusal("no_such_module_anywhere:best")
    assert "importing no_such_module_anywhere failed with ModuleNotFoundError" in absent
    assert "importing" in refusal(f"{brought('1 / 0')}:best")
    assert "ZeroDivisionError" in refusal(f"{brought('1 / 0')}:best")
    assert "names no module" in refusal(":best")
