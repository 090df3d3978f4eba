"""`allocator bench`: the options, and the way from them to an exit code.

Exit 0: every match of every round was given a server (with --capacity: at half of it). 1: one was not. 2: options that
do not go together. 3: a server or a process did not start, or no rate was kept up with.
"""

from __future__ import annotations

from typing import Annotated

import typer

from allocator.cli.bench.plan import Arrivals, Backlog, Load, OpenLoop, Setup, Side

EXIT_USAGE = 2
BACKLOG = 5000
SECONDS = 10.0
COMPARED_ROUNDS = 5
MATCHES_MAX = 1_000_000
LARGEST = 100_000
CAPACITY_SECONDS_MAX = 60.0
"""All matches of a rate are made before the first is sent, and nobody knows the rate beforehand."""


def bench(
    *,
    rate: Annotated[
        float | None,
        typer.Option(min=0.1, max=100_000, help="Open loop: matches a second, at moments set beforehand."),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, max=3600, help="How long they come, with --rate or --capacity.")
    ] = SECONDS,
    arrivals: Annotated[Arrivals, typer.Option(help="How they are spread, with those two.")] = Arrivals.POISSON,
    backlog: Annotated[
        int | None,
        typer.Option(min=10, max=MATCHES_MAX, help=f"All at once instead, to be drained. {BACKLOG} without --rate."),
    ] = None,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 1,
    in_flight: Annotated[int, typer.Option(min=1, max=10_000, help="Provider calls at once, in each process.")] = 256,
    provider_latency_ms: Annotated[float, typer.Option(min=0, max=60_000, help="What each provider call takes.")] = 0,
    redis: Annotated[
        str | None, typer.Option(metavar="URL", help="A server instead of an embedded one; it is left as it was.")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, max=100, help="Rounds; 1, or 5 in turn with another.", show_default=False)
    ] = None,
    patience_seconds: Annotated[
        float, typer.Option(min=1, max=3600, help="How long a round may go on after its last match was sent.")
    ] = 120,
    seed: Annotated[int, typer.Option(help="Of the arrivals.")] = 1,
    simulator: Annotated[bool, typer.Option("--simulator", help="The simulated Gameye instead of a stub.")] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="In turn with a bare loop: the same libraries, no guarantee.")
    ] = False,
    traces: Annotated[
        bool, typer.Option("--traces", help="In turn with the same workers that send traces; needs the extra otel.")
    ] = False,
    growth: Annotated[
        bool, typer.Option("--growth", help="The cost as backlog, regions, kept answers and processes grow, instead.")
    ] = False,
    capacity: Annotated[
        bool, typer.Option("--capacity", help="What rate is kept up with, and the latency at half of it, instead.")
    ] = False,
    largest: Annotated[
        int, typer.Option(min=1000, max=MATCHES_MAX, help="How many matches wait at most, with --growth.")
    ] = LARGEST,
    pin: Annotated[bool, typer.Option(help="Give each worker a core of its own, where there are enough.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Measure what an allocation costs and how long it takes on this machine, and leave nothing behind."""
    if rate is not None and backlog is not None:
        _refuse("--rate and --backlog are both given; keep one of the two")
    if compare and traces:
        _refuse("--compare and --traces are both given; keep one of the two")
    if growth and (rate is not None or backlog is not None or compare or traces):
        _refuse("--growth brings its own loads; leave out --rate, --backlog, --compare and --traces")
    if capacity and (rate is not None or compare or traces or growth):
        _refuse("--capacity finds its own rate; leave out --rate, --compare, --traces and --growth")
    if capacity and seconds > CAPACITY_SECONDS_MAX:
        _refuse(f"--capacity keeps each of its rates up for at most {CAPACITY_SECONDS_MAX:g} --seconds")
    if traces and simulator:
        _refuse("--traces are sent to the stub; leave out --simulator")
    setup = Setup(
        processes=processes,
        in_flight=in_flight,
        provider_latency_ms=provider_latency_ms,
        simulator=simulator,
        redis_url=redis,
        pin=pin,
        patience_seconds=patience_seconds,
    )
    load: Load = Backlog(backlog or BACKLOG) if rate is None else OpenLoop(rate, seconds, arrivals, seed)
    if load.matches > MATCHES_MAX:
        _refuse(f"--rate times --seconds is {load.matches:,} matches; at most {MATCHES_MAX:,}")
    others = (Side.BARE,) * compare + (Side.TRACED,) * traces
    from allocator.cli.bench.capacity import Capacity, show_capacity
    from allocator.cli.bench.growth import Growth, show_growth
    from allocator.cli.bench.run import alone, guarded, measure, say
    from allocator.service.process import run_loop

    counted = rounds or (COMPARED_ROUNDS if others else 1)
    sides = (Side.ALLOCATOR, *others)
    if growth:
        growing = Growth(setup, largest=largest, rounds=counted, say=say)
        raise typer.Exit(run_loop(guarded(alone(growing.measure(), show_growth, as_json=as_json))))
    if capacity:
        drained = backlog or BACKLOG
        sought = Capacity(
            setup, backlog=drained, seconds=seconds, arrivals=arrivals, seed=seed, rounds=counted, say=say
        )
        raise typer.Exit(run_loop(guarded(alone(sought.measure(), show_capacity, as_json=as_json))))
    raise typer.Exit(run_loop(guarded(measure(setup, load, sides, counted, as_json=as_json))))


def _refuse(message: str) -> None:
    typer.echo(message, err=True)
    raise typer.Exit(EXIT_USAGE)
