"""Where spans go: out of the process in batches, by a thread of OpenTelemetry's, as the `OTEL_*` variables say.

In: what this process is called. Out: a `Tracing` whose spans are sent, and a way to send the last ones at the end.
Promises: no span holds up a match; while the collector is away, or slower than the spans come, they are dropped; the
end waits for the collector no longer than `LAST_SECONDS`. Needs the extra `otel`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Mapping

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from allocator import __version__
from allocator.contract.partitions import Partitions
from allocator.telemetry.tracing import Endpoint, Tracing

LAST_SECONDS = 3.0
SPANS_AT_ONCE, BATCH_VARIABLE = 128, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
"""They are packed in one go, which takes 5 ms of the time in which the loop would run."""
SWITCH_SECONDS = 0.0005
"""How long the sending thread may keep Python to itself while the loop waits for it; 5 ms unless told otherwise."""


class SpansOut:
    """The way out for one process's spans."""

    def __init__(
        self, *, deployment: str, partitions: Partitions, instance: str, endpoints: Mapping[str, Endpoint]
    ) -> None:
        """`instance` tells this process from the others. What the `OTEL_*` variables say of it comes first."""
        ours = {
            "service.name": "allocator",
            "service.version": __version__,
            "service.instance.id": instance,
            "allocator.deployment": deployment,
        }
        resource = Resource.create(ours).merge(OTELResourceDetector().detect())
        batch = None if BATCH_VARIABLE in os.environ else SPANS_AT_ONCE
        self._processor = BatchSpanProcessor(OTLPSpanExporter(), max_export_batch_size=batch)
        sys.setswitchinterval(SWITCH_SECONDS)
        self.tracing = Tracing(
            self._processor,
            sampler=TracerProvider(resource=resource, shutdown_on_exit=False).sampler,
            resource=resource,
            partitions=partitions,
            endpoints=endpoints,
        )

    async def close(self) -> None:
        """Send what is left, for a moment."""
        loop = asyncio.get_running_loop()
        sent: asyncio.Future[None] = loop.create_future()

        def send() -> None:
            self._processor.shutdown()  # type: ignore[no-untyped-call]  # a gap of theirs
            with contextlib.suppress(RuntimeError):  # the loop did not wait for it
                loop.call_soon_threadsafe(sent.set_result, None)

        # A thread that ends with the process: one of asyncio's own would hold the exit up for a collector that hangs.
        threading.Thread(target=send, name="last spans", daemon=True).start()
        await asyncio.wait([sent], timeout=LAST_SECONDS)
