"""Replay seeds: `python -m tests.simulation --seed 123 -v`, or many: `--first 1 --seeds 10000`.

Prints each seed that breaks a promise, with the command that replays it; ends with 1 where there was one.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.scenario import Switches, scenario
from tests.simulation.world import play


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this one")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument("--lost-tail", action="store_true", help="with stores that are restored from a snapshot")
    parser.add_argument("--other-ids", action="store_true", help="with starts that are served under another id")
    parser.add_argument("-v", "--verbose", action="store_true", help="print the trace")
    parser.add_argument("--grep", default="", help="of the trace, only lines that hold this")
    options = parser.parse_args()
    seeds = [options.seed] if options.seed is not None else range(options.first, options.first + options.seeds)
    switches = Switches(other_ids=options.other_ids, lost_tail=options.lost_tail)
    since, failed = time.monotonic(), 0
    for seed in seeds:
        if options.verbose:
            sys.stdout.write(f"{scenario(seed, switches)}\n")
        trace = play(scenario(seed, switches))
        if options.verbose:
            sys.stdout.writelines(f"{line}\n" for line in trace.lines if options.grep in line)
        if trace.violations:
            failed += 1
            sys.stdout.write(f"{replay(seed, switches)}\n")
            sys.stdout.writelines(f"    {line}\n" for line in trace.violations[:5])
    sys.stdout.write(f"{len(seeds)} seeds, {failed} failed, {time.monotonic() - since:.1f} s\n")
    return 1 if failed else 0


def replay(seed: int, switches: Switches | None = None) -> str:
    """The command that shows what happened."""
    other_ids = " --other-ids" if switches is not None and switches.other_ids else ""
    lost_tail = " --lost-tail" if switches is not None and switches.lost_tail else ""
    return f"python -m tests.simulation --seed {seed}{other_ids}{lost_tail} -v"


if __name__ == "__main__":
    sys.exit(main())
