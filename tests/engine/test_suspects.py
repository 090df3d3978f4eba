"""The line of suspects: one after the other, each counted as its turn comes, and nobody holds it up for long."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, cast

import pytest

from allocator.broker.broker import Broker, Hold
from allocator.contract.request import Priority
from allocator.engine.insist import Insistence
from allocator.engine.suspects import ALONE_SECONDS, LAST_ALONE_SECONDS, POISON_TAKES_MAX, Suspects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.conftest import RunVirtually

DEADLINE_SECONDS = 60.0
QUICK, HANGS = 0.1, 8.0


class Line:
    """Suspects that each need some seconds, in front of a broker whose clock is the loop's."""

    def __init__(self) -> None:
        broker: Any = self
        self._suspects = Suspects(cast(Broker, broker), Insistence(lambda _event: None, random.Random(1)))
        self.counted: list[str] = []
        self.stale: set[str] = set()
        self.began: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self.refused: list[str] = []

    def now_ms(self) -> int:
        return int(asyncio.get_running_loop().time() * 1000)

    async def begin(self, hold: Hold) -> bool:
        self.counted.append(hold.request_id)
        return hold.request_id not in self.stale

    async def passes(self, needs: Sequence[float], *, takes: Sequence[int] = ()) -> None:
        """Let so many go through it, who need so long and were taken so often, in this order."""
        await asyncio.gather(
            *(self._one(f"m-{n}", each, (*takes, *[3] * len(needs))[n]) for n, each in enumerate(needs))
        )

    async def _one(self, name: str, seconds: float, takes: int) -> None:
        hold = Hold(name, "f", "1-0", Priority.NORMAL, round(DEADLINE_SECONDS * 1000), b"{}", takes=takes)
        async with self._suspects.turn(hold) as ours:
            if not ours:
                self.refused.append(name)
                return
            self.began[name] = asyncio.get_running_loop().time()
            await asyncio.sleep(seconds)
            self.ended[name] = asyncio.get_running_loop().time()


def test_one_goes_after_the_other_and_is_counted_as_its_turn_comes(run_virtually: RunVirtually) -> None:
    line = Line()

    async def story() -> None:
        passing = asyncio.ensure_future(line.passes([QUICK, QUICK, QUICK]))
        await asyncio.sleep(1.5 * QUICK)
        assert line.counted == ["m-0", "m-1"]
        await passing
        assert line.began == pytest.approx({"m-0": 0.0, "m-1": QUICK, "m-2": 2 * QUICK})

    run_virtually(story)


def test_who_waits_for_a_provider_holds_the_line_up_for_a_moment_only(run_virtually: RunVirtually) -> None:
    line = Line()

    async def story() -> None:
        await line.passes([HANGS] * 20)
        assert sorted(line.began.values()) == pytest.approx([ALONE_SECONDS * n for n in range(20)])

    run_virtually(story)


def test_who_would_be_buried_for_the_next_death_is_alone(run_virtually: RunVirtually) -> None:
    line = Line()

    async def story() -> None:
        await line.passes([HANGS, HANGS, QUICK], takes=[3, POISON_TAKES_MAX])
        assert line.began["m-1"] == pytest.approx(line.ended["m-0"])
        assert line.began["m-2"] == pytest.approx(line.ended["m-1"])

    run_virtually(story)


def test_not_even_the_last_chance_holds_the_line_up_for_ever(run_virtually: RunVirtually) -> None:
    line = Line()

    async def story() -> None:
        await line.passes([2 * DEADLINE_SECONDS, QUICK, QUICK], takes=[POISON_TAKES_MAX, POISON_TAKES_MAX])
        assert line.began["m-1"] == pytest.approx(LAST_ALONE_SECONDS)
        assert line.began["m-2"] == pytest.approx(LAST_ALONE_SECONDS + QUICK)

    run_virtually(story)


def test_whose_deadline_comes_in_line_goes_on_uncounted(run_virtually: RunVirtually) -> None:
    line = Line()

    async def story() -> None:
        needs = [2 * DEADLINE_SECONDS] * 7
        await line.passes([*needs, QUICK], takes=[POISON_TAKES_MAX] * len(needs))
        assert line.began["m-7"] == pytest.approx(DEADLINE_SECONDS)
        assert line.counted == [f"m-{n}" for n in range(6)]

    run_virtually(story)


def test_who_is_someone_elses_by_its_turn_is_let_go_and_the_next_goes_on(run_virtually: RunVirtually) -> None:
    line = Line()
    line.stale.add("m-0")

    async def story() -> None:
        await line.passes([HANGS, QUICK])
        assert line.refused == ["m-0"]
        assert line.began["m-1"] == pytest.approx(0.0)

    run_virtually(story)
