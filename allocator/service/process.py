"""One worker process from its settings to its exit code.

In: settings. Out: an exit code of the contract's section 5. The first SIGTERM or SIGINT drains: readiness falls, the
take-up stops, what is being called finishes, what waits is handed back. A second one ends the process at once, which
costs nothing but the lease: what it held is taken over. SIGHUP reads the settings again. Under a supervisor it has no
admin address of its own and tells its supervisor instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from allocator.broker.broker import BrokerUnavailable, NamespaceTaken
from allocator.placement.policies import PolicyError
from allocator.providers.credential import Credential, CredentialError
from allocator.redis_io.errors import RedisFault, RedisUrlError, UnfitServer
from allocator.service.admin import AdminServer
from allocator.service.api import open_api
from allocator.service.console.pages import admin_credential, build_console
from allocator.service.door import AddressError
from allocator.service.live import Source
from allocator.service.observers import TracesUnavailable
from allocator.service.settings import Settings
from allocator.service.supervisor_telling import Seat, Telling
from allocator.service.wiring import Service, UnservedProvider, assemble
from allocator.telemetry.structured import structlog

EXIT_DONE, EXIT_SETTINGS, EXIT_SERVER = 0, 2, 3
EXIT_AT_ONCE = 143

log = structlog.get_logger("allocator")


def run_loop(main: Coroutine[Any, Any, int]) -> int:
    """Run on uvloop where it is to be had, with a garbage collector that looks less often.

    What a request makes is freed by its last reference; at the default thresholds the search for cycles takes a
    fifth of a busy worker's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415 - there is none for every platform

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


async def serve(
    settings: Settings,
    *,
    learn: Callable[[str], None],
    say: Callable[[str], None] | None = None,
    source: Source | None = None,
    seat: Seat | None = None,
) -> int:
    """Run one worker until it is told to end.

    `learn` hears of all that must not be printed, `say` hears the admin address once it is open; `source` gives the
    settings again on SIGHUP and when their file changes. With a `seat` there is a supervisor, and the address is its.
    """
    if seat is not None:
        structlog.contextvars.bind_contextvars(process=seat.number)
    try:
        credential = admin_credential(settings, learn) if seat is None else None
        service = await assemble(settings, learn=learn, source=source)
    except (CredentialError, PolicyError, RedisUrlError, TracesUnavailable, UnservedProvider) as error:
        return fail(EXIT_SETTINGS, error)
    except RedisFault as error:
        return fail(EXIT_SERVER, error)
    door = _door(service, seat, credential)
    loop, observers = asyncio.get_running_loop(), service.observers
    api = contextlib.nullcontext() if seat else open_api(settings, observers.registry, learn=learn)
    beside = [loop.create_task(observers.metrics.watch_loop_lag()), loop.create_task(observers.log.tell_on())]
    try:
        async with door, api:
            on_signals(service.worker.drain, service.live.reload)
            told = {}
            if isinstance(door, AdminServer):
                told = {"admin_port": door.port}
                if say is not None:
                    say(door.url)
            log.info("worker started", **told, redis=service.connection.url)
            await service.worker.run()
            log.info("worker ended", held=service.worker.held)
            for records in service.records:
                with contextlib.suppress(BrokerUnavailable):
                    await records.broker.close()
    except (NamespaceTaken, AddressError, CredentialError) as error:
        return fail(EXIT_SETTINGS, error)
    except UnfitServer as error:
        return fail(EXIT_SERVER, error)
    finally:
        for each in beside:
            each.cancel()
        await service.close()
    return EXIT_DONE


def _door(service: Service, seat: Seat | None, credential: Credential | None) -> AdminServer | Telling:
    """Where this process says how it fares."""
    admin, worker = service.settings.admin, service.worker

    def ready() -> str | None:
        return None if worker.ready else "not taking requests up: starting, draining or without Redis"

    def alive() -> str | None:
        return None if worker.moving else "the take-up loop stands still"

    registry, hooks = service.observers.registry, service.hooks
    if seat is None:
        console = build_console(lambda: service.live.settings, credential)
        return AdminServer(
            admin.host, admin.port, registry=registry, ready=ready, alive=alive, hooks=hooks, console=console
        )
    return Telling(seat, registry=registry, ready=ready, alive=alive, hooks=hooks, abandoned=worker.drain)


def on_signals(
    drain: Callable[[], None], reload: Callable[[], None], *, at_once: Callable[[], None] | None = None
) -> None:
    """Let the first SIGTERM or SIGINT drain and the next one end the process at once; SIGHUP reads the settings.

    `at_once` is called last before that.
    """
    asked = False

    def told() -> None:
        nonlocal asked
        if asked:
            if at_once is not None:
                at_once()
            os._exit(EXIT_AT_ONCE)
        asked = True
        drain()

    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(each, told)
        except NotImplementedError:  # Windows
            signal.signal(each, lambda *_: loop.call_soon_threadsafe(told))
    if hasattr(signal, "SIGHUP"):  # not on Windows
        loop.add_signal_handler(signal.SIGHUP, reload)


def fail(code: int, error: Exception) -> int:
    """Say why on stderr; the code."""
    sys.stderr.write(f"allocator: {error}\n")
    return code
