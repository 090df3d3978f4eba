"""`allocator bench`: what an allocation costs and how long it takes, on this machine, beside a bare loop.

    command     the options, and the way from them to an exit code
    plan        what is asked for: how matches arrive, what they meet
    rig         the processes: a server, a provider, workers or bare loops, each on its cores
    stub        the provider that costs next to nothing
    bare        the loop that is compared with: the same libraries and no guarantee
    matchmaker  sends at the moments that were set beforehand, reads every answer
    meters      CPU, memory and commands, of each process and of Redis
    rounds      one round, and rounds in turn
    report      rounds in numbers: medians, ratios, JSON
    pace        time, and waits to some hundredths of a millisecond
    capacity    the rate that is kept up with, and the latency at half of it
    growth      the cost as backlog, regions and kept answers grow
    screen      the same for a person: tables and a plot

Speeds of one machine at one moment: read the ratios.
"""

from allocator.cli.bench.command import bench

__all__ = ["bench"]
