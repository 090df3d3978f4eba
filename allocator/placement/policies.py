"""In which order a request's regions are tried: the policies built in, and how a studio's own is found.

In: the wish of a request; the settings `placement.policy` and `placement.latency_by`. Out: the regions, best first, and
at start the policy of that name or a `PolicyError` that says what to mend. A policy sees no clock, no lane and no gate,
and nothing it does can lose a match: what it raises or answers amiss is `plan`'s to pass over. So are caps,
weights, drained regions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal

from allocator.placement.latencies import latency_of
from allocator.placement.plan import Policy, Wish

__all__ = ["ENTRY_POINTS", "AsNamed", "ByLatency", "LatencyBy", "Policy", "PolicyError", "load_policy"]

ENTRY_POINTS = "allocator.placement"
"""The group of entry points where a package names the policies that it brings."""
LatencyBy = Literal["worst", "average"]

_CURE = f"set placement.policy to 'latency', 'named', an entry point of the group {ENTRY_POINTS}, or 'module:attribute'"


class PolicyError(Exception):
    """The policy that the settings name cannot be used; the sentence says what to do."""


@dataclass(frozen=True, slots=True)
class AsNamed:
    """The regions as the request names them."""

    def order(self, wish: Wish) -> Sequence[str]:
        """Every region, in the order named."""
        return wish.regions


@dataclass(frozen=True, slots=True)
class ByLatency:
    """The regions by what the players have measured; as named where they have measured nothing."""

    by: LatencyBy = "worst"

    def order(self, wish: Wish) -> Sequence[str]:
        """Every region, lowest latency first (worst player, then average, or the other way round), unmeasured last."""
        if not any(player.latency_ms for player in wish.players):
            return wish.regions
        return sorted(wish.regions, key=lambda region: self._rank(region, wish))

    def _rank(self, region: str, wish: Wish) -> tuple[bool, float, float]:
        latency = latency_of(region, wish.players)
        if latency is None:
            return (True, 0.0, 0.0)
        if self.by == "average":
            return (False, latency.average_ms, latency.worst_ms)
        return (False, latency.worst_ms, latency.average_ms)


def load_policy(name: str, latency_by: LatencyBy) -> Policy:
    """Find the policy of that name; `latency_by` is for `latency` alone.

    What an entry point or `module:attribute` leads to is a policy itself, or a class or function that makes one when
    it is called without arguments.
    """
    match name:
        case "named":
            return AsNamed()
        case "latency":
            return ByLatency(latency_by)
        case _:
            found = _from_module(name) if ":" in name else _from_entry_point(name)
            return _policy(name, found)


def _from_module(name: str) -> Any:
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise PolicyError(f"placement.policy: '{name}' names no module or no attribute; {_CURE}")
    found = _guarded(name, f"importing {module}", lambda: import_module(module))
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            message = f"placement.policy: the module {module} has no '{attribute}'; name what it has, or {_CURE}"
            raise PolicyError(message) from None
    return found


def _from_entry_point(name: str) -> Any:
    known = entry_points(group=ENTRY_POINTS)
    # Two packages that bring the same are no contradiction.
    found = {each.value: each for each in known.select(name=name)}
    if len(found) > 1:
        choices = ", ".join(f"'{value}'" for value in sorted(found))
        raise PolicyError(f"placement.policy: packages bring '{name}' as each of {choices}; set the one that is meant")
    if not found:
        installed = ", ".join(sorted(known.names)) or "none is installed"
        raise PolicyError(f"placement.policy: no policy '{name}' is known (entry points: {installed}); {_CURE}")
    (only,) = found.values()
    return _guarded(name, f"importing {only.value}", only.load)


def _policy(name: str, found: Any) -> Policy:
    if inspect.isclass(found) or (callable(found) and not hasattr(found, "order")):
        found = _guarded(name, "calling it without arguments", found)
    order = getattr(found, "order", None)
    if not callable(order) or inspect.iscoroutinefunction(order) or not _takes_a_wish(order):
        raise PolicyError(
            f"placement.policy: '{name}' is no policy; give it a plain method order(wish) that returns the names of "
            "the regions, best first (allocator.placement.policies.Policy)"
        )
    policy: Policy = found
    return policy


def _takes_a_wish(order: Callable[..., Any]) -> bool:
    try:
        inspect.signature(order).bind(None)
    except TypeError:
        return False
    except ValueError:
        # What is written in C may tell no signature; `plan` finds out.
        return True
    return True


def _guarded(name: str, doing: str, step: Callable[[], Any]) -> Any:
    """What the step returns; whatever a studio's own code raises becomes a sentence."""
    try:
        return step()
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        message = f"placement.policy: '{name}' cannot be loaded: {doing} failed with {said}; mend it, or {_CURE}"
        raise PolicyError(message) from error
