"""The composition root: builds every object of a worker process from its settings; nothing else does.

In: settings. Out: a `Service` whose parts know only the ports of each other. What runs it, and on which signals it
ends, is `process`'s.
"""

from __future__ import annotations

import os
import random
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

import structlog
from prometheus_client import CollectorRegistry

from allocator import __version__
from allocator.broker.streams import StreamsBroker
from allocator.broker.streams_aftermath import StreamsAftermath
from allocator.broker.streams_census import StreamsCensus
from allocator.contract.allocation import State
from allocator.contract.destination import Destination
from allocator.contract.keys import Keys
from allocator.engine.insist import Insistence
from allocator.engine.lanes import Lanes
from allocator.engine.observer import Event, Observer
from allocator.engine.parts import Parts, Policy
from allocator.engine.reconciler import Reconciler
from allocator.engine.worker import Worker
from allocator.gate.fleet import FleetGate
from allocator.gate.gate import Limit
from allocator.providers.gameye.client import GameyeProvider
from allocator.providers.gameye.credential import Credential, FixedToken, TokenFile
from allocator.providers.provider import Provider
from allocator.redis_io.connect import RedisConnection, connect
from allocator.redis_io.url import url_secrets
from allocator.service.settings import Settings
from allocator.service.settings_tables import Gameye
from allocator.telemetry.logging import Log
from allocator.telemetry.metrics import Metrics

_log = structlog.get_logger("allocator")

ACCOUNT_SCOPE = "*"
BUILT_IN = frozenset({"gameye"})
PROBE_MARGIN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Service:
    """One worker process, put together and not yet running."""

    settings: Settings
    connection: RedisConnection
    parts: Parts
    worker: Worker
    registry: CollectorRegistry
    metrics: Metrics
    log: Log

    async def close(self) -> None:
        """Give everything back, the last built first."""
        await self.parts.lanes.close()
        for provider in self.parts.providers.values():
            await provider.close()
        await self.connection.aclose()
        self.log.flush()


class UnservedProvider(Exception):  # noqa: N818 - what the settings ask for
    """A region leads to a provider that is not built in."""


def _forget(_secret: str) -> None:
    """Nobody masks."""


async def assemble(settings: Settings, *, learn: Callable[[str], None] = _forget) -> Service:
    """Build a worker process; `learn` hears of all that must never be printed.

    Raises CredentialError, UnservedProvider, RedisUrlError, EmbeddedUnavailable for settings that can't be.
    """
    _all_served(settings)
    registry = CollectorRegistry()
    metrics = Metrics(registry, version=__version__)
    log = Log()
    observe = _fan_out([metrics.observe, log.observe])
    for text in url_secrets(settings.redis.url.get_secret_value()):
        learn(text)
    providers = build_providers(
        settings, learn=learn, report=lambda message: _log.warning("credential file", problem=message)
    )
    try:
        connection = await connect(settings.redis.url.get_secret_value(), name="worker")
    except BaseException:
        for each in providers.values():
            await each.close()
        raise
    chance = random.Random(secrets.randbits(64))  # noqa: S311 - jitter, not secrets
    gate = FleetGate(connection, probe_hold_seconds=_longest_call(settings) + PROBE_MARGIN_SECONDS, chance=chance)
    limits_of = _limits(settings, providers)
    lanes = Lanes(
        gate=gate,
        concurrency=settings.worker.concurrency,
        limits_of=limits_of,
        account_of=lambda name: providers[name].account,
        observe=observe,
        chance=chance,
    )
    broker, aftermath, census = build_broker(settings, connection)
    parts = Parts(
        broker=broker,
        aftermath=aftermath,
        gate=gate,
        lanes=lanes,
        providers=providers,
        atlas=_atlas(settings),
        policy=_policy(settings),
        observe=observe,
        insist=Insistence(observe, chance),
        chance=chance,
    )
    worker = Worker(parts, Reconciler(parts, census))
    places = [place for places in settings.resolved.values() for place in places]
    metrics.expect([place.destination for place in places], list(settings.resolved))
    metrics.set_rates({place.destination: place.rate for place in places})
    if settings.gameye is not None and settings.gameye.rate is not None:
        metrics.set_rates({Destination("gameye", ACCOUNT_SCOPE): settings.gameye.rate})
    metrics.follow_progress(State.ALLOCATING, lambda: worker.held)
    return Service(settings, connection, parts, worker, registry, metrics, log)


def _all_served(settings: Settings) -> None:
    for name, places in settings.resolved.items():
        for place in places:
            if place.destination.provider not in BUILT_IN:
                raise UnservedProvider(
                    f"regions.{name} leads to {place.destination.provider}, which this version cannot serve yet; "
                    "name destinations at gameye"
                )


def build_providers(
    settings: Settings, *, report: Callable[[str], None], learn: Callable[[str], None] = _forget
) -> dict[str, Provider]:
    """The providers whose tables are there.

    `report` hears of a token file that cannot be read any more, `learn` of every token.
    """
    providers: dict[str, Provider] = {}
    if settings.gameye is not None:
        providers["gameye"] = build_gameye(settings.gameye, report=report, learn=learn)
    return providers


def build_gameye(
    gameye: Gameye, *, report: Callable[[str], None], learn: Callable[[str], None] = _forget
) -> GameyeProvider:
    """Gameye, as its table says."""
    credential: Credential
    if gameye.token_file is not None:
        credential = TokenFile(gameye.token_file, report=report, learn=learn)
    else:
        token = gameye.token.get_secret_value() if gameye.token else ""
        learn(token)
        credential = FixedToken(token)
    return GameyeProvider(gameye.base_url, gameye.account, credential, frozenset(gameye.throttle_statuses))


def worker_name() -> str:
    """A name in the consumer group that no other process has or had."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def build_broker(
    settings: Settings, connection: RedisConnection
) -> tuple[StreamsBroker, StreamsAftermath, StreamsCensus]:
    """The three ports to the records of one namespace; nothing is asked of Redis yet."""
    nonce, numbers = secrets.token_hex(8), count()
    keys, worker = Keys(settings.namespace), worker_name()
    lease_ms = round(settings.worker.lease_seconds * 1000)
    result_ttl_ms, results_max_age_ms = settings.result_ttl_seconds * 1000, settings.results_max_age_seconds * 1000

    def fence() -> str:
        return f"{nonce}{next(numbers):x}"

    broker = StreamsBroker(
        connection,
        keys,
        deployment=settings.deployment,
        worker=worker,
        lease_ms=lease_ms,
        result_ttl_ms=result_ttl_ms,
        results_max_age_ms=results_max_age_ms,
        fence=fence,
    )
    aftermath = StreamsAftermath(
        broker.steps,
        keys,
        worker=worker,
        lease_ms=lease_ms,
        result_ttl_ms=result_ttl_ms,
        results_max_age_ms=results_max_age_ms,
        fence=fence,
        now_ms=broker.now_ms,
    )
    return broker, aftermath, StreamsCensus(broker.steps, keys, worker=worker)


def _policy(settings: Settings) -> Policy:
    call_timeouts = {"gameye": settings.gameye.timeout_seconds} if settings.gameye else {}
    return Policy(
        deployment=settings.deployment,
        default_regions=settings.default_regions,
        request_timeout_seconds=settings.request_timeout_seconds,
        result_ttl_seconds=settings.result_ttl_seconds,
        session_ttl=settings.session_ttl,
        max_gate_wait_seconds=settings.worker.max_gate_wait_seconds,
        lease_seconds=settings.worker.lease_seconds,
        concurrency=settings.worker.concurrency,
        backlog=settings.worker.backlog,
        backlog_bytes=settings.worker.backlog_bytes,
        drain_seconds=settings.worker.drain_seconds,
        call_timeout_seconds=call_timeouts,
        port_names={image: entry.port_names for image, entry in settings.catalog.items()},
        namespace=settings.namespace,
        observes=settings.reconciler.mode == "observe",
        stops_per_minute_max=settings.reconciler.stops_per_minute_max,
    )


def _atlas(settings: Settings) -> Callable[[str], Sequence[Destination]]:
    known: dict[str, tuple[Destination, ...]] = {
        name: tuple(place.destination for place in places) for name, places in settings.resolved.items()
    }
    return lambda region: known.get(region) or tuple(place.destination for place in settings.resolve(region))


def _limits(settings: Settings, providers: dict[str, Provider]) -> Callable[[Destination], tuple[Limit, ...]]:
    """A destination's own limit first, then its account's, which a refused credential shuts."""
    rates = {place.destination: place for places in settings.resolved.values() for place in places}
    accounts = {"gameye": settings.gameye.rate if settings.gameye else None}

    def limits_of(destination: Destination) -> tuple[Limit, ...]:
        place, account = rates.get(destination), providers[destination.provider].account
        rate = place.rate if place else settings.region_defaults.rate
        burst = place.burst if place else settings.region_defaults.burst
        return (
            Limit(destination.provider, account, destination.location, rate, burst),
            Limit(destination.provider, account, ACCOUNT_SCOPE, accounts.get(destination.provider)),
        )

    return limits_of


def _longest_call(settings: Settings) -> float:
    return settings.gameye.timeout_seconds if settings.gameye else 0.0


def _fan_out(observers: Sequence[Observer]) -> Observer:
    def observe(event: Event) -> None:
        for each in observers:
            each(event)

    return observe
