"""`allocator bench` on tiny loads: the shape of what it reports and what it leaves behind, never how fast it was."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, cast

import pytest
from typer.testing import CliRunner

from allocator.cli.bench.matchmaker import Matchmaker
from allocator.cli.bench.pace import Pace
from allocator.cli.bench.plan import Arrivals, Backlog, Cores, OpenLoop, Setup, Side, Waiting, share_out
from allocator.cli.bench.report import Report
from allocator.cli.bench.rig import Rig
from allocator.cli.bench.rounds import Percentiles, Round, percentiles
from allocator.cli.bench.stub import reply
from allocator.cli.main import app
from allocator.contract.keys import Keys
from allocator.providers.gameye.wire import read_started
from allocator.providers.provider import Session, StartSpec
from allocator.redis_io.connect import RedisConnection
from allocator.redis_io.errors import CommandFault
from tests.conftest import RunVirtually, TestServer, WaitUntil

PATIENCE_SECONDS = 90.0


async def run_bench(directory: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, report, stderr; the bench keeps its files in this directory."""
    process = await start_bench(directory, "--json", *options)
    async with asyncio.timeout(PATIENCE_SECONDS):
        out, err = await process.communicate()
    return process.returncode or 0, json.loads(out) if out else {}, err.decode()


async def start_bench(directory: Path, *options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "allocator", "bench", "--no-pin", *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(directory)},
    )


def left_in(directory: Path) -> list[Path]:
    return list(directory.iterdir())


def processes_naming(text: str) -> list[str]:
    """The command lines of what runs and names this."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            lines.append(line)
    return lines


@pytest.mark.parametrize(
    ("options", "other"),
    [(("--compare",), "bare"), (("--compare", "--simulator"), "bare"), (("--traces",), "traced")],
)
async def test_a_backlog_is_served_by_both_sides_and_every_cost_is_told(
    tmp_path: Path, options: tuple[str, ...], other: str
) -> None:
    code, report, err = await run_bench(tmp_path, "--backlog", "200", *options, "--rounds", "1")

    assert code == 0, err
    assert report["complete"]
    assert report["load"] == {"kind": "backlog", "matches": 200}
    for side in ("allocator", other):
        (only,) = report["sides"][side]["rounds"]
        assert (only["allocated"], only["ended_otherwise"], only["unanswered"]) == (200, 0, 0)
        assert only["added_ms"] is None
        for cost in ("allocations_per_second", "redis_commands", "redis_cpu_ms", "bench_cpu_ms"):
            assert only[cost] > 0, cost
        assert report["sides"][side]["median"]["allocations_per_second"] == only["allocations_per_second"]
    assert report["ratios"]["allocations_per_second"]["median"] > 0
    assert left_in(tmp_path) == []


async def test_an_open_loop_tells_the_added_latency_and_leaves_a_borrowed_server_as_it_was(
    redis_server: TestServer, redis_url: str, tmp_path: Path
) -> None:
    options = ("--rate", "200", "--seconds", "1", "--provider-latency-ms", "5", "--redis", redis_url)

    code, report, err = await run_bench(tmp_path, *options, "--simulator")

    assert code == 0, err
    (only,) = report["sides"]["allocator"]["rounds"]
    assert only["allocated"] == 200
    assert 0 <= only["falls_behind"] < 1
    for latency in ("added_ms", "less_calls_ms", "sent_late_ms"):
        found = only[latency]
        assert found["p50"] <= found["p99"] <= found["p999"] <= found["longest"], latency
    assert only["redis_scripts"] > 0
    assert redis_url not in json.dumps(report)
    assert redis_server.command("DBSIZE") == 0


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc: run it on Linux")
async def test_ctrl_c_ends_all_that_was_started(tmp_path: Path, wait_until: WaitUntil) -> None:
    latency = "7.0625"  # nobody else's
    process = await start_bench(tmp_path, "--rate", "20", "--seconds", "600", "--provider-latency-ms", latency)
    try:
        await wait_until(lambda: processes_naming(f"worker --config {tmp_path}"), timeout_seconds=PATIENCE_SECONDS)
    finally:
        process.send_signal(signal.SIGINT)
    async with asyncio.timeout(PATIENCE_SECONDS):
        _, err = await process.communicate()

    assert process.returncode == 1
    assert b"stopped" in err
    assert processes_naming(str(tmp_path)) == processes_naming(latency) == []
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    "options",
    [
        ("--rate", "5", "--backlog", "50"),
        ("--growth", "--compare"),
        ("--capacity", "--growth"),
        ("--capacity", "--rate", "5"),
        ("--capacity", "--seconds", "61"),
        ("--rate", "90000", "--seconds", "900"),
        ("--traces", "--compare"),
        ("--traces", "--simulator"),
        ("--redis", "redis+cluster://127.0.0.1:1"),
    ],
)
def test_options_that_do_not_go_together_are_refused_by_name(options: tuple[str, ...]) -> None:
    refused = CliRunner().invoke(app, ["bench", *options])
    assert refused.exit_code == 2
    assert options[0] in refused.stderr


class LoopPace(Pace):
    """By the loop's own clock, which may be a virtual one."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def until(self, moment: float) -> None:
        await asyncio.sleep(max(0.0, moment - self.now()))


class StalledWire:
    """A connection whose first write takes so long; every match is answered once its write is done."""

    def __init__(self, stall_seconds: float) -> None:
        self._stall_seconds = stall_seconds
        self._answers: asyncio.Queue[list[str]] = asyncio.Queue()
        self._entries = 0

    async def execute_many(self, commands: Sequence[Sequence[Any]]) -> list[bytes]:
        await asyncio.sleep(self._stall_seconds)
        self._stall_seconds = 0.0
        self._answers.put_nowait([json.loads(command[-1])["id"] for command in commands])
        return [b"1-1"] * len(commands)

    async def execute_blocking(self, *_: Any) -> list[Any]:
        names = " ".join(await self._answers.get())
        self._entries += 1
        return [[b"results", [[f"{self._entries}-0".encode(), [b"ids", names.encode()]]]]]


def test_what_a_stall_holds_up_counts_from_its_intended_moment(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        load = OpenLoop(rate=10, seconds=2, arrivals=Arrivals.EVEN)
        wire = cast("RedisConnection", StalledWire(stall_seconds=1.0))
        matchmaker = Matchmaker(wire, Keys("stall"), ["region-0"], load, pace=LoopPace())
        reading = asyncio.get_running_loop().create_task(matchmaker.read())
        await matchmaker.send()
        await matchmaker.until_answered(20)
        reading.cancel()
        pairs = zip(matchmaker.due_at, matchmaker.answered_at, strict=True)
        waits = [read - due for due, read in pairs]
        # The first was sent at once and stalled for a second; those behind it waited from their own moments.
        assert waits[:11] == pytest.approx([1 - number / 10 for number in range(11)], abs=1e-6)
        assert max(waits[11:]) == pytest.approx(0, abs=1e-6)

    run_virtually(story)


class RewritingWire:
    """A server that is writing its file anew already, for so many looks, and refuses to begin again meanwhile."""

    def __init__(self, looks: int) -> None:
        self._looks = looks
        self.begun = 0

    async def execute(self, *command: Any) -> Any:
        match command[0]:
            case "SCAN":
                return [b"0", []]
            case "INFO":
                self._looks -= 1
                return f"aof_rewrite_in_progress:{int(self._looks >= 0)}\r\naof_rewrite_scheduled:0\r\n".encode()
            case _:
                if self._looks > 0:
                    raise CommandFault("ERR Background append only file rewriting already in progress")
                self.begun += 1
                return b"started"


async def test_a_file_that_is_being_written_anew_already_does_not_end_the_bench() -> None:
    wire, rig = RewritingWire(looks=3), Rig(Setup())
    rig._connection = cast("RedisConnection", wire)
    await rig.forget(Keys("bench-x"))
    assert wire.begun == 1


@pytest.mark.parametrize("seconds", [-1.0, 1e-9, 0.0003, 0.01])
async def test_a_pace_never_comes_before_its_moment(seconds: float) -> None:
    with Pace() as pace:
        moment = pace.now() + seconds
        await pace.until(moment)
        assert moment <= pace.now() < moment + 1 + max(0.0, -seconds)


async def test_an_alarm_for_who_waits_no_more_harms_nobody() -> None:
    with Pace() as pace:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await pace.until(pace.now() + 0.02)
        await asyncio.sleep(0.03)  # it rings meanwhile
        moment = pace.now() + 0.01
        await pace.until(moment)
        assert pace.now() >= moment
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await pace.until(pace.now() + 0.05)
    await asyncio.sleep(0.08)  # the alarm's own way is to end the process
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_each_answer_lets_one_more_match_in(run_virtually: RunVirtually) -> None:
    async def story() -> None:
        stalled = StalledWire(stall_seconds=0.0)
        stalled._answers.put_nowait(["of-a-round-before-0", "of-a-round-before-9999"])
        wire = cast("RedisConnection", stalled)
        matchmaker = Matchmaker(wire, Keys("waiting"), ["region-0"], Waiting(waiting=7, matches=30), pace=LoopPace())
        await matchmaker.fill()
        assert len(matchmaker.due_at) == 7
        reading = asyncio.get_running_loop().create_task(matchmaker.read())
        await matchmaker.send()
        reading.cancel()
        assert matchmaker.answered >= 30
        assert 0 <= len(matchmaker.due_at) - matchmaker.answered <= 7

    run_virtually(story)


def test_poisson_arrivals_keep_the_rate_and_repeat_for_the_same_seed() -> None:
    load = OpenLoop(rate=100, seconds=50, seed=3)
    moments = load.moments()
    assert moments == load.moments() == sorted(moments)
    assert moments != replace(load, seed=4).moments()
    assert moments[-1] == pytest.approx(50, rel=0.1)
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert statistics.stdev(gaps) == pytest.approx(statistics.mean(gaps), rel=0.15)


def test_workers_get_cores_of_their_own_only_where_some_are_left() -> None:
    assert share_out(frozenset({0, 1}), 1) == Cores(frozenset({1}), frozenset({0}))
    assert share_out(frozenset({0, 1}), 2) is None
    assert share_out(frozenset(), 1) is None


def test_the_stub_answers_as_gameye_does_with_the_id_that_was_sent() -> None:
    body = b'{"labels":{},"id":"0b2b6e0c-d07e","location":"europe"}'
    head, _, answer = reply(b"POST /session HTTP/1.1\r\nContent-Length: 54\r\n\r\n" + body).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 201 ")
    assert f"Content-Length: {len(answer)}".encode() in head
    started = read_started(answer, "0b2b6e0c-d07e", "europe", StartSpec(image="bench"))
    assert isinstance(started, Session)
    assert json.loads(answer)["id"] == "0b2b6e0c-d07e"
    assert reply(b"POST /v1/traces HTTP/1.1\r\nContent-Length: 1\r\n\r\nx").startswith(b"HTTP/1.1 200 ")


def a_round(side: Side, rate: float) -> Round:
    nothing = Percentiles(0, 0, 0, 0)
    return Round(
        side=side,
        allocated=10,
        ended_otherwise=0,
        unanswered=0,
        counted=9,
        seconds=1.0,
        allocations_per_second=rate,
        added_ms=None,
        less_calls_ms=None,
        sent_late_ms=nothing,
        falls_behind=0.0,
        worker_cpu_ms=1000 / rate,
        provider_cpu_ms=None,
        bench_cpu_ms=0.1,
        redis_cpu_ms=0.1,
        others_cores=None,
        redis_commands=1.0,
        redis_scripts=0.0,
        worker_peak_mb=None,
        added_all_ms=(),
        answered_in_slices=(10,),
    )


def test_a_ratio_is_the_median_of_pairs_that_ran_one_after_the_other() -> None:
    rates = [(100, 200), (10, 10), (300, 400)]  # the machine was slow at the second pair
    rounds = [
        a_round(side, rate) for pair in rates for side, rate in zip((Side.ALLOCATOR, Side.BARE), pair, strict=True)
    ]
    report = Report(Backlog(10), Setup(), {"pinned": True}, tuple(rounds))
    assert report.ratios()["allocations_per_second"] == {"median": 0.75, "pairs": [0.5, 1.0, 0.75]}
    assert report.ratios()["worker_cpu_ms"]["median"] == pytest.approx(4 / 3)
    assert report.ratios()["provider_cpu_ms"]["median"] is None
    assert report.medians(Side.ALLOCATOR)["allocations_per_second"] == 100
    traced = Report(Backlog(10), Setup(), {}, (a_round(Side.ALLOCATOR, 100), a_round(Side.TRACED, 90)))
    assert traced.ratios()["allocations_per_second"]["median"] == pytest.approx(0.9)


def test_a_match_without_a_server_makes_the_report_incomplete() -> None:
    good, bad = a_round(Side.ALLOCATOR, 10), replace(a_round(Side.ALLOCATOR, 10), unanswered=1)
    assert Report(Backlog(10), Setup(), {}, (good,)).complete
    assert not Report(Backlog(10), Setup(), {}, (good, bad)).complete
    assert not Report(Backlog(10), Setup(), {}, ()).complete


def test_a_percentile_is_the_time_that_its_share_stayed_under() -> None:
    assert percentiles([float(number) for number in range(1000)]) == Percentiles(500, 990, 999, 999)
    assert percentiles([3.0]) == Percentiles(3, 3, 3, 3)
