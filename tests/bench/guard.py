"""Fails when an allocation costs more beside the bare loop than is committed here: `python tests/bench/guard.py`.

What is compared is the CPU of the worker, in turn with the bare loop in the same run: of all figures of a busy machine
the steadiest. Who makes the worker quicker commits the new ratio.
"""

from __future__ import annotations

import json
import subprocess
import sys

COMMITTED_RATIO = 1.25
"""CPU of an allocation over that of a bare loop of aiohttp and redis-py; the median of five pairs."""
ALLOWED_SHARE = 1.25
"""A quarter more is a change of the code and not of the machine."""
TRIES = 3
"""A neighbour on the machine slows one side of a pair and not the other; what has become dearer is so each time."""


def measured() -> float | None:
    """The ratio of one run; None where the CPU of processes cannot be read. Raises CalledProcessError."""
    words = ("bench", "--compare", "--backlog", "3000", "--rounds", "5", "--json")
    command = [sys.executable, "-m", "allocator", *words]
    bench = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=300)
    ratio: float | None = json.loads(bench.stdout)["ratios"]["worker_cpu_ms"]["median"]
    return ratio


def main() -> int:
    limit = COMMITTED_RATIO * ALLOWED_SHARE
    for _ in range(TRIES):
        ratio = measured()
        if ratio is None:
            sys.stdout.write("the CPU of processes cannot be read on this system: nothing is guarded\n")
            return 0
        said = f"an allocation costs {ratio:.2f} bare ones; committed {COMMITTED_RATIO}, at most {limit:.2f}\n"
        sys.stdout.write(said)
        sys.stdout.flush()
        if ratio <= limit:
            return 0
    sys.stdout.write("it has become dearer: profile it, or commit the new ratio here with the reason\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
