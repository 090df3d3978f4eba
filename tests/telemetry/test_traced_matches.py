"""Traces of real workers, as a collector gets them; what they cost when they are off, or when the collector hangs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from allocator import __version__
from allocator.contract.partitions import Partitions
from allocator.redis_io.embedded import EmbeddedServer
from allocator.telemetry.spans_out import BATCH_VARIABLE, LAST_SECONDS, SPANS_AT_ONCE, SWITCH_SECONDS, SpansOut
from tests.conftest import WaitUntil
from tests.crash.fleet import Fleet, Process, Simulator, start
from tests.telemetry.collector import Collector, collecting

END_SECONDS = 40.0
TRACE_ID, CALLER_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{CALLER_ID}-01"
SIMULATOR: dict[str, Any] = {"regions": {"europe": {"closed": 420}, "us-east": {"latency_ms": "20"}}, "faults": []}


class Traced(Fleet):
    """A fleet whose workers send their spans to a collector."""

    async def traced(self, collector: Collector) -> Process:
        options = [word for setting in (*self._options, "telemetry.traces=otlp") for word in ("--set", setting)]
        config = self._directory / f"{self.name}.toml"
        config.write_text("[regions.europe]\nrate = 500\n[regions.us-east]\nrate = 500\n")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
            patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
            patch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=tests")
            name = f"{self.name}-traced-{len(self.workers)}"
            words = ("allocator", "worker", "--config", str(config), *options, "--print-address")
            process = await start(name, self._directory, *words)
        self.workers.append(process)
        await process.first_line()
        return process


@pytest.fixture
async def simulator(tmp_path: Path) -> AsyncIterator[Simulator]:
    async with Simulator.running(tmp_path, SIMULATOR) as simulator:
        yield simulator


@pytest.fixture
async def fleet(simulator: Simulator, namespace: str, tmp_path: Path) -> AsyncIterator[Traced]:
    """On the embedded server alone: Redis has no part in this but to be there."""
    server = await EmbeddedServer.acquire(tmp_path / "redis")
    async with Traced(namespace, tmp_path, server.url, simulator.url) as fleet:
        yield fleet
    await server.release()


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with collecting() as collector:
        yield collector


def facts(span: Span) -> dict[str, str | int | float]:
    values = {pair.key: pair.value for pair in span.attributes}
    return {key: getattr(value, str(value.WhichOneof("value"))) for key, value in values.items()}


async def test_a_match_is_one_trace_across_the_death_of_its_worker(
    fleet: Traced, simulator: Simulator, collector: Collector, wait_until: WaitUntil
) -> None:
    await simulator.become({"regions": {"europe": {"closed": 420}, "us-east": {"latency_ms": "4000"}}, "faults": []})
    dying = await fleet.traced(collector)
    await fleet.submit(1, body={"traceparent": TRACEPARENT})
    await wait_until(
        lambda: any(span.name == "POST /session" for span in collector.spans()), timeout_seconds=END_SECONDS
    )
    await dying.kill()
    await simulator.become(SIMULATOR)
    await fleet.traced(collector)
    await fleet.finished(END_SECONDS)
    ends = f"allocate {fleet.keys.prefix}:requests"
    await wait_until(lambda: any(span.name == ends for span in collector.spans()), timeout_seconds=END_SECONDS)
    spans = collector.spans()
    assert {span.trace_id.hex() for span in spans} == {TRACE_ID}
    (last,) = [span for span in spans if span.name == ends]
    assert last.parent_span_id.hex() == CALLER_ID
    before = {span.parent_span_id for span in spans if span.name == "queue"}
    assert {link.span_id for link in last.links} == before
    assert facts(last)["allocator.state"] == "allocated"
    assert facts(last)["allocator.region"] == "us-east"
    of_the_dead = [span for span in spans if span.parent_span_id in before]
    of_the_last = [span for span in spans if span.parent_span_id == last.span_id]
    assert {"queue", "gate", "POST /session"} <= {span.name for span in of_the_dead}
    assert {"GET /session/{id}", "commit"} <= {span.name for span in of_the_last}
    assert len(of_the_dead) + len(of_the_last) + 1 == len(spans)
    refused = next(span for span in of_the_dead if span.name == "POST /session")
    assert (facts(refused)["http.response.status_code"], facts(refused)["url.full"]) == (
        420,
        f"{simulator.url}/session",
    )
    assert refused.start_time_unix_nano < refused.end_time_unix_nano <= last.end_time_unix_nano
    told = collector.resources()[0]
    assert (told["service.name"], told["service.version"]) == ("allocator", __version__)
    assert (told["allocator.deployment"], told["deployment.environment.name"]) == (fleet.name, "tests")


async def test_a_collector_that_hangs_holds_up_no_match_and_no_end(fleet: Traced, collector: Collector) -> None:
    collector.answers.clear()
    worker = await fleet.traced(collector)
    await fleet.submit(20, regions=["us-east"])
    await fleet.finished(END_SECONDS)
    worker.signal(signal.SIGTERM)
    assert await worker.ended(LAST_SECONDS + 5) == 0
    assert collector.bodies == []


def run(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A Python program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False, timeout=60
    )


def test_where_traces_are_off_nothing_of_them_is_imported() -> None:
    program = """
import json, sys
from allocator.service import process
from allocator.service.observers import build_observers
from allocator.service.settings import Settings
assert build_observers(Settings()).spans is None
unwanted = ("opentelemetry.sdk.trace", "opentelemetry.exporter")
print(json.dumps([each for each in sys.modules if each.startswith(unwanted)]))
"""
    done = run(program)
    assert json.loads(done.stdout) == [], done.stderr


def test_a_worker_does_not_load_what_only_draws_for_people() -> None:
    done = run("import sys\nimport allocator.cli.main, allocator.service.process\nprint('rich' in sys.modules)")
    assert done.stdout.strip() == "False", done.stderr
    done = run("import allocator.service.process, rich.table\nprint(rich.table.Table.__name__)")
    assert done.stdout.strip() == "Table", done.stderr


def test_a_worker_that_lacks_the_extra_says_what_to_install_and_exits_2() -> None:
    program = """
import sys
sys.modules["opentelemetry.exporter.otlp.proto.http.trace_exporter"] = None
from allocator.cli.main import run
run()
"""
    settings = (
        "deployment=d",
        "redis.url=redis://127.0.0.1:1",
        "gameye.token=t",
        "telemetry.traces=otlp",
        "admin.port=0",
    )
    done = run(program, "worker", *(word for each in settings for word in ("--set", each)))
    assert done.returncode == 2, done.stderr
    assert "pip install '.[otel]' where it was installed from" in done.stderr


@pytest.mark.parametrize(("asked_for", "batch"), [(None, SPANS_AT_ONCE), ("200", 200)])
async def test_sending_does_not_keep_the_loop_from_running_for_long(
    monkeypatch: pytest.MonkeyPatch, asked_for: str | None, batch: int
) -> None:
    monkeypatch.delenv(BATCH_VARIABLE, raising=False)
    if asked_for is not None:
        monkeypatch.setenv(BATCH_VARIABLE, asked_for)
    before = sys.getswitchinterval()
    try:
        spans = SpansOut(deployment="d", partitions=Partitions("allocator"), instance="i", endpoints={})
        assert sys.getswitchinterval() == pytest.approx(SWITCH_SECONDS)
        assert spans._processor._batch_processor._max_export_batch_size == batch
        await spans.close()
    finally:
        sys.setswitchinterval(before)
