"""Stops what has been condemned, and nothing else.

In: the condemned that are due. Out: DELETE calls, and for each when to look again. A session is condemned before the
answer to its creation is known, so it may land later: each is looked at again, ever less often, until the provider has
confirmed that nothing is there and the landing horizon is past. That holds across restarts of every worker.

One that was condemned before Redis lost something may have been handed out in what was lost: where it is alive it is
left alone, for a person to look at. Where the settings say to observe, what a matchmaker wants cancelled or released is
stopped and nothing else.

The bound of that: a DELETE is sent within `FRESH_SECONDS` of asking what is condemned, or not at all. Where Redis loses
its tail just then, before anybody could know, the request may be made anew and adopt the session that this DELETE ends.
"""

from __future__ import annotations

import asyncio

from allocator.broker.broker import Condemned
from allocator.engine.asked import CANCELLED, RELEASE, SOUGHT, released
from allocator.engine.observer import LeftAlone, SessionStopped
from allocator.engine.parts import Parts
from allocator.providers.provider import (
    LANDING_HORIZON_MS,
    Found,
    LookupFailed,
    Provider,
    SessionState,
    StopFailed,
    StopOutcome,
    Stopped,
)

STOP_TIMEOUT_SECONDS = 5.0
FRESH_SECONDS = 1.0
"""For how long a claim is acted upon: a process that slept, or waited for leave to call, asks Redis once more."""
HOLD_MS = 10_000
"""How long others leave alone what a worker has claimed; where it died meanwhile, it is stopped that much later. A
second DELETE is harmless, so this need not outlast the slowest answer."""
CLAIM_MAX = 64
PAUSE_FIRST_MS = 1_000
PAUSE_LAST_MS = 15_000
PAUSE_SPARSE_MS = 60_000
"""Between the looks at what a cancelled request may have left: nothing says that it has, and what lands, lands soon."""
UNKNOWN_PROVIDER_MS = 60_000
OBSERVED_MS = 60_000


async def stop_condemned(parts: Parts) -> None:
    """Look once at everything that is due, each by itself. Raises BrokerUnavailable."""
    fresh_until = asyncio.get_running_loop().time() + FRESH_SECONDS
    due = await parts.broker.claim_condemned(CLAIM_MAX, HOLD_MS)
    looked = await asyncio.gather(*(_look(condemned, parts, fresh_until) for condemned in due), return_exceptions=True)
    for each in looked:
        if isinstance(each, BaseException):
            raise each


async def _look(condemned: Condemned, parts: Parts, fresh_until: float) -> None:
    await parts.broker.recheck(condemned, await _stop(condemned, parts, fresh_until))


async def _stop(condemned: Condemned, parts: Parts, fresh_until: float) -> int | None:
    """Try to stop one; the milliseconds until it is looked at again, None for never."""
    if condemned.provider not in parts.providers:
        return UNKNOWN_PROVIDER_MS
    age_ms = parts.broker.now_ms() - condemned.since_ms
    again_ms = min(max(age_ms // 2, PAUSE_FIRST_MS), PAUSE_LAST_MS)
    is_release = condemned.reason.startswith(RELEASE)
    observes = parts.policy.observes and not condemned.reason.startswith((RELEASE, CANCELLED))
    if observes and age_ms < LANDING_HORIZON_MS:
        return again_ms
    if observes or (condemned.before_loss and not condemned.reason.startswith((RELEASE, SOUGHT))):
        return await _only_look(condemned, parts, again_ms, fresh_until, observes=observes)
    outcome = await _stopped(condemned, parts, fresh_until)
    if isinstance(outcome, StopFailed | LookupFailed):
        return again_ms
    if isinstance(outcome, Stopped):
        parts.observe(SessionStopped(condemned.provider, condemned.session_id, condemned.reason))
    if is_release:
        await released(condemned, parts)
        return None
    if age_ms >= LANDING_HORIZON_MS:
        return None
    if condemned.reason.startswith(CANCELLED):
        return min(max(age_ms * 2, PAUSE_FIRST_MS), PAUSE_SPARSE_MS)
    return again_ms


async def _stopped(condemned: Condemned, parts: Parts, fresh_until: float) -> StopOutcome | LookupFailed:
    """Send the DELETE, unless the claim has grown old while leave to send it was waited for."""
    loop = asyncio.get_running_loop()

    async def stop(provider: Provider) -> StopOutcome:
        if loop.time() > fresh_until:
            return StopFailed("the claim has grown old")
        return await provider.stop(condemned.session_id, timeout_seconds=STOP_TIMEOUT_SECONDS)

    return await parts.look_ups.ask(condemned.provider, fresh_until - loop.time(), stop)


async def _only_look(
    condemned: Condemned, parts: Parts, again_ms: int, fresh_until: float, *, observes: bool
) -> int | None:
    """Stop nothing; the milliseconds until it is looked at again, None for never."""
    alive = await _is_alive(condemned, parts, fresh_until)
    if alive is None:
        return again_ms
    if observes:
        return OBSERVED_MS if alive else None
    if alive:
        parts.observe(LeftAlone(condemned.provider, condemned.session_id, condemned.reason))
        return None
    age_ms = parts.broker.now_ms() - condemned.since_ms
    return None if age_ms >= LANDING_HORIZON_MS else again_ms


async def _is_alive(condemned: Condemned, parts: Parts, fresh_until: float) -> bool | None:
    """Whether it runs; None where the provider did not say."""
    found = await parts.look_ups.find(
        condemned.provider,
        condemned.session_id,
        permit_seconds=fresh_until - asyncio.get_running_loop().time(),
        timeout_seconds=STOP_TIMEOUT_SECONDS,
    )
    if isinstance(found, LookupFailed):
        return None
    return isinstance(found, Found) and found.session.state is not SessionState.ENDED
