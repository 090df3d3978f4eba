"""A collector for OpenTelemetry's spans, on loopback: keeps what it is sent, or hangs, as a test likes."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """Where it listens, and what came in."""

    def __init__(self) -> None:
        self.url = ""
        self.bodies: list[bytes] = []
        self.answers = asyncio.Event()
        """Cleared, it takes what it is sent and says nothing."""
        self.answers.set()

    def spans(self) -> list[Span]:
        """Every span so far, in the order of arrival."""
        found: list[Span] = []
        for body in self.bodies:
            request = ExportTraceServiceRequest.FromString(body)
            found += [span for each in request.resource_spans for scope in each.scope_spans for span in scope.spans]
        return found

    def resources(self) -> list[dict[str, str]]:
        """What each process said of itself, once for each batch."""
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        return [
            {pair.key: pair.value.string_value for pair in each.resource.attributes}
            for request in requests
            for each in request.resource_spans
        ]

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        await self.answers.wait()
        self.bodies.append(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
        return web.Response(content_type="application/x-protobuf")


@contextlib.asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """Serve one on a free port."""
    collector, app = Collector(), web.Application(client_max_size=2**26)
    app.router.add_post("/v1/traces", collector._take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield collector
    finally:
        collector.answers.set()
        await runner.cleanup()
