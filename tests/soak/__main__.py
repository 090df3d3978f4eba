"""Soak: `python -m tests.soak --minutes 20 [--rate 40]`: is anything lost, and does anything grow?

A line every ten seconds, then a table: the median of each measure over the first and the last third after the
warm-up, and `flat` or `grows` by a stated bound. Ends with 1 where anything grows, is lost, doubled or left over.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.conftest import KINDS, TestServer, _binary
from tests.soak.run import Outcome, Plan, soak
from tests.soak.samples import rows, table

WARM_UP_SECONDS = 120.0
"""Matches are played for 20 s and kept for 60 s more: before that everything grows, as it should."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--rate", type=float, default=40, help="matches a second")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--warm-up", type=float, default=WARM_UP_SECONDS, help="seconds that are not compared")
    parser.add_argument("--server", choices=KINDS, default=KINDS[0])
    options = parser.parse_args()
    binary = _binary(options.server)
    if binary is None:
        parser.error(f"there is no {options.server} here; choose another with --server")
    seconds = options.minutes * 60
    directory = Path(tempfile.mkdtemp(prefix="soak-"))
    server = TestServer(options.server, binary, directory)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started is ended then as well
    server.start()
    try:
        outcome = asyncio.run(soak(Plan(seconds, options.rate, seed=options.seed), directory, server, _say))
    finally:
        server.kill()
    if (code := _report(outcome, options.warm_up)) == 0:
        shutil.rmtree(directory)
    else:
        _say(f"the logs are in {directory}")
    return code


def _report(outcome: Outcome, warm_up_seconds: float) -> int:
    found = rows(outcome.samples, warm_up_seconds)
    _say(table(found) if found else "too few samples after the warm-up to compare")
    _say(f"ended: {outcome.states}; killed: {outcome.workers_killed} workers, Redis {outcome.redis_killed} times")
    for fault in outcome.faults:
        _say(f"BROKEN: {fault}")
    if not outcome.faults:
        _say("nothing lost, doubled, left over or stopped while in play")
    return 1 if outcome.faults or any(row.grows for row in found) else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
