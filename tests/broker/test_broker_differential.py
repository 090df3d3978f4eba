"""The twin and a real server are told the same steps in the same order, and never answer differently.

The entries bear the twin's ids on both sides and the fences are counted, so that answers can be compared as they are;
only moments on a clock are left out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.broker.broker import Broker, Condemned, Ended, Entry, Hold
from allocator.contract.codes import Code
from allocator.contract.request import Priority
from tests.broker.differential import DRAWN, on_both

if TYPE_CHECKING:
    from tests.broker.conftest import House, StreamsHouse, TwinHouse
    from tests.conftest import TestServer

T = TypeVar("T")
IDS = tuple(f"m-{number}" for number in range(6))

pick = st.integers(1, 4)
worker = st.integers(0, 1)
ARRIVE = st.tuples(
    st.just("arrive"), worker, st.sampled_from(IDS), st.sampled_from("aab"), st.sampled_from((None, "mm-1", "mm-2"))
)
STEP = st.one_of(
    *[ARRIVE] * 6,
    st.tuples(st.just("add"), st.sampled_from(Priority), st.sampled_from(IDS), st.sampled_from("ab")),
    st.tuples(st.just("take"), worker, st.integers(1, 4), st.permutations(list(Priority))),
    st.tuples(st.just("strays"), worker, st.integers(1, 4)),
    st.tuples(st.just("reserve"), worker, st.lists(pick, max_size=3), st.sampled_from((None, "mm-1", "mm-2"))),
    st.tuples(st.just("refuse"), worker, pick, st.sampled_from(("refused", "failed", "buried"))),
    st.tuples(st.just("reclaim"), worker, st.integers(1, 4)),
    st.tuples(st.just("begin"), worker, pick),
    st.tuples(st.just("renew"), worker, st.lists(pick, max_size=3)),
    st.tuples(st.just("note"), worker, pick),
    st.tuples(st.just("next_generation"), worker, pick),
    st.tuples(st.just("good_end"), worker, pick, st.integers(0, 2)),
    st.tuples(st.just("bad_end"), worker, pick, st.integers(0, 2)),
    st.tuples(st.just("hand_back"), worker, pick, st.booleans()),
    st.tuples(st.just("claim_condemned"), worker),
    st.tuples(st.just("recheck"), worker, st.integers(0, 2), st.sampled_from((None, 0))),
    st.tuples(st.just("flush")),
)
STEPS = st.lists(STEP, min_size=40, max_size=80)
LOOK_EVERY = 5
"""After so many steps all that can be seen is compared as well."""


class Side:
    """One house with two workers, and what they were given so far."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.brokers: list[Broker] = [house.broker("w-0"), house.broker("w-1")]
        self.entries: list[Entry] = []
        self.holds: list[Hold] = []

    async def do(self, step: str, *args: Any) -> Any:
        act: Callable[..., Awaitable[Any]] = getattr(self, f"_{step}")
        return await act(*args)

    async def _take(self, worker: int, count: int, order: list[Priority]) -> Any:
        taken = await self.brokers[worker].take(count, order)
        self.entries += taken
        return taken

    async def _strays(self, worker: int, count: int) -> Any:
        return await self.brokers[worker].strays(count, 0)

    async def _reserve(self, worker: int, picks: list[int], reply_to: str | None) -> Any:
        chosen = [_late(self.entries, each) for each in picks if self.entries]
        asks = [self._ask(entry, reply_to) for entry in chosen]
        replies = await self.brokers[worker].reserve(asks)
        self.holds += [reply for reply in replies if isinstance(reply, Hold)]
        return [_timeless(reply) for reply in replies]

    def _ask(self, entry: Entry, reply_to: str | None) -> Any:
        request_id, _, digest = (entry.raw or b"").decode().partition(" ")
        return self.house.ask(entry, request_id, digest=digest, reply_to=reply_to)

    async def _refuse(self, worker: int, chosen: int, kind: str) -> None:
        if self.entries:
            entry = _late(self.entries, chosen)
            request_id = (entry.raw or b"").decode().partition(" ")[0]
            make = {
                "refused": lambda: self.house.refusal(entry, request_id, reply_to="mm-1"),
                "failed": lambda: self.house.failing(entry, request_id),
                "buried": lambda: self.house.refusal(entry, None, bury=True),
            }
            await self.brokers[worker].refuse(make[kind]())

    async def _reclaim(self, worker: int, count: int) -> Any:
        holds = await self.brokers[worker].reclaim(count)
        self.holds += holds
        return holds

    async def _begin(self, worker: int, chosen: int) -> Any:
        return await self._with(chosen, self.brokers[worker].begin)

    async def _renew(self, worker: int, picks: list[int]) -> Any:
        return await self.brokers[worker].renew([_late(self.holds, each) for each in picks if self.holds])

    async def _note(self, worker: int, chosen: int) -> Any:
        return await self._with(chosen, lambda hold: self.brokers[worker].note(hold, (), Code.UNAVAILABLE, "later"))

    async def _next_generation(self, worker: int, chosen: int) -> Any:
        async def ask(hold: Hold) -> int | None:
            late = Condemned("gameye", f"late-{hold.request_id}-{hold.generation}", "late")
            generation = await self.brokers[worker].next_generation(hold, [late])
            if generation is not None:
                self.holds[self.holds.index(hold)] = hold.of_generation(generation)
            return generation

        return await self._with(chosen, ask)

    async def _good_end(self, worker: int, chosen: int, session: int) -> Any:
        return await self._with(
            chosen, lambda hold: self.brokers[worker].commit(self.house.good_end(hold, session=f"s-{session}"))
        )

    async def _bad_end(self, worker: int, chosen: int, session: int) -> Any:
        condemned = Condemned("gameye", f"s-{session}", "ended")
        return await self._with(chosen, lambda hold: self.brokers[worker].commit(self.house.bad_end(hold, condemned)))

    async def _hand_back(self, worker: int, chosen: int, clean: bool) -> Any:  # noqa: FBT001 - a step's own argument
        return await self._with(chosen, lambda hold: self.brokers[worker].hand_back([(hold, clean)]))

    async def _claim_condemned(self, worker: int) -> Any:
        """Those of a next generation are due a second later, which depends on how fast the test runs."""
        claimed = await self.brokers[worker].claim_condemned(100, 0)
        return sorted((each.session_id, each.reason) for each in claimed if each.reason != "late")

    async def _recheck(self, worker: int, session: int, after_ms: int | None) -> None:
        await self.brokers[worker].recheck(Condemned("gameye", f"s-{session}", "ended"), after_ms)

    async def _flush(self) -> None:
        await self.house.flush()
        await self.brokers[0].prepare()

    async def _with(self, chosen: int, step: Callable[[Hold], Awaitable[Any]]) -> Any:
        return await step(_late(self.holds, chosen)) if self.holds else None

    async def seen(self) -> dict[str, Any]:
        """All that can be seen from outside."""
        survey = await self.brokers[0].survey()
        return {
            "allocations": [_timeless(await self.house.allocation(each)) for each in IDS],
            "condemned": await self.house.condemned(),
            "left": await self.house.left(),
            "counts": (
                survey.held,
                survey.condemned,
                *((each.untaken, each.pending) for each in survey.depths.values()),
            ),
        }

    async def said(self) -> list[list[Any]]:
        house = self.house
        replies = [await house.replies(name) for name in ("mm-1", "mm-2")]
        return [await house.results(), *replies, await house.dead_letters()]


def _late(given: list[T], back: int) -> T:
    """One of the latest, so that most steps meet what is under way."""
    return given[-min(back, len(given))]


def _timeless(value: Any) -> Any:
    match value:
        case dict():
            return {name: each for name, each in value.items() if name != "updated_at"}
        case Ended(fields=fields):
            return replace(value, fields=_timeless(fields))
    return value


async def run_both(twin_house: TwinHouse, streams_house: StreamsHouse, steps: list[tuple[Any, ...]]) -> None:
    twin, real = Side(twin_house), Side(streams_house)
    await twin.brokers[0].prepare()
    await real.brokers[0].prepare()
    said_before = [0] * 4
    """The twin's ledger outlives a flush."""
    for number, step in enumerate(steps, 1):
        if step[0] == "add":
            await add(twin_house, streams_house, *step[1:])
        elif step[0] == "arrive":
            _, worker, request_id, digest, reply_to = step
            await add(twin_house, streams_house, Priority.NORMAL, request_id, digest)
            assert await real.do("take", worker, 9, list(Priority)) == await twin.do("take", worker, 9, list(Priority))
            picks = [1, 2]
            assert await real.do("reserve", worker, picks, reply_to) == await twin.do(
                "reserve", worker, picks, reply_to
            )
        else:
            assert await real.do(*step) == await twin.do(*step), step
        if step[0] == "flush":
            said_before = [len(each) for each in await twin.said()]
        if number % LOOK_EVERY == 0 or number == len(steps):
            assert await real.seen() == await twin.seen(), step
            since = [said[start:] for said, start in zip(await twin.said(), said_before, strict=True)]
            assert await real.said() == since, step


async def add(twin: TwinHouse, real: StreamsHouse, priority: Priority, request_id: str, digest: str) -> None:
    raw = f"{request_id} {digest}".encode()
    await real.add(raw, priority, entry_id=await twin.add(raw, priority))


@given(steps=STEPS)
@settings(DRAWN, max_examples=40)
def test_the_twin_and_the_server_never_answer_differently(
    redis_server: TestServer,
    twin_class: type[TwinHouse],
    streams_class: type[StreamsHouse],
    steps: list[tuple[Any, ...]],
) -> None:
    on_both(partial(run_both, steps=steps), redis_server, twin_class, streams_class)
