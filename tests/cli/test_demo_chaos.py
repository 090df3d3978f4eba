"""`allocator demo --chaos` that is stopped: it ends all that it started, and says nothing of what it broke off."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from allocator.cli.chaos import WORKERS
from tests.cli.test_bench import processes_naming

if TYPE_CHECKING:
    from tests.conftest import WaitUntil

PATIENCE_SECONDS = 60.0


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc: run it on Linux")
async def test_ctrl_c_ends_it_without_a_traceback(tmp_path: Path, wait_until: WaitUntil) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "allocator", "demo", "--chaos"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        # one that was killed has been started anew: all is under way
        await wait_until(lambda: starts(tmp_path) > WORKERS, timeout_seconds=PATIENCE_SECONDS)
    finally:
        process.send_signal(signal.SIGINT)
    async with asyncio.timeout(PATIENCE_SECONDS):
        _, err = await process.communicate()
    assert process.returncode == 0
    assert b"Traceback" not in err, err.decode()
    assert processes_naming("allocator.cli.naive") == processes_naming(str(tmp_path)) == []


def starts(directory: Path) -> int:
    """How often a worker has started there."""
    return sum(log.read_text().count("worker started") for log in directory.rglob("worker-*.log"))
