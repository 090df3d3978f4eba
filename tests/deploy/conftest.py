"""A Prometheus that has scraped a real worker while matches ended well and badly; started once for all tests."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from allocator.contract.keys import Keys
from allocator.contract.request import Priority
from tests.conftest import _free_port, _made
from tests.crash.fleet import Simulator, start
from tests.deploy.observed import EXAMPLE, PACKAGE, PROMETHEUS, RULES, Prometheus
from tests.deploy.tools import program
from tests.polling import until

KEYS = Keys("scraped")
READY_SECONDS = 30.0
POLL_SECONDS = 0.1
SIMULATOR: dict[str, Any] = {
    "regions": {"europe": {"capacity": 3}, "us-east": {"latency_ms": [5, 20]}, "asia": {"closed": 500}},
    "faults": [],
}
SETTINGS = """
deployment = "scraped"
namespace = "scraped"
redis.url = "{redis}"
gameye = {{ base_url = "{gameye}", account = "scraped", token = "t" }}
admin.port = {port}
regions.europe.rate = 200
regions.us-east.rate = 200
regions.asia.rate = 200
"""


@pytest.fixture(scope="session")
def prometheus(server_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Every end has come to some match, with a scrape before and after it."""
    binary, directory = program("prometheus", PACKAGE), tmp_path_factory.mktemp("prometheus")
    port, stack = _free_port(), AsyncExitStack()
    # A server of its own: the worker lives on while other tests empty the shared one.
    server = _made(server_kind, tmp_path_factory)
    server.start()
    stack.callback(server.kill)
    # Prometheus first: it takes five seconds before it looks for its targets.
    with asyncio.Runner() as runner, _scraping(binary, directory, port) as scraping:
        try:
            runner.run(_worker(stack, directory, server.url, port))
            with server.plain() as redis:
                _play(scraping, redis)
            yield scraping
        finally:
            runner.run(stack.aclose())


async def _worker(stack: AsyncExitStack, directory: Path, redis_url: str, port: int) -> None:
    """Start the provider, and a worker that lists its sessions every second."""
    simulator = await stack.enter_async_context(Simulator.running(directory, SIMULATOR))
    config = directory / "allocator.toml"
    config.write_text(SETTINGS.format(redis=redis_url, gameye=simulator.url, port=port), encoding="utf-8")
    words = ("worker", "--config", str(config), "--print-address")
    worker = await start("worker", directory, "tests.crash.hasty_worker", *words)
    stack.push_async_callback(worker.kill)
    await worker.first_line()


@contextmanager
def _scraping(binary: str, directory: Path, target: int) -> Iterator[Prometheus]:
    """Run Prometheus on the example's configuration, quicker and from the worker on this port."""
    text = EXAMPLE.read_text(encoding="utf-8").replace("127.0.0.1:9464", f"127.0.0.1:{target}")
    text = re.sub(r"(scrape|evaluation)_interval: 15s", r"\1_interval: 500ms", text)
    for path in RULES:
        text = text.replace(path.name, str(PROMETHEUS / path.name))
    config, port = directory / "prometheus.yml", _free_port()
    config.write_text(text, encoding="utf-8")
    command = [
        binary,
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory)
    try:
        yield Prometheus(f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


def _play(prometheus: Prometheus, redis: Redis) -> None:
    """Let matches come to every end, twice, so that each count has risen before the eyes of Prometheus."""
    _until(prometheus, "allocator_workers_ready", 1)
    for wave in range(2):
        before = sum(prometheus.values("sum(allocator_requests_finished_total)"))
        matches = _matches(wave)
        for match in matches:
            redis.xadd(KEYS.requests(Priority.NORMAL), {"request": json.dumps(match)})
        redis.xadd(KEYS.requests(Priority.HIGH), {"request": "{"})
        _until(prometheus, "sum(allocator_requests_finished_total)", before + len(matches))
        redis.xadd(f"{KEYS.prefix}:cancellations", {"id": matches[0]["id"]})
        _until(prometheus, 'allocator_sessions_stopped_total{reason="release"}', wave + 1)
        _until(prometheus, "sum(allocator_requests_refused_total)", wave + 1)


def _matches(wave: int) -> list[dict[str, Any]]:
    plain = [["us-east"]] * 6
    turned_away = [["europe", "us-east"]] * 6
    lost = [["asia", "us-east"]] * 2
    nowhere = [["atlantis"]]
    every: list[dict[str, Any]] = [{"regions": each} for each in (*plain, *turned_away, *lost, *nowhere)]
    every.append({"regions": ["europe"], "timeout_seconds": 0.5})
    return [{"id": f"m-{wave}-{number}", "image": "arena", **asked} for number, asked in enumerate(every)]


def _until(prometheus: Prometheus, expr: str, least: float) -> None:
    """Wait until Prometheus has seen so much."""
    seen: list[float] = []

    def is_seen() -> bool:
        seen.clear()
        with suppress(OSError):  # it is starting
            seen.extend(prometheus.values(expr))
        return max(seen, default=-1.0) >= least

    until(is_seen, READY_SECONDS, every_seconds=POLL_SECONDS, told=lambda: f"{expr} is {seen}, not {least:g}")
