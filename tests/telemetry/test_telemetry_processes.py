"""What becomes of metrics behind a supervisor: exemplars come through, and each replaced process is counted."""

import asyncio
import sys
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from allocator.contract.allocation import State
from allocator.contract.destination import Destination
from allocator.contract.request import Priority
from allocator.engine.observer import Finished, Leg
from allocator.service.supervisor import Supervisor
from allocator.service.supervisor_report import read_report, write_report
from allocator.service.supervisor_sums import Sums
from allocator.telemetry.exposition import OPENMETRICS, PLAIN, slices
from allocator.telemetry.metrics import Metrics

IDS = [f"{number:032x}" for number in range(1, 3)]
NASTY = ' # {trace_id="00000000000000000000000000000009"} 1 2'


def text(registry: CollectorRegistry, content: str = OPENMETRICS) -> str:
    return "".join(slices(registry, content))


async def test_exemplars_of_all_processes_are_told_and_no_label_is_taken_for_one() -> None:
    sums, summed = Sums(), CollectorRegistry()
    summed.register(sums)
    for number, trace_id in enumerate(IDS):
        registry = CollectorRegistry()
        metrics = Metrics(registry, "1.2.3")
        metrics.expect([Destination("gameye", NASTY)], [NASTY])
        leg = Leg("m-1", "1-0", Priority.LOW, f"00-{trace_id}-{'1' * 16}-01")
        seconds = 0.6 + number
        metrics.observe(Finished(leg, State.ALLOCATED, None, seconds, 0.1, 0.0, 0.0, None, seconds))
        sums.hear(number, read_report(await write_report(None, None, registry)).families)
    told = [line for line in text(summed).splitlines() if line.startswith("allocator_request_duration_seconds_bucket")]
    of_ids = [line for line in told if "trace_id" in line]
    assert [line.partition("}")[0].rpartition("le=")[2] for line in of_ids] == ['"0.75"', '"2.0"']
    assert [each in line for each, line in zip(IDS, of_ids, strict=True)] == [True, True]
    assert [line.partition(" # ")[0].rpartition(" ")[2] for line in of_ids] == ["1.0", "2.0"]
    assert not [line for line in text(summed, PLAIN).splitlines() if any(each in line for each in IDS)]
    nasty = [line for line in text(summed).splitlines() if "0009" in line]
    assert nasty
    assert all(line.rpartition(" ")[2] in {"0.0", "0"} for line in nasty)


async def test_each_replaced_process_is_counted_from_nought_on(tmp_path: Path, wait_until: Any) -> None:
    gate = tmp_path / "gate"
    program = f"import pathlib, time\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)"
    supervisor = Supervisor([sys.executable, "-c", program], 1, drain_seconds=1.0)

    def replaced() -> float | None:
        return supervisor.registry.get_sample_value("allocator_processes_replaced_total")

    assert replaced() == 0
    running = asyncio.get_running_loop().create_task(supervisor.run())
    gate.touch()
    await wait_until(lambda: (replaced() or 0) >= 2, timeout_seconds=20.0)
    supervisor.drain()
    await running
