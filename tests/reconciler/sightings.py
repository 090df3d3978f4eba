"""What the tests here do to a simulated Gameye, and a reconciler's pass at their word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.contract.request import MARK, NAMESPACE_MARK, REQUEST_MARK
from allocator.engine.observer import Reconciled
from allocator.providers.provider import Created, StartSpec

if TYPE_CHECKING:
    from tests.engine.conftest import Fleet, Member

HOURS_MS = 3 * 3_600_000


def grow_old(fleet: Fleet) -> None:
    """Let every session be three hours older."""
    for session in fleet.simulator.ledger.sessions:
        session.created_at_ms -= HOURS_MS


async def land(member: Member, fleet: Fleet, session_id: str, request_id: str | None, **labels: str) -> None:
    """A session appears at the provider, as this deployment starts them."""
    ours = {MARK: "tests", NAMESPACE_MARK: fleet.keys.namespace} | ({REQUEST_MARK: request_id} if request_id else {})
    provider = member.parts.providers["gameye"]
    outcome = await provider.start(session_id, "europe", StartSpec("game", labels=ours | labels), timeout_seconds=3)
    assert isinstance(outcome, Created)


async def look(member: Member, fleet: Fleet) -> Reconciled:
    """One pass of this worker, whoever had the last turn; what it tells."""
    reconciler = member.worker._reconciler
    assert reconciler is not None
    keys = reconciler._census._keys  # type: ignore[attr-defined]  # the port has none
    await fleet.connection.execute("DEL", keys.reconciler)
    await reconciler.look()
    told: Reconciled = member.seen(Reconciled)[-1]
    assert told.passed
    return told
