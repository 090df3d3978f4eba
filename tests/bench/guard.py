"""Fails when an allocation costs more beside the bare loop than is committed here: `python tests/bench/guard.py`.

What is compared is the CPU of the worker, in turn with the bare loop in the same run: of all figures of a busy machine
the steadiest. Who makes the worker quicker commits the new ratio.
"""

from __future__ import annotations

import json
import subprocess
import sys

COMMITTED_RATIO = 2.45
"""CPU of an allocation over that of the bare loop, which has no guarantee; the median of five pairs."""
ALLOWED_SHARE = 1.25
"""A quarter more is a change of the code and not of the machine."""


def main() -> int:
    words = ("bench", "--compare", "--backlog", "3000", "--rounds", "5", "--json")
    command = [sys.executable, "-m", "allocator", *words]
    bench = subprocess.run(command, stdout=subprocess.PIPE, check=False, timeout=300)
    if bench.returncode:
        return bench.returncode
    report = json.loads(bench.stdout)
    ratio = report["ratios"]["worker_cpu_ms"]["median"]
    if ratio is None:
        sys.stdout.write("the CPU of processes cannot be read on this system: nothing is guarded\n")
        return 0
    limit = COMMITTED_RATIO * ALLOWED_SHARE
    sys.stdout.write(f"an allocation costs {ratio:.2f} bare ones; committed {COMMITTED_RATIO}, at most {limit:.2f}\n")
    if ratio > limit:
        sys.stdout.write("it has become dearer: profile it, or commit the new ratio here with the reason\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
