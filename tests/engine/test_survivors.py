"""What is found of the sessions that Redis has forgotten: which of several, how long a list is waited for, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from allocator.contract.identity import session_id
from allocator.engine.lookups import LookUps
from allocator.engine.survivors import PATIENCE_MS, STOPS_LAND_MS, Survivor, Survivors
from allocator.providers.provider import Absent, FindOutcome, Found, LookupFailed, Session, SessionState

if TYPE_CHECKING:
    from tests.conftest import RunVirtually

PROVIDER, DEPLOYMENT, NAMESPACE = "gameye", "prod", "allocator"
LOSS_MS = 0


class StubLookUps:
    """Lists and finds as the test says."""

    def __init__(self, sessions: Sequence[Session] = ()) -> None:
        self.sessions = {session.id: session for session in sessions}
        self.listed: tuple[Session, ...] = tuple(sessions)
        self.fails = False
        self.lists = 0

    async def list(self, _provider: str, _deployment: str, **_options: Any) -> tuple[Session, ...] | LookupFailed:
        self.lists += 1
        return LookupFailed("no right to read") if self.fails else self.listed

    async def find(self, _provider: str, name: str, **_options: Any) -> FindOutcome:
        return Found(self.sessions[name]) if name in self.sessions else Absent()


def session(generation: int) -> Session:
    name = session_id(DEPLOYMENT, "m-1", generation)
    return replace(Session(name, "127.0.0.1", (), "europe", "game"), request_id="m-1", namespace=NAMESPACE)


def now_ms() -> int:
    """A clock that begins long after the host's word of a loss could be stale."""
    return round(asyncio.get_running_loop().time() * 1000) + 1


async def asked(look_ups: StubLookUps, survivors: Survivors | None = None) -> list[Survivor]:
    survivors = survivors or survivors_of(look_ups)
    async with asyncio.timeout(2 * PATIENCE_MS / 1000):
        return await survivors.of("m-1", DEPLOYMENT, NAMESPACE, LOSS_MS)


def survivors_of(look_ups: StubLookUps) -> Survivors:
    return Survivors(cast(LookUps, look_ups), [PROVIDER], now_ms)


def test_of_several_sessions_the_one_of_the_latest_generation_is_first(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        first, second, third = (session(generation) for generation in (1, 2, 3))
        found = await asked(StubLookUps([second, third, first]))
        assert [each.id for _, each in found] == [third.id, second.id, first.id]

    run_virtually(story)


def test_what_has_ended_since_it_was_listed_serves_nobody(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        gone, ended, alive = (session(generation) for generation in (3, 2, 1))
        look_ups = StubLookUps([gone, ended, alive])
        del look_ups.sessions[gone.id]
        look_ups.sessions[ended.id] = replace(ended, state=SessionState.ENDED)
        assert [each.id for _, each in await asked(look_ups)] == [alive.id]

    run_virtually(story)


def test_nothing_is_adopted_while_a_stop_from_before_the_loss_may_still_end_it(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        look_ups = StubLookUps([session(1)])
        asyncio.get_running_loop().call_later(STOPS_LAND_MS / 1000 - 1, look_ups.sessions.clear)
        assert await asked(look_ups) == []

    run_virtually(story)


def test_a_match_that_no_session_runs_for_does_not_wait(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        assert await asked(StubLookUps()) == []
        assert asyncio.get_running_loop().time() == 0

    run_virtually(story)


def test_a_list_that_never_comes_holds_matches_up_for_half_a_minute_and_no_longer(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        loop, look_ups = asyncio.get_running_loop(), StubLookUps([session(1)])
        look_ups.fails = True
        survivors = survivors_of(look_ups)
        assert await asked(look_ups, survivors) == []
        assert loop.time() >= PATIENCE_MS / 1000
        since, lists = loop.time(), look_ups.lists
        assert await asked(look_ups, survivors) == []
        assert (loop.time(), look_ups.lists) == (since, lists)

    run_virtually(story)


def test_a_list_that_comes_again_is_believed_again(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        look_ups = StubLookUps([session(1)])
        look_ups.fails = True
        survivors = survivors_of(look_ups)
        assert await asked(look_ups, survivors) == []
        look_ups.fails = False
        await asyncio.sleep(11)
        assert len(await asked(look_ups, survivors)) == 1

    run_virtually(story)
