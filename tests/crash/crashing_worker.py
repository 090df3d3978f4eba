"""A worker that kills itself at one step: `python -m tests.crash.crashing_worker STEP:WHEN:N worker ...`.

In: the name of a step, when, and at which of its turns, or several of these, the first of which to come about ends it;
then the words of `allocator`. Out: a process that ends by SIGKILL there, as a power cut ends it. The production code
has no hooks: methods are wrapped before it runs.

    before   nothing of the step has left this process
    sent     the provider has the call, its answer has not come; a Redis step has no such moment of its own, since what
             it leaves behind is what `after` leaves behind
    after    the step is done, and nothing followed from it

Only turns that matter count: before and while sent those that concern something, after those that gave something.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from allocator.broker import streams
from allocator.engine import worker

SENT_SECONDS = 0.03
"""How long a call is out: much less than the provider of the matrix takes for an answer."""

_BROKER = "allocator.broker.streams:StreamsBroker"
_AFTERMATH = "allocator.broker.streams_aftermath:StreamsAftermath"
_PARKING = "allocator.broker.streams_parking:StreamsParking"
_CENSUS = "allocator.broker.streams_census:StreamsCensus"
_GATE = "allocator.gate.fleet:FleetGate"
_GAMEYE = "allocator.providers.gameye.client:GameyeProvider"

STEPS = {
    **dict.fromkeys(("take", "wait", "strays", "reserve", "reclaim", "renew", "note", "next_generation"), _BROKER),
    **dict.fromkeys(("begin", "commit", "refuse", "hand_back", "claim_condemned", "recheck", "close"), _BROKER),
    **dict.fromkeys(("park", "claim"), _PARKING),
    **dict.fromkeys(("turn", "lead", "snapshot", "standings", "keep", "hasten"), _CENSUS),
    **dict.fromkeys(("permits", "shut", "open", "doubt", "slow", "verdict", "judge", "may_repeat"), _GATE),
    **dict.fromkeys(("start", "find", "stop", "list", "offers"), _GAMEYE),
    **dict.fromkeys(("orders", "stray_orders", "seize", "forestall", "condemn", "release", "settle"), _AFTERMATH),
}
"""Where each step lives, by name, so that only the one that is asked for has to exist."""


SUSPECT_TAKES = {"begin": 1}
"""Where the step is about suspects one is a suspect sooner: else two workers would have to die before."""
RECONCILE_SECONDS = 1.0
"""A pass comes about while the scene is played."""


def die() -> None:
    """End this process at once, with nothing flushed and nobody told."""
    os.kill(os.getpid(), signal.SIGKILL)


def arm(step: str, when: str, turn: int) -> None:
    """Let this process die at the given turn of a step."""
    module, _, name = STEPS[step].partition(":")
    owner = getattr(importlib.import_module(module), name)
    setattr(owner, step, _wrapped(getattr(owner, step), when, turn))


def _wrapped(original: Callable[..., Any], when: str, turn: int) -> Callable[..., Any]:
    turns = 0

    async def counted(self: object, *args: Any, **options: Any) -> Any:
        nonlocal turns
        concerns = not args or not isinstance(args[0], Sequence) or len(args[0]) > 0
        if when != "after" and concerns:
            turns += 1
            if turns == turn and when == "before":
                die()
            if turns == turn:
                asyncio.get_running_loop().call_later(SENT_SECONDS, die)
        result = await original(self, *args, **options)
        gave = getattr(result, "holds", result)
        if when == "after" and (gave or not isinstance(gave, Sequence)):
            turns += 1
            if turns == turn:
                die()
        return result

    return counted


if __name__ == "__main__":
    specs = [spec.split(":") for spec in sys.argv.pop(1).split(",")]
    for spec in specs:
        arm(spec[0], spec[1], int(spec[2]))
    worker.__dict__["RECONCILE_SECONDS"] = RECONCILE_SECONDS
    for module in (worker, streams):
        module.__dict__["SUSPECT_TAKES"] = SUSPECT_TAKES.get(specs[0][0], module.__dict__["SUSPECT_TAKES"])
    from allocator.cli.main import run

    run()
