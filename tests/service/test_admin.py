"""The admin address: its four paths, what it answers while things go wrong, and that nothing of a request is on it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain
from prometheus_client.registry import Collector

from allocator.contract.destination import Destination
from allocator.service.admin import CONNECTIONS_MAX, AdminServer
from allocator.service.door import AddressError
from allocator.telemetry.metrics import Metrics

parse_openmetrics: Callable[[str], Iterable[Metric]] = openmetrics.text_string_to_metric_families


@dataclass
class Answers:
    """What the worker would say."""

    ready: str | None = None
    alive: str | None = None


@dataclass
class Reply:
    status: int
    content: str
    text: str
    allow: str | None


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
async def server(registry: CollectorRegistry, answers: Answers) -> AsyncIterator[AdminServer]:
    async with AdminServer(
        "127.0.0.1", 0, registry=registry, ready=lambda: answers.ready, alive=lambda: answers.alive
    ) as server:
        yield server


async def ask(server: AdminServer, path: str, method: str = "GET", accept: str = "*/*") -> Reply:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://127.0.0.1:{server.port}{path}", headers={"Accept": accept}) as reply,
    ):
        headers = reply.headers
        return Reply(reply.status, headers["Content-Type"], await reply.text(), headers.get("Allow"))


async def test_metrics_are_prometheus_text_unless_openmetrics_is_asked_for(
    server: AdminServer, registry: CollectorRegistry
) -> None:
    Metrics(registry, "1.2.3").expect([Destination("gameye", "europe")], ["europe"])
    plain = await ask(server, "/metrics")
    assert (plain.status, plain.content) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert "allocator_build_info" in {family.name for family in parse_plain(plain.text)}
    asked = await ask(server, "/metrics", accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.3")
    assert (asked.status, asked.content) == (200, "application/openmetrics-text; version=1.0.0; charset=utf-8")
    assert "allocator_requests_received" in {family.name for family in parse_openmetrics(asked.text)}


async def test_a_large_scrape_gives_the_loop_its_turns(server: AdminServer, registry: CollectorRegistry) -> None:
    turns = 0
    passed_at: list[int] = []

    class Mark(Collector):
        """Notes at which turn of the loop the scrape comes by."""

        def collect(self) -> Iterable[Metric]:
            passed_at.append(turns)
            return ()

    registry.register(Mark())
    Metrics(registry, "1").expect([Destination("gameye", f"r-{number}") for number in range(2000)], [])
    registry.register(Mark())
    scrape = asyncio.get_running_loop().create_task(ask(server, "/metrics"))
    while not scrape.done():
        turns += 1
        await asyncio.sleep(0)  # a turn of the loop, to be counted
    assert (await scrape).status == 200
    before, after = passed_at
    assert after - before >= 3


async def test_a_reader_that_goes_away_or_wants_no_body_leaves_the_address_as_it_was(
    server: AdminServer, registry: CollectorRegistry
) -> None:
    Metrics(registry, "1").expect([Destination("gameye", f"r-{number}") for number in range(2000)], [])
    for _ in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"200 OK" in await reader.readline()
        writer.transport.abort()
    head = await ask(server, "/metrics", "HEAD")
    assert (head.status, head.text) == (200, "")
    whole = await ask(server, "/metrics", accept="application/openmetrics-text")
    assert whole.text.endswith("# EOF\n")


async def test_however_many_connections_say_nothing_few_are_kept_and_a_probe_is_answered(server: AdminServer) -> None:
    idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3 * CONNECTIONS_MAX)]
    for _, writer in idle:
        writer.write(b"POST /hooks/x HTTP/1.1\r\nHost: a\r\nContent-Le")
    assert (await ask(server, "/livez")).status == 200
    async with asyncio.timeout(5):
        # The oldest were closed for those who came later.
        for reader, _ in idle[:CONNECTIONS_MAX]:
            assert await reader.read() == b""
    for _, writer in idle:
        writer.transport.abort()


async def test_a_body_that_breaks_off_is_not_heard_and_no_error_of_ours(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[bytes] = []
    hooks = {"/hooks/secret": heard.append}
    async with AdminServer(
        "127.0.0.1", 0, registry=registry, ready=lambda: None, alive=lambda: None, hooks=hooks
    ) as door:
        for _ in range(3):
            _, writer = await asyncio.open_connection("127.0.0.1", door.port)
            writer.write(b"POST /hooks/secret HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
            await writer.drain()
            writer.transport.abort()
        url = f"http://127.0.0.1:{door.port}/hooks/secret"
        async with aiohttp.ClientSession() as session, session.post(url, data=b"whole") as reply:
            assert reply.status == 200
        async with aiohttp.ClientSession() as session, session.post(url, data=b"x" * 100_000) as reply:
            assert reply.status == 413
    assert heard == [b"whole"]
    assert not caplog.records


@pytest.mark.parametrize(("path", "well"), [("/livez", "alive\n"), ("/readyz", "ready\n")])
async def test_a_probe_answers_200_or_503_with_one_line_why(
    server: AdminServer, answers: Answers, path: str, well: str
) -> None:
    reply = await ask(server, path)
    assert (reply.status, reply.text) == (200, well)
    answers.ready = answers.alive = "draining:\nends soon"
    reply = await ask(server, path)
    assert (reply.status, reply.text) == (503, "draining: ends soon\n")
    answers.ready = answers.alive = None
    assert (await ask(server, path)).status == 200


async def test_a_worker_that_is_not_ready_is_still_alive(server: AdminServer, answers: Answers) -> None:
    answers.ready = "draining"
    assert (await ask(server, "/readyz")).status == 503
    assert (await ask(server, "/livez")).status == 200


async def test_the_first_page_names_the_paths(server: AdminServer) -> None:
    reply = await ask(server, "/")
    assert (reply.status, reply.content) == (200, "text/plain; charset=utf-8")
    assert all(path in reply.text for path in ("/metrics", "/livez", "/readyz"))


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nothing", 404), ("POST", "/metrics", 405), ("DELETE", "/livez", 405)]
)
async def test_other_paths_and_methods_are_refused(server: AdminServer, method: str, path: str, status: int) -> None:
    reply = await ask(server, path, method)
    assert reply.status == status
    assert reply.allow == (None if status == 404 else "GET,HEAD")


async def test_a_busy_port_is_one_sentence_that_names_the_setting(registry: CollectorRegistry) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AddressError, match=rf"^admin\.port {port} is in use on 127\.0\.0\.1; ") as caught:
            async with AdminServer("127.0.0.1", port, registry=registry, ready=lambda: None, alive=lambda: None):
                pytest.fail("a busy port was served")
    assert "\n" not in str(caught.value)


async def test_an_address_that_is_not_this_machines_names_the_setting(registry: CollectorRegistry) -> None:
    with pytest.raises(AddressError, match=r"^admin\.host '192\.0\.2\.1' is no address of this machine"):
        async with AdminServer("192.0.2.1", 0, registry=registry, ready=lambda: None, alive=lambda: None):
            pytest.fail("a foreign address was served")


async def test_the_port_is_free_again_afterwards(registry: CollectorRegistry) -> None:
    async with AdminServer("127.0.0.1", 0, registry=registry, ready=lambda: None, alive=lambda: None) as first:
        port = first.port
        assert (await ask(first, "/")).status == 200
    async with AdminServer("127.0.0.1", port, registry=registry, ready=lambda: None, alive=lambda: None) as second:
        assert second.port == port


def test_the_port_of_a_server_that_does_not_serve_is_a_fault_that_says_so(registry: CollectorRegistry) -> None:
    server = AdminServer("127.0.0.1", 0, registry=registry, ready=lambda: None, alive=lambda: None)
    with pytest.raises(RuntimeError, match="async with"):
        _ = server.port
