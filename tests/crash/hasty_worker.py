"""A worker that makes in seconds the passes of an hour: `python -m tests.crash.hasty_worker worker ...`.

In: the words of `allocator`. Out: a worker that holds the provider's list against the records every second, takes a
session for old after three, and tells its log of each pass. The production code has no hooks: constants are replaced
before it runs.
"""

from __future__ import annotations

import sys
from typing import Any

from allocator.engine import reconciler, stopper, worker

PASS_SECONDS = 1.0
TURN_MS = 600
HORIZON_MS = 3_000
PASSED = "a pass of the reconciler has ended"


def hurry() -> None:
    """Let an hour of passes take seconds."""
    for module, name, value in (
        (worker, "RECONCILE_SECONDS", PASS_SECONDS),
        (reconciler, "TURN_MS", TURN_MS),
        (reconciler, "LANDING_HORIZON_MS", HORIZON_MS),
        (stopper, "LANDING_HORIZON_MS", HORIZON_MS),
    ):
        if not hasattr(module, name):
            raise AttributeError(f"{module.__name__} has no {name} any more: name here what paces it now")
        setattr(module, name, value)
    original = reconciler.Reconciler._pass

    async def told(self: reconciler.Reconciler, provider: str) -> Any:
        why = await original(self, provider)
        if why is None:
            sys.stderr.write(f"{PASSED}\n")
        return why

    reconciler.Reconciler._pass = told  # type: ignore[method-assign]  # as a test's spy


if __name__ == "__main__":
    hurry()
    from allocator.cli.main import run

    run()
