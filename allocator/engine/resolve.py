"""What became of a call whose answer is unknown: look the session id up before anything else.

In: a course with providers under suspicion. Out: the session that lives under this generation's id, or None once every
one of them has said that none does, and then the next generation is persisted and this one condemned, so that what
lands late is stopped and never taken for the one that serves. While a provider does not say, nobody else is called.

Less is promised of a warm pool that gives ids of its own. Once this process has met one, an unknown answer there waits
for the deadline instead of going elsewhere; before that, and after a take-over, a session that nobody was told of may
be left beside the one that serves: it is counted as an orphan, never stopped, and its `ttl` ends it.
"""

from __future__ import annotations

import asyncio
from itertools import count

from allocator.broker.broker import Condemned
from allocator.engine.course import Course
from allocator.engine.observer import LookedUp
from allocator.engine.parts import Parts
from allocator.providers.provider import Absent, FindOutcome, Found, LookupFailed, Session, SessionState

LOOK_UP_TIMEOUT_SECONDS = 5.0
SHORTEST_LOOK_UP_SECONDS = 0.1
PAUSE_FIRST_SECONDS = 0.1
PAUSE_LAST_SECONDS = 5.0


class LetGo(Exception):  # noqa: N818 - the request is someone else's now, which is no error
    """The fence is stale: whatever this worker knows of the request no longer counts."""


class DeadlineCame(Exception):  # noqa: N818 - an end like others
    """The deadline came while the answer was still unknown."""


async def resolve(
    course: Course, parts: Parts, reason: str, *, patient: bool = False, absence_counts: bool = True
) -> tuple[str, Session] | None:
    """Give the provider and the session that lives; or move on to the next generation and give None.

    Raises LetGo, or DeadlineCame unless `patient`: then the provider's word is waited for past the deadline. Unless
    `absence_counts`, that the provider knows no such id proves nothing (a warm pool gives its own): then only a
    session that is found, or the deadline, ends it. What is still being made is waited for as long as a call may take.
    """
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for turn in count():
        since, unclear = loop.time(), False
        for provider in sorted(course.suspects):
            answer = await _find(provider, course, parts, patient=patient)
            if isinstance(answer, Found) and answer.session.state is SessionState.ALIVE:
                return provider, answer.session
            overdue = loop.time() - begun > parts.policy.call_timeout_seconds[provider]
            unclear |= not _lives_no_more(answer, absence_counts=absence_counts, overdue=overdue)
        # where the lease was over meanwhile another may have had the request, and served it
        ours = loop.time() - since <= parts.policy.lease_seconds or course.held_since(since)
        if not unclear and ours:
            await next_generation(course, parts, reason)
            return None
        pause = min(PAUSE_FIRST_SECONDS * 2**turn, PAUSE_LAST_SECONDS) * (0.5 + parts.chance.random())
        await asyncio.sleep(pause if patient else min(pause, max(0.0, course.remaining_seconds(parts))))
    raise AssertionError("count() does not end")


def _lives_no_more(answer: FindOutcome, *, absence_counts: bool, overdue: bool) -> bool:
    """Whether it can be left behind: it has ended, it never was, or it is being made and does not come to life."""
    match answer:
        case Found(session):
            return session.state is SessionState.ENDED or (overdue and session.state is SessionState.PENDING)
        case Absent():
            return absence_counts
        case LookupFailed():
            return False


async def next_generation(course: Course, parts: Parts, reason: str, also: tuple[Condemned, ...] = ()) -> None:
    """Leave this generation behind for good, and what else is named."""
    condemned: tuple[Condemned, ...] = (*course.condemned(parts, reason), *also)
    hold = course.hold.of_generation(course.generation)
    generation = await parts.insist("next_generation", lambda: parts.broker.next_generation(hold, condemned))
    if generation is None:
        raise LetGo
    course.generation = generation
    course.suspects.clear()


async def _find(provider: str, course: Course, parts: Parts, *, patient: bool) -> FindOutcome:
    remaining = LOOK_UP_TIMEOUT_SECONDS if patient else course.remaining_seconds(parts)
    if remaining <= 0:
        raise DeadlineCame
    loop = asyncio.get_running_loop()
    since = loop.time()
    try:
        timeout = min(LOOK_UP_TIMEOUT_SECONDS, max(SHORTEST_LOOK_UP_SECONDS, remaining))
        found = await parts.look_ups.find(
            provider, course.session_id(parts), permit_seconds=remaining, timeout_seconds=timeout
        )
    finally:
        course.provider_seconds += loop.time() - since
    parts.observe(LookedUp(course.leg, provider, _word(found), asked_at=since, seconds=loop.time() - since))
    return found


def _word(answer: FindOutcome) -> str:
    match answer:
        case Found(session):
            return session.state.value
        case Absent():
            return "absent"
        case LookupFailed():
            return "failed"
