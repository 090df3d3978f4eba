"""Several worker processes as one: `allocator worker --processes N`.

In: the command of a worker, how many, settings of which the admin address and the grace count. Out: an exit code of
the contract's section 5. Promises: a process that ends is replaced, at once the first times, then ever later; one that
is silent for long is killed and replaced; SIGTERM, SIGINT and SIGHUP reach every process once; none outlives the
supervisor for longer than its drain. Requests it knows nothing of: what a dead process held, the others take over.

Process 1 goes ahead and the others follow once it is ready, so that faulty settings or an unfit server are said once.
Ready is who has one process that is ready: any one takes up what the fleet is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry

from allocator.providers.credential import CredentialError
from allocator.redis_io.errors import RedisFault, RedisUrlError
from allocator.service.admin import AdminServer
from allocator.service.api import open_api
from allocator.service.console.pages import admin_credential, build_console
from allocator.service.door import AddressError
from allocator.service.process import EXIT_AT_ONCE, EXIT_DONE, EXIT_SERVER, EXIT_SETTINGS, fail, on_signals
from allocator.service.settings import Settings
from allocator.service.supervisor_child import Child
from allocator.service.supervisor_report import Report
from allocator.service.supervisor_sums import Sums
from allocator.telemetry.cells import CounterFamily
from allocator.telemetry.families import SUPERVISOR
from allocator.telemetry.structured import structlog

AT_ONCE_MAX = 3
PAUSE_SECONDS_MAX = 30.0
LONG_LIFE_SECONDS = 60.0
"""Who lived that long did not end of how it started."""

LATE_SECONDS = 5.0
"""So many reports were missed; the liveness probe tells."""
LOST_SECONDS = 20.0
"""A process that has told nothing for so long is killed: under the 30 s in which Kubernetes would restart them all."""

WATCH_SECONDS = 0.5
GRACE_MARGIN_SECONDS = 6.0
"""A worker's drain ends this much after its `drain_seconds` at the latest: its last read, its last words, its exit."""

_IN_GOOD_ORDER = frozenset({EXIT_DONE, -15})
"""A process that was told to end before it could take a signal held nothing."""

_log = structlog.get_logger("allocator")


class Patience:
    """How long to wait before the next start, after each end."""

    def __init__(self) -> None:
        self._ends = 0

    def after(self, lived_seconds: float) -> float:
        """The pause after a process that lived so long."""
        self._ends = 1 if lived_seconds >= LONG_LIFE_SECONDS else self._ends + 1
        if self._ends <= AT_ONCE_MAX:
            return 0.0
        return min(PAUSE_SECONDS_MAX, 2.0 ** min(self._ends - AT_ONCE_MAX - 1, 10))


class Supervisor:
    """Keeps so many processes running, until it is told to drain."""

    def __init__(self, command: Sequence[str], processes: int, *, drain_seconds: float) -> None:
        self.registry = CollectorRegistry()
        self._command = command
        self._processes = processes
        self._grace_seconds = drain_seconds + GRACE_MARGIN_SECONDS
        self._sums = Sums()
        self.registry.register(self._sums)
        self._replaced = CounterFamily(*SUPERVISOR, registry=self.registry).at()
        self._children: dict[int, Child] = {}
        self.hooks: dict[str, Callable[[bytes], None]] = {}
        """Those of every process: they have one admin address."""
        self._pioneered = asyncio.Event()
        self._draining = asyncio.Event()
        self._drain_ends = float("inf")
        self._code = EXIT_DONE

    def unready(self) -> str | None:
        """Why no request can be taken up here, if so."""
        if self._draining.is_set():
            return "draining"
        now = asyncio.get_running_loop().time()
        if any(child.is_ready and child.silent_seconds(now) <= LATE_SECONDS for child in self._children.values()):
            return None
        return "no process is ready: starting, or without Redis"

    def unwell(self) -> str | None:
        """Which process is late, if any; one that is being replaced is not."""
        now = asyncio.get_running_loop().time()
        for number, child in self._children.items():
            if (seconds := child.silent_seconds(now)) > LATE_SECONDS:
                return f"process {number} has not been well for {seconds:.0f} s"
        return None

    async def run(self) -> int:
        """Keep every place filled until the drain has ended."""
        loop = asyncio.get_running_loop()
        watch = loop.create_task(self._watch())
        try:
            async with asyncio.TaskGroup() as places:
                for number in range(1, self._processes + 1):
                    places.create_task(self._keep(number))
        finally:
            watch.cancel()
        return self._code

    def drain(self) -> None:
        """Let every process end in good order; who has not ended within the grace is killed."""
        if self._draining.is_set():
            return
        self._draining.set()
        self._pioneered.set()
        self._drain_ends = asyncio.get_running_loop().time() + self._grace_seconds
        for child in self._children.values():
            child.drain()

    def reload(self) -> None:
        """Let every process read its settings again."""
        for child in self._children.values():
            child.reload()

    def kill(self) -> None:
        """End every process now."""
        for child in self._children.values():
            child.kill()

    async def _keep(self, number: int) -> None:
        """Keep one place filled."""
        loop, patience = asyncio.get_running_loop(), Patience()
        if number > 1:
            await self._pioneered.wait()
        while not self._draining.is_set():
            since = loop.time()
            child = await self._start(number)
            code = None if child is None else await self._one(child)
            if self._draining.is_set():
                if code is not None and code not in _IN_GOOD_ORDER and self._code == EXIT_DONE:
                    self._code = EXIT_AT_ONCE
                return
            if code in {EXIT_SETTINGS, EXIT_SERVER} and child is not None and self._is_hopeless(child):
                self._code = code or EXIT_DONE
                self.drain()
                return
            pause_seconds = patience.after(loop.time() - since)
            self._replaced.value += 1
            _log.warning("process ended", process=number, code=code, again_seconds=pause_seconds)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._draining.wait(), pause_seconds)

    async def _start(self, number: int) -> Child | None:
        try:
            return await Child.start(self._command, number)
        except OSError as error:
            _log.error("process cannot be started", process=number, problem=error.strerror)
            return None

    async def _one(self, child: Child) -> int:
        """Stand by a process until it has ended; its exit code."""
        self._children[child.number] = child
        _log.info("process started", process=child.number, pid=child.id)
        if self._draining.is_set():
            child.drain()

        def hear(report: Report) -> None:
            self._sums.hear(child.number, report.families)
            self.hooks |= dict.fromkeys(report.hooks, child.tell)
            if child.is_ready:
                self._pioneered.set()

        try:
            return await child.listen(hear)
        finally:
            child.kill()
            del self._children[child.number]
            self._sums.lose(child.number)
            for path in child.report.hooks if child.report else ():
                self.hooks.pop(path, None)

    def _is_hopeless(self, child: Child) -> bool:
        """Whether another start could but end the same way.

        Where others have served, their settings or their server are better than what this one found: they are let be,
        and the next one that is started may fare better.
        """
        return not child.has_served and not any(each.has_served for each in self._children.values())

    async def _watch(self) -> None:
        """Kill who is silent for too long; if this process itself was held up, nobody is to blame."""
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            before, last = last, loop.time()
            for number, child in self._children.items():
                if last - before > LATE_SECONDS:
                    child.well_at = last
                elif last > self._drain_ends:
                    _log.error("process has not ended within the grace; killed", process=number)
                    child.kill()
                elif child.silent_seconds(last) > LOST_SECONDS:
                    _log.error("process stands still; killed", process=number, silent_seconds=LOST_SECONDS)
                    child.kill()


async def supervise(
    settings: Settings, command: Sequence[str], processes: int, *, say: Callable[[str], None] | None = None
) -> int:
    """Run so many workers, each by `command`, until told to end; `say` hears the admin address once it is open.

    To be run on asyncio's own loop: uvloop's children inherit descriptors of each other's sockets.
    """
    try:
        credential = admin_credential(settings)
    except CredentialError as error:
        return fail(EXIT_SETTINGS, error)
    supervisor = Supervisor(command, processes, drain_seconds=settings.worker.drain_seconds)
    admin = AdminServer(
        settings.admin.host,
        settings.admin.port,
        registry=supervisor.registry,
        ready=supervisor.unready,
        alive=supervisor.unwell,
        hooks=supervisor.hooks,
        console=build_console(lambda: settings, credential),
    )
    try:
        async with admin, open_api(settings, supervisor.registry, learn=lambda _token: None):
            on_signals(supervisor.drain, supervisor.reload, at_once=supervisor.kill)
            if say is not None:
                say(admin.url)
            _log.info("supervisor started", processes=processes, admin_port=admin.port)
            code = await supervisor.run()
            _log.info("supervisor ended", code=code)
            return code
    except (AddressError, CredentialError, RedisUrlError) as error:
        return fail(EXIT_SETTINGS, error)
    except RedisFault as error:
        return fail(EXIT_SERVER, error)
