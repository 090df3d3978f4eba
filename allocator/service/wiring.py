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
from allocator.broker.streams_levers import StreamsLevers
from allocator.broker.streams_parking import StreamsParking
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
from allocator.placement.plan import Policy as PlacementPolicy
from allocator.placement.policies import PolicyError, load_policy
from allocator.providers.gameye.client import GameyeProvider
from allocator.providers.gameye.credential import Credential
from allocator.providers.provider import Provider
from allocator.redis_io.connect import RedisConnection, connect
from allocator.redis_io.url import url_secrets
from allocator.service.live import LOOK_SECONDS, Live, Source
from allocator.service.live_credential import gameye_credential, renew_gameye
from allocator.service.live_force import ACCOUNT_SCOPE
from allocator.service.live_merge import Merged
from allocator.service.settings import Settings, SettingsError
from allocator.service.settings_tables import Gameye
from allocator.telemetry.logging import Log
from allocator.telemetry.metrics import Metrics

_log = structlog.get_logger("allocator")

BUILT_IN = frozenset({"gameye"})
PROBE_MARGIN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Service:
    """One worker process, put together and not yet running."""

    settings: Settings
    connection: RedisConnection
    parts: Parts
    worker: Worker
    live: Live
    registry: CollectorRegistry
    metrics: Metrics
    log: Log

    async def close(self) -> None:
        """Give everything back, the last built first."""
        await self.parts.judgement.close()
        await self.parts.lanes.close()
        for provider in self.parts.providers.values():
            await provider.close()
        await self.connection.aclose()
        self.log.flush()


class UnservedProvider(Exception):  # noqa: N818 - what the settings ask for
    """A region leads to a provider that is not built in."""


def _report(problem: str) -> None:
    """Say that a token file cannot be read any more."""
    _log.warning("credential file", problem=problem)


def _forget(_secret: str) -> None:
    """Nobody masks."""


async def assemble(
    settings: Settings, *, learn: Callable[[str], None] = _forget, source: Source | None = None
) -> Service:
    """Build a worker process; `learn` hears of all that must never be printed, `source` gives the settings again.

    Raises CredentialError, PolicyError, UnservedProvider, RedisUrlError, EmbeddedUnavailable: settings that can't be.
    """
    _all_served(settings)
    order = _order(settings)
    registry = CollectorRegistry()
    metrics = Metrics(registry, version=__version__)
    log = Log()
    observe = _fan_out([metrics.observe, log.observe])
    for text in url_secrets(settings.redis.url.get_secret_value()):
        learn(text)
    credential = gameye_credential(settings.gameye, report=_report, learn=learn) if settings.gameye else None
    providers = build_providers(settings, report=_report, learn=learn, credential=credential)
    try:
        connection = await connect(settings.redis.url.get_secret_value(), name="worker")
    except BaseException:
        for each in providers.values():
            await each.close()
        raise
    chance = random.Random(secrets.randbits(64))  # noqa: S311 - jitter, not secrets
    gate = FleetGate(connection, probe_hold_seconds=_longest_call(settings) + PROBE_MARGIN_SECONDS, chance=chance)
    broker, aftermath, census, parking = build_broker(settings, connection)

    def admit(merged: Merged) -> None:
        try:
            _order(merged.settings)
        except PolicyError as error:
            raise SettingsError((str(error),)) from error
        if credential is not None:
            renew_gameye(credential, merged, report=_report, learn=learn)

    live = Live(
        settings,
        StreamsLevers(broker.steps, Keys(settings.namespace)),
        providers=providers,
        account_of=lambda name: providers[name].account,
        admit=admit,
        source=source,
    )
    lanes = Lanes(
        gate=gate,
        concurrency=settings.worker.concurrency,
        limits_of=live.limits_of,
        account_of=lambda name: providers[name].account,
        observe=observe,
        chance=chance,
        kept_share_of=live.kept_share_of,
        destinations=lambda: live.rates,
    )
    parts = Parts(
        broker=broker,
        aftermath=aftermath,
        parking=parking,
        gate=gate,
        lanes=lanes,
        providers=providers,
        atlas=live.region,
        policy=_policy(settings, order),
        observe=observe,
        insist=Insistence(observe, chance),
        chance=chance,
    )
    worker = Worker(parts, Reconciler(parts, census), beside=[(LOOK_SECONDS, "levers", live.look)])
    live.listen(lambda: _follow(live, parts, metrics))
    _follow(live, parts, metrics)
    metrics.follow_progress(State.ALLOCATING, lambda: worker.held)
    return Service(settings, connection, parts, worker, live, registry, metrics, log)


def _all_served(settings: Settings) -> None:
    for name, places in settings.resolved.items():
        for place in places:
            if place.destination.provider not in BUILT_IN:
                raise UnservedProvider(
                    f"regions.{name} leads to {place.destination.provider}, which this version cannot serve yet; "
                    "name destinations at gameye"
                )


def build_providers(
    settings: Settings,
    *,
    report: Callable[[str], None],
    learn: Callable[[str], None] = _forget,
    credential: Credential | None = None,
) -> dict[str, Provider]:
    """The providers whose tables are there; `credential` is Gameye's, if not the one of its table.

    `report` hears of a token file that cannot be read any more, `learn` of every token.
    """
    providers: dict[str, Provider] = {}
    if settings.gameye is not None:
        providers["gameye"] = build_gameye(settings.gameye, report=report, learn=learn, credential=credential)
    return providers


def build_gameye(
    gameye: Gameye,
    *,
    report: Callable[[str], None],
    learn: Callable[[str], None] = _forget,
    credential: Credential | None = None,
) -> GameyeProvider:
    """Gameye, as its table says."""
    credential = credential or gameye_credential(gameye, report=report, learn=learn)
    return GameyeProvider(gameye.base_url, gameye.account, credential, frozenset(gameye.throttle_statuses))


def worker_name() -> str:
    """A name in the consumer group that no other process has or had."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def build_broker(
    settings: Settings, connection: RedisConnection
) -> tuple[StreamsBroker, StreamsAftermath, StreamsCensus, StreamsParking]:
    """The four ports to the records of one namespace; nothing is asked of Redis yet."""
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
    parking = StreamsParking(
        broker.steps,
        keys,
        lease_ms=lease_ms,
        fence=fence,
        loss_ms=broker.loss_ms,
        now_ms=broker.now_ms,
    )
    return broker, aftermath, StreamsCensus(broker.steps, keys, worker=worker), parking


def _order(settings: Settings) -> PlacementPolicy:
    return load_policy(settings.placement.policy, settings.placement.latency_by)


def _policy(settings: Settings, order: PlacementPolicy) -> Policy:
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
        order=order,
        ready_checks={image: entry.ready for image, entry in settings.catalog.items() if entry.ready},
        namespace=settings.namespace,
        observes=settings.reconciler.mode == "observe",
        stops_per_minute_max=settings.reconciler.stops_per_minute_max,
    )


def _follow(live: Live, parts: Parts, metrics: Metrics) -> None:
    """Let what runs follow the settings and levers in force."""
    settings = live.settings
    parts.policy = _policy(settings, _order(settings))
    parts.paused = live.paused
    parts.lanes.refresh()
    metrics.expect(live.rates, list(settings.resolved))
    metrics.set_rates(live.rates)
    if settings.gameye is not None and settings.gameye.rate is not None:
        metrics.set_rates({Destination("gameye", ACCOUNT_SCOPE): settings.gameye.rate})


def _longest_call(settings: Settings) -> float:
    return settings.gameye.timeout_seconds if settings.gameye else 0.0


def _fan_out(observers: Sequence[Observer]) -> Observer:
    def observe(event: Event) -> None:
        for each in observers:
            each(event)

    return observe
