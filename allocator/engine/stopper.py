"""Stops what has been condemned, and nothing else.

In: the condemned that are due. Out: DELETE calls, and for each when to look again. A session is condemned before the
answer to its creation is known, so it may land later: each is looked at again, ever less often, until the provider has
confirmed that nothing is there and the landing horizon is past. That holds across restarts of every worker.

One that was condemned before Redis lost something may have been handed out in what was lost: where it is alive it is
left alone, for a person to look at. Where the settings say to observe, what a matchmaker wants released is stopped and
nothing else.
"""

from __future__ import annotations

import asyncio

from allocator.broker.broker import Condemned
from allocator.engine.canceller import RELEASE, released
from allocator.engine.observer import LeftAlone, SessionStopped
from allocator.engine.parts import Parts
from allocator.providers.provider import Found, LookupFailed, Provider, SessionState, StopFailed, Stopped

LANDING_HORIZON_MS = 10 * 60 * 1000
STOP_TIMEOUT_SECONDS = 5.0
HOLD_MS = 10_000
"""How long others leave alone what a worker has claimed; where it died meanwhile, it is stopped that much later. A
second DELETE is harmless, so this need not outlast the slowest answer."""
CLAIM_MAX = 64
PAUSE_FIRST_MS = 1_000
PAUSE_LAST_MS = 15_000
UNKNOWN_PROVIDER_MS = 60_000
OBSERVED_MS = 60_000


async def stop_condemned(parts: Parts) -> None:
    """Look once at everything that is due, each by itself. Raises BrokerUnavailable."""
    due = await parts.broker.claim_condemned(CLAIM_MAX, HOLD_MS)
    looked = await asyncio.gather(*(_look(condemned, parts) for condemned in due), return_exceptions=True)
    for each in looked:
        if isinstance(each, BaseException):
            raise each


async def _look(condemned: Condemned, parts: Parts) -> None:
    await parts.broker.recheck(condemned, await _stop(condemned, parts))


async def _stop(condemned: Condemned, parts: Parts) -> int | None:
    """Try to stop one; the milliseconds until it is looked at again, None for never."""
    provider = parts.providers.get(condemned.provider)
    if provider is None:
        return UNKNOWN_PROVIDER_MS
    age_ms = parts.broker.now_ms() - condemned.since_ms
    again_ms = min(max(age_ms // 2, PAUSE_FIRST_MS), PAUSE_LAST_MS)
    is_release = condemned.reason.startswith(RELEASE)
    observes = parts.policy.observes and not is_release
    if observes and age_ms < LANDING_HORIZON_MS:
        return again_ms
    permit = await parts.lanes.look_up(condemned.provider, STOP_TIMEOUT_SECONDS)
    if permit is None:
        return again_ms
    try:
        if observes or (condemned.before_loss and not is_release):
            alive = await _is_alive(condemned, provider)
            if alive is None:
                return again_ms
            if observes:
                return OBSERVED_MS if alive else None
            if alive:
                parts.observe(LeftAlone(condemned.provider, condemned.session_id, condemned.reason))
                return None
        outcome = await provider.stop(condemned.session_id, timeout_seconds=STOP_TIMEOUT_SECONDS)
    finally:
        permit.lane.finish(served=True)
    if isinstance(outcome, StopFailed):
        return again_ms
    if isinstance(outcome, Stopped):
        parts.observe(SessionStopped(condemned.provider, condemned.session_id, condemned.reason))
    if is_release:
        await released(condemned, parts)
        return None
    return None if age_ms >= LANDING_HORIZON_MS else again_ms


async def _is_alive(condemned: Condemned, provider: Provider) -> bool | None:
    """Whether it runs; None where the provider did not say."""
    found = await provider.find(condemned.session_id, timeout_seconds=STOP_TIMEOUT_SECONDS)
    if isinstance(found, LookupFailed):
        return None
    return isinstance(found, Found) and found.session.state is not SessionState.ENDED
