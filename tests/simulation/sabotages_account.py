"""The engine broken on purpose where it meets what is not its own alone: orphans, neighbours, pools, a lost tail.

In: pytest's monkeypatch. Out: an engine that lacks one of its guards, as in `sabotages`. Most of these matter in worlds
that have such things in them, so each has its focus; what no seed is likely to draw has a story in `test_rare_guards`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from allocator.broker.broker import Condemned
from allocator.broker.census import Census, OrphanKind, Snapshot
from allocator.broker.memory import MemoryBroker
from allocator.contract.identity import session_id
from allocator.engine import attempt, course, reconciler, resolve
from allocator.engine.reconciler import Reckoning, Reconciler
from allocator.providers.provider import Session
from tests.simulation.scenario import Chaos, HostFaults, Neighbour, Scenario

Patch = pytest.MonkeyPatch


def leaving_orphans_alone(patch: Patch) -> None:
    """An orphan is stopped by absence."""

    async def stop(self: Reconciler, provider: str, session_id: str) -> None:
        await self._parts.providers[provider].stop(session_id, timeout_seconds=1.0)

    _after_a_pass(patch, stop)


def condemning_by_request_alone(patch: Patch) -> None:
    """The reconciler condemns what has no record."""

    async def condemn(self: Reconciler, provider: str, session_id: str) -> None:
        condemned = Condemned(provider, session_id, "an orphan")
        await self._parts.aftermath.condemn(condemned, "", release=False)

    _after_a_pass(patch, condemn)


def the_namespace_of_a_session(patch: Patch) -> None:
    """What another namespace explains is an orphan here."""
    real = reconciler.reckon

    async def reckon(
        census: Census, before: Snapshot, provider: str, sessions: Sequence[Session], namespace: str
    ) -> Reckoning:
        return await real(census, before, provider, [replace(each, namespace=None) for each in sessions], namespace)

    patch.setattr(reconciler, "reckon", reckon)


def the_deployment_in_the_id(patch: Patch) -> None:
    """Two deployments make one session id of one request id."""
    real = session_id
    patch.setattr(course, "session_id", lambda _deployment, *words: real("shared", *words))


def looking_at_what_was_condemned_before_a_loss(patch: Patch) -> None:
    """What was condemned before Redis lost something is stopped unlooked."""
    real = MemoryBroker.claim_condemned

    async def claim(self: MemoryBroker, count: int, hold_ms: int) -> list[Condemned]:
        return [replace(each, before_loss=False) for each in await real(self, count, hold_ms)]

    patch.setattr(MemoryBroker, "claim_condemned", claim)


def waiting_where_ids_are_the_hosts_own(patch: Patch) -> None:
    """That nobody knows our id proves that a pool has served nothing."""
    real = resolve.resolve

    async def hasty(*words: Any, absence_counts: bool = True, **options: Any) -> Any:
        return await real(*words, **options)

    patch.setattr(attempt, "resolve", hasty)


def _after_a_pass(patch: Patch, act: Callable[[Reconciler, str, str], Any]) -> None:
    """Let this happen to every orphan that nothing explains."""
    real = Reconciler._pass

    async def _pass(self: Reconciler, provider: str) -> str | None:
        why = await real(self, provider)
        census: Any = self._census
        _, _, orphans = census._inner._store.orphans.get(provider, (0, None, ()))
        for orphan in orphans:
            if orphan.kind is OrphanKind.UNEXPLAINED:
                await act(self, provider, orphan.session_id)
        return why

    patch.setattr(Reconciler, "_pass", _pass)


def strangers(world: Scenario) -> Scenario:
    """A world with sessions that no record explains, looked at often."""
    return replace(world, strangers=2, eager=True, neighbour=None)


def another_namespace(world: Scenario) -> Scenario:
    """A world of two namespaces of one deployment, at rest for long."""
    return replace(strangers(world), neighbour=Neighbour.NAMESPACE, through_the_horizon=True)


def another_deployment(world: Scenario) -> Scenario:
    """A world of two deployments on one account."""
    return replace(world, neighbour=Neighbour.DEPLOYMENT)


def many_losses(world: Scenario) -> Scenario:
    """A world whose Redis loses its tail again and again, while creates land late and workers sleep."""
    chaos = Chaos(every_seconds=0.5, restore=0.3, pause=1.0)
    host = HostFaults(late_create=0.6, late_seconds_max=4.0, slow=True)
    world = replace(world, workers=3, requests=24, faults_seconds=20.0, rate=40.0, first_capacity=None, concurrency=64)
    return replace(world, chaos=chaos, host=host, resends=0.5, cancels=0.0, remains=0.0, strangers=0, neighbour=None)


def pools(world: Scenario) -> Scenario:
    """A world whose host gives ids of its own, and whose replies get lost."""
    return replace(world, host=replace(world.host, other_id=0.9, lost_reply=0.3))


FOCUS: dict[Callable[[Patch], None], Callable[[Scenario], Scenario]] = {
    leaving_orphans_alone: strangers,
    condemning_by_request_alone: strangers,
    the_namespace_of_a_session: another_namespace,
    the_deployment_in_the_id: another_deployment,
    waiting_where_ids_are_the_hosts_own: pools,
}
SABOTAGES = tuple(FOCUS)
