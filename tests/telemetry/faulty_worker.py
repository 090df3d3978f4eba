"""A worker whose client of Gameye raises at every ninth start: `python -m tests.telemetry.faulty_worker worker ...`.

In: the words of `allocator`. Out: a worker whose log has tracebacks, from frames that hold a request's whole body.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from allocator.cli.main import run
from allocator.providers.gameye.client import GameyeProvider

EVERY = 9
_turns = count(1)
_start = GameyeProvider.start


async def start(provider: GameyeProvider, session_id: str, location: str, spec: Any, **options: Any) -> Any:
    """Start a session, or raise with everything at hand that must not be told."""
    environment, arguments = dict(spec.env), list(spec.args)
    if next(_turns) % EVERY == 0:
        raise RuntimeError(f"broken on purpose, with {len(environment)} and {len(arguments)} at hand")
    return await _start(provider, session_id, location, spec, **options)


if __name__ == "__main__":
    setattr(GameyeProvider, "start", start)  # noqa: B010 - mypy lets no method be assigned to
    run()
