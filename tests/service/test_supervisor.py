"""Several worker processes as one: real ones, and stand-ins of a few lines where the supervisor alone is meant."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from allocator.contract.destination import Destination
from allocator.contract.request import Priority
from allocator.engine.observer import Leg, Received
from allocator.redis_io.embedded import EmbeddedServer
from allocator.service import supervisor
from allocator.service.admin import AdminServer
from allocator.service.supervisor import PAUSE_SECONDS_MAX, Patience, Supervisor
from allocator.service.supervisor_report import Told, read_report, write_report
from allocator.service.supervisor_sums import Sums
from allocator.telemetry.exposition import OPENMETRICS, PLAIN, slices
from allocator.telemetry.metrics import Metrics
from tests.conftest import WaitUntil
from tests.crash.fleet import Fleet, Process, Simulator, start

LONG = pytest.mark.skipif(not os.environ.get("LONG_TESTS"), reason="real processes, for seconds: LONG_TESTS=1")
END_SECONDS = 40.0
MATCHES = 120
FINISHED = 'allocator_requests_finished_total{state="allocated",code=""}'
SIMULATOR: dict[str, Any] = {"regions": {"europe": {"latency_ms": "20-60"}, "us-east": {}}, "faults": []}


class Supervised(Fleet):
    """A fleet whose worker is two processes."""

    async def start(self, *settings: str) -> Process:
        config = self._directory / f"{self.name}.toml"
        config.write_text("[regions.europe]\nrate = 500\n[regions.us-east]\nrate = 500\n")
        options = [word for setting in (*self._options, *settings) for word in ("--set", setting)]
        words = ["allocator", "worker", "--processes", "2", "--print-address", "--config", str(config), *options]
        process = await start(f"{self.name}-supervisor", self._directory, *words)
        self.workers.append(process)
        return process

    async def both_ready(self, wait_until: WaitUntil) -> tuple[Process, str]:
        """Start it and wait until both processes serve; the supervisor and its address."""
        process = await self.start()
        url = await process.first_line()
        await wait_until(lambda: process.log.read_text().count("worker started") == 2, timeout_seconds=END_SECONDS)
        await wait_until(lambda: is_ready(url), timeout_seconds=END_SECONDS)
        return process, url


@pytest.fixture
async def simulator(tmp_path: Path) -> AsyncIterator[Simulator]:
    async with Simulator.running(tmp_path, SIMULATOR) as simulator:
        yield simulator


@pytest.fixture
async def fleet(simulator: Simulator, namespace: str, tmp_path: Path) -> AsyncIterator[Supervised]:
    """On the embedded server alone: a supervisor never asks Redis anything."""
    server = await EmbeddedServer.acquire(tmp_path / "redis")
    async with Supervised(namespace, tmp_path, server.url, simulator.url) as fleet:
        yield fleet
    await server.release()


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.get(url) as reply:
        return reply.status, await reply.text()


async def is_ready(url: str) -> bool:
    return (await get(f"{url}/readyz"))[0] == 200


async def metrics(url: str) -> dict[str, float]:
    """Every sample by its name and labels."""
    status, text = await get(f"{url}/metrics")
    assert status == 200
    assert list(text_string_to_metric_families(text))
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {head: float(number) for head, _, number in lines}


def children(process_id: int) -> set[int]:
    """The processes that this one started and that still run."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], check=True, capture_output=True, text=True)
    rows = (line.split() for line in listed.stdout.splitlines())
    return {int(pid) for pid, parent, stat in rows if int(parent) == process_id and not stat.startswith("Z")}


def is_gone(process_id: int) -> bool:
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(process_id)], check=False, capture_output=True, text=True)
    return listed.stdout.strip()[:1] in {"", "Z"}


async def played(fleet: Supervised, url: str, wait_until: WaitUntil) -> None:
    """Let some matches come to their end, and the supervisor hear of all of them."""
    await fleet.submit(MATCHES)
    await fleet.finished(END_SECONDS)

    async def counted() -> bool:
        return (await metrics(url))[FINISHED] >= MATCHES

    await wait_until(counted, timeout_seconds=END_SECONDS)


async def test_the_sums_are_of_both_processes_sighup_reaches_both_and_sigterm_ends_all(
    fleet: Supervised, wait_until: WaitUntil
) -> None:
    process, url = await fleet.both_ready(wait_until)
    await played(fleet, url, wait_until)
    now = await metrics(url)
    assert now[FINISHED] == MATCHES
    assert now['allocator_request_duration_seconds_bucket{state="allocated",le="+Inf"}'] == MATCHES
    assert now['allocator_gate_rate{provider="gameye",location="europe"}'] == 500
    assert len([head for head in now if head.startswith("allocator_build_info")]) == 1
    assert await get(f"{url}/livez") == (200, "alive\n")

    process.signal(signal.SIGHUP)
    await wait_until(lambda: process.log.read_text().count("settings read again") == 2, timeout_seconds=END_SECONDS)
    log = process.log.read_text()
    assert '"process": 1' in log
    assert '"process": 2' in log

    both = children(process.id)
    assert len(both) == 2
    process.signal(signal.SIGTERM)
    assert await process.ended() == 0
    assert all(is_gone(each) for each in both)


async def test_a_killed_process_is_replaced_no_match_is_lost_and_no_counter_falls(
    fleet: Supervised, simulator: Simulator, wait_until: WaitUntil
) -> None:
    process, url = await fleet.both_ready(wait_until)
    await played(fleet, url, wait_until)
    before, both = await metrics(url), children(process.id)
    await fleet.submit(MATCHES)
    for killed in both:
        os.kill(killed, signal.SIGKILL)
    await wait_until(lambda: process.log.read_text().count("process ended") == 2, timeout_seconds=END_SECONDS)
    after = await metrics(url)
    falls = {
        head: (number, after.get(head))
        for head, number in before.items()
        if head.partition("{")[0].endswith(("_total", "_bucket", "_count", "_sum")) and after.get(head, 0) < number
    }
    assert not falls
    await fleet.finished(END_SECONDS)
    assert not (await fleet.calm(simulator, END_SECONDS)).faults()
    await wait_until(lambda: len(children(process.id)) == 2, timeout_seconds=END_SECONDS)
    assert not children(process.id) & both
    await wait_until(lambda: is_ready(url), timeout_seconds=END_SECONDS)


async def test_processes_whose_supervisor_was_killed_leave_by_themselves(
    fleet: Supervised, wait_until: WaitUntil
) -> None:
    process, _ = await fleet.both_ready(wait_until)
    both = children(process.id)
    await process.kill()
    await wait_until(lambda: all(is_gone(each) for each in both), timeout_seconds=END_SECONDS)
    log = process.log.read_text()
    assert log.count("the supervisor is gone") == log.count("worker ended") == 2
    assert "Traceback" not in log


@LONG
async def test_a_second_sigterm_ends_all_at_once(
    fleet: Supervised, simulator: Simulator, wait_until: WaitUntil
) -> None:
    await simulator.become({"regions": {"europe": {"latency_ms": "7000"}}, "faults": []})
    process, url = await fleet.both_ready(wait_until)
    await fleet.submit(10, regions=["europe"])

    async def posted() -> bool:
        return bool((await metrics(url))['allocator_requests_in_progress{state="allocating"}'])

    await wait_until(posted, timeout_seconds=END_SECONDS)
    both = children(process.id)
    process.signal(signal.SIGTERM)

    async def draining() -> bool:
        return (await get(f"{url}/readyz")) == (503, "draining\n")

    await wait_until(draining, timeout_seconds=END_SECONDS)
    process.signal(signal.SIGTERM)
    assert await process.ended(3.0) == 143
    await wait_until(lambda: all(is_gone(each) for each in both))


@pytest.mark.parametrize("setting", ["worker.lease_seconds=-1", "placement.policy=no.such:policy"])
async def test_settings_that_cannot_be_are_said_once_and_exit_2(setting: str, tmp_path: Path) -> None:
    needed = ("deployment=d", "redis.url=redis://127.0.0.1:1", "gameye.base_url=http://127.0.0.1:1", "gameye.token=t")
    options = [word for each in (*needed, "admin.port=0", setting) for word in ("--set", each)]
    process = await start("supervisor", tmp_path, "allocator", "worker", "--processes", "2", *options)
    assert await process.ended() == 2
    said = setting.partition("=")[0]
    assert len([line for line in process.tail().splitlines() if said in line]) == 1, process.tail()


READY = (
    "import os, signal, sys, time\n"
    "number, fd = map(int, sys.argv[-1].split(':'))\n"
    """os.write(fd, b'{"unready": null, "unwell": null, "hooks": []}\\n# EOF\\n')\n"""
)
HELD = f"{READY}signal.pause()\n"


def stand_in(script: str, processes: int = 2) -> Supervisor:
    return Supervisor((sys.executable, "-c", script), processes, drain_seconds=1)


@pytest.mark.parametrize("code", [2, 3])
async def test_a_code_that_another_start_would_not_mend_ends_the_whole(code: int) -> None:
    assert await stand_in(f"import sys; sys.exit({code})").run() == code


@LONG
async def test_a_start_that_fails_leaves_those_alone_that_serve(tmp_path: Path, wait_until: WaitUntil) -> None:
    starts = tmp_path / "starts"
    script = (
        f"{READY.splitlines()[0]}\nif sys.argv[-1].startswith('2:'):\n"
        f"    open({str(starts)!r}, 'a').write('x'); sys.exit(3)\n{HELD}"
    )
    both = stand_in(script)
    running = asyncio.create_task(both.run())
    await wait_until(lambda: starts.exists() and len(starts.read_text()) >= 3, timeout_seconds=END_SECONDS)
    assert both.unready() is None
    both.drain()
    assert await running == 0


async def test_what_is_posted_to_the_hook_of_a_process_reaches_that_one_alone(
    tmp_path: Path, wait_until: WaitUntil
) -> None:
    heard = tmp_path / "heard"
    script = f"""
import asyncio, pathlib, sys
from prometheus_client import CollectorRegistry
from allocator.service.supervisor_telling import Seat, Telling

async def main():
    seat, gone = Seat.read(sys.argv[-1]), asyncio.Event()
    def hears(told):
        with pathlib.Path({str(heard)!r}).open("ab") as file:
            file.write(b"%d hears %d bytes of %c. " % (seat.number, len(told), told[0]))
    def well():
        return None
    hooks = {{f"/hooks/of-{{seat.number}}": hears}}
    async with Telling(seat, registry=CollectorRegistry(), ready=well, alive=well, abandoned=gone.set, hooks=hooks):
        await gone.wait()

asyncio.run(main())
"""
    both = stand_in(script)
    running = asyncio.create_task(both.run())
    await wait_until(lambda: len(both.hooks) == 2, timeout_seconds=END_SECONDS)
    admin = AdminServer("127.0.0.1", 0, registry=both.registry, ready=both.unready, alive=both.unwell, hooks=both.hooks)
    async with admin, aiohttp.ClientSession() as http:
        for path, body, status in [("of-2", b"a" * 60_000, 200), ("of-3", b"b", 404), ("of-1", b"c", 200)]:
            async with http.post(f"{admin.url}/hooks/{path}", data=body) as reply:
                assert reply.status == status
    expected = {"2 hears 60000 bytes of a", "1 hears 1 bytes of c"}
    await wait_until(lambda: heard.exists() and set(heard.read_text().split(". ")) == {*expected, ""})
    both.drain()
    await running
    assert not both.hooks


@LONG
async def test_a_process_that_stands_still_is_told_of_then_killed_and_replaced(
    monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    monkeypatch.setattr(supervisor, "LATE_SECONDS", 1.0)
    monkeypatch.setattr(supervisor, "LOST_SECONDS", 2.0)
    one = stand_in(HELD, 1)
    running = asyncio.create_task(one.run())
    await wait_until(lambda: one.unready() is None, timeout_seconds=END_SECONDS)
    first = one._children[1].id
    await wait_until(lambda: one.unwell() is not None, timeout_seconds=END_SECONDS)
    await wait_until(lambda: is_gone(first), timeout_seconds=END_SECONDS)
    await wait_until(lambda: one.unwell() is None and one.unready() is None, timeout_seconds=END_SECONDS)
    one.drain()
    await running


@LONG
async def test_who_does_not_end_within_the_grace_is_killed_and_the_code_says_so(
    monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    monkeypatch.setattr(supervisor, "GRACE_MARGIN_SECONDS", 0.0)
    deaf = stand_in(HELD.replace("os.write", "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nos.write"))
    running = asyncio.create_task(deaf.run())
    await wait_until(lambda: deaf.unready() is None, timeout_seconds=END_SECONDS)
    deaf.drain()
    assert await asyncio.wait_for(running, END_SECONDS) == 143


def test_a_replacement_comes_at_once_three_times_then_ever_later_until_one_lives_long() -> None:
    patience = Patience()
    pauses = [patience.after(0.1) for _ in range(11)]
    assert pauses == [0, 0, 0, 1, 2, 4, 8, 16, PAUSE_SECONDS_MAX, PAUSE_SECONDS_MAX, PAUSE_SECONDS_MAX]
    assert [patience.after(61), patience.after(0.1), patience.after(0.1), patience.after(0.1)] == [0, 0, 0, 1]


def of_one(kind: str, values: Mapping[str, float], name: str = "allocator_x") -> dict[str, Told]:
    return {name: Told(name, kind, "x", values)}


def told(sums: Sums) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(sums)
    lines = (line.rpartition(" ") for line in "".join(slices(registry, PLAIN)).splitlines() if line[:1] != "#")
    return {head: float(number) for head, _, number in lines}


@pytest.mark.parametrize(
    ("name", "kind", "of_both"),
    [
        ("allocator_x", "counter", 7),
        ("allocator_x", "histogram", 7),
        ("allocator_requests_in_progress", "gauge", 7),
        ("process_resident_memory_bytes", "gauge", 7),
        ("allocator_queue_depth", "gauge", 4),
        ("allocator_gate_rate", "gauge", 4),
        ("allocator_gate_closed", "gauge", 4),
    ],
)
def test_what_each_has_is_summed_and_what_all_see_is_told_once(name: str, kind: str, of_both: float) -> None:
    sums = Sums()
    sums.hear(1, of_one(kind, {"x": 4.0}, name))
    sums.hear(2, of_one(kind, {"x": 3.0}, name))
    assert told(sums)["x"] == of_both


def test_what_a_dead_process_had_counted_stays_and_what_it_had_goes() -> None:
    sums = Sums()
    for number in (1, 2):
        sums.hear(number, of_one("counter", {"a": 5.0}) | of_one("gauge", {"g": 1.0}, "allocator_g"))
    sums.lose(1)
    sums.lose(2)
    assert told(sums)["a"] == 10
    assert "g" not in told(sums)
    sums.hear(1, of_one("counter", {"a": 1.0}))
    assert told(sums)["a"] == 11


def test_a_sum_of_fractions_never_falls_by_a_hair_when_a_process_ends() -> None:
    sums, tenths = Sums(), [0.1 * each for each in range(1, 40)]
    for number, seconds in enumerate(tenths):
        sums.hear(number, of_one("histogram", {"a_sum": seconds + 1e16 * (number % 2)}))
    last = told(sums)["a_sum"]
    for number in reversed(range(len(tenths))):
        sums.lose(number)
        assert told(sums)["a_sum"] >= last
        last = told(sums)["a_sum"]


@pytest.mark.parametrize("content", [PLAIN, OPENMETRICS])
async def test_the_sum_of_one_process_reads_as_that_process_tells_it(content: str) -> None:
    registry, summed, sums = CollectorRegistry(), CollectorRegistry(), Sums()
    metrics = Metrics(registry, "1.2.3")
    metrics.expect([Destination("gameye", 'eu "west"\u2028\\ # EOF')], ["eu \n1"])
    metrics.observe(Received(Leg("m-1", "1-0", Priority.LOW), 0.3))
    report = read_report(await write_report("starting", None, registry))
    assert (report.unready, report.unwell) == ("starting", None)
    sums.hear(1, report.families)
    summed.register(sums)

    def lines(of: CollectorRegistry) -> set[str]:
        text = "".join(slices(of, content)).split("\n")
        comments = {line for line in text if line.startswith("#")}
        values = {
            f"{line.rpartition(' ')[0]} {float(line.rpartition(' ')[2])}" for line in text if line[:9] == "allocator"
        }
        return comments | values

    assert lines(registry) == lines(summed)
