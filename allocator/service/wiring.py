"""The composition root: builds every object of a worker process from its settings; nothing else does.

In: settings. Out: a `Service` whose parts know only the ports of each other. What runs it, and on which signals it
ends, is `process`'s.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from allocator.broker.streams_levers import StreamsLevers
from allocator.contract.allocation import State
from allocator.contract.keys import Keys
from allocator.contract.partitions import Partitions
from allocator.engine.insist import Insistence
from allocator.engine.lanes import Lanes
from allocator.engine.parts import Parts, Policy
from allocator.engine.reconciler import Reconciler
from allocator.engine.sampler import SAMPLE_SECONDS, Sampler
from allocator.engine.worker import Worker
from allocator.engine.workers import Workers, in_turns, summed
from allocator.gate.fleet import FleetGate
from allocator.gate.gate import Limit
from allocator.placement.plan import Policy as PlacementPolicy
from allocator.placement.policies import PolicyError, load_policy
from allocator.providers.edgegap.client import EdgegapProvider
from allocator.redis_io.connect import BLOCKING_CONNECTIONS_MAX, RedisConnection, connect
from allocator.redis_io.url import url_secrets
from allocator.service.admin import Hooks
from allocator.service.fleet_pace import FleetPace
from allocator.service.hosts import (
    Fleet,
    build_providers,
    call_timeouts,
    first_window,
    follow_settings,
    names_at,
)
from allocator.service.live import LOOK_SECONDS, Live, Source
from allocator.service.live_credential import credentials_of, renew, report
from allocator.service.live_merge import Merged
from allocator.service.observers import Observers, build_observers
from allocator.service.records import Records, build_records
from allocator.service.settings import Settings, SettingsError
from allocator.service.settings_tables import BUILT_IN
from allocator.telemetry.metrics import Metrics
from allocator.telemetry.structured import structlog

_log = structlog.get_logger("allocator")

PROBE_MARGIN_SECONDS = 2.0
BLOCKING_READS = 3
"""Of each partition at once: requests, cancellations, signals."""


@dataclass(frozen=True, slots=True)
class Service:
    """One worker process, put together and not yet running."""

    settings: Settings
    connection: RedisConnection
    records: tuple[Records, ...]
    parts: tuple[Parts, ...]
    """By the number of the partition; lanes, gate and providers are the same in all."""
    worker: Workers
    live: Live
    observers: Observers
    hooks: Hooks
    """What hears of a POST at the admin address, by path."""

    async def close(self) -> None:
        """Give everything back, the last built first."""
        for parts in self.parts:
            await parts.judgement.close()
        first, *_ = self.parts
        await first.lanes.close()
        for provider in first.providers.values():
            await provider.close()
        await self.connection.aclose()
        await self.observers.close()


class UnservedProvider(Exception):  # noqa: N818 - what the settings ask for
    """A region leads to a provider that is not built in."""


def _forget(_secret: str) -> None:
    """Nobody masks."""


async def assemble(
    settings: Settings,
    *,
    learn: Callable[[str], None] = _forget,
    source: Source | None = None,
) -> Service:
    """Build a worker process; `learn` hears of all that must never be printed, `source` gives the settings again.

    Raises CredentialError, PolicyError, UnservedProvider, TracesUnavailable, RedisUrlError, EmbeddedUnavailable:
    settings that can't be.
    """
    _all_served(settings)
    order = _order(settings)
    observers = build_observers(settings)
    observe, metrics = observers.observe, observers.metrics
    for text in url_secrets(settings.redis.url.get_secret_value()):
        learn(text)
    credentials = credentials_of(settings, report=report, learn=learn)
    connection = await connect(
        settings.redis.url.get_secret_value(),
        name="worker",
        blocking_connections_max=BLOCKING_CONNECTIONS_MAX + BLOCKING_READS * (settings.partitions - 1),
    )
    chance = random.Random(secrets.randbits(64))  # noqa: S311 - jitter, not secrets
    gate = FleetGate(connection, probe_hold_seconds=_probe_hold_seconds(settings), chance=chance)
    records = build_records(settings, connection)
    pace = FleetPace(gate, settings.edgegap.account) if settings.edgegap else None
    path, hook_url = _hook(settings)
    try:
        providers = build_providers(settings, report=report, learn=learn, fleet=Fleet(credentials, pace, hook_url))
    except BaseException:
        await connection.aclose()
        raise
    edgegap = providers.get("edgegap")
    hooks = {path: edgegap.hear} if hook_url is not None and isinstance(edgegap, EdgegapProvider) else {}

    def admit(merged: Merged) -> None:
        try:
            _order(merged.settings)
        except PolicyError as error:
            raise SettingsError((str(error),)) from error
        renew(credentials, merged, report=report, learn=learn)

    live = Live(
        settings,
        StreamsLevers(records[0].broker.steps, Keys(settings.namespace)),
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
        first_window_of=first_window,
        open_by=live.open_by,
        leads_to=live.leads_to,
    )
    parts = tuple(
        Parts(
            broker=each.broker,
            aftermath=each.aftermath,
            parking=each.parking,
            gate=gate,
            lanes=lanes,
            providers=providers,
            atlas=live.region,
            policy=_policy(settings, order, number),
            observe=hears,
            insist=Insistence(hears, chance),
            chance=chance,
        )
        for number, (each, hears) in enumerate(zip(records, summed(observe, len(records)), strict=True))
    )
    pairs = [(each.broker, each.census) for each in records]
    sampler = Sampler(pairs, gate, observe, providers=providers, limits=lambda: _told_limits(live))
    beside = [
        (LOOK_SECONDS, "levers", in_turns(LOOK_SECONDS, live.look)),
        (SAMPLE_SECONDS, "survey", in_turns(SAMPLE_SECONDS, sampler.look)),
    ]
    worker = Workers(
        [Worker(each, Reconciler(each, its.census), beside=beside) for each, its in zip(parts, records, strict=True)]
    )
    live.listen(lambda: _follow(live, parts, gate, metrics))
    _follow(live, parts, gate, metrics)
    metrics.follow_progress(State.ALLOCATING, lambda: worker.held)
    metrics.follow_readiness(lambda: worker.ready)
    return Service(settings, connection, records, parts, worker, live, observers, hooks)


def _hook(settings: Settings) -> tuple[str, str | None]:
    """The path of this process's door for webhooks, which nobody can guess, and the address that leads there."""
    path = f"/hooks/{secrets.token_urlsafe(24)}"
    base = settings.edgegap.webhook_base_url if settings.edgegap else None
    return path, None if base is None else f"{base}{path}"


def _all_served(settings: Settings) -> None:
    for name, places in settings.resolved.items():
        for place in places:
            if place.destination.provider not in (*BUILT_IN, *settings.outside):
                raise UnservedProvider(
                    f"regions.{name} leads to {place.destination.provider}, which this version cannot serve; "
                    "name destinations at gameye or edgegap, or add the table of the provider"
                )


def _order(settings: Settings) -> PlacementPolicy:
    return load_policy(settings.placement.policy, settings.placement.latency_by)


def _policy(settings: Settings, order: PlacementPolicy, number: int) -> Policy:
    """What holds in one partition; what a process may hold, and the fleet may stop, is shared out evenly."""
    partitions = Partitions(settings.namespace, settings.partitions)
    stops_per_minute, one_more = divmod(settings.reconciler.stops_per_minute_max, partitions.count)
    return Policy(
        deployment=settings.deployment,
        default_regions=settings.default_regions,
        request_timeout_seconds=settings.request_timeout_seconds,
        result_ttl_seconds=settings.result_ttl_seconds,
        session_ttl=settings.session_ttl,
        max_gate_wait_seconds=settings.worker.max_gate_wait_seconds,
        lease_seconds=settings.worker.lease_seconds,
        concurrency=settings.worker.concurrency,
        backlog=-(-settings.worker.backlog // partitions.count),
        backlog_bytes=-(-settings.worker.backlog_bytes // partitions.count),
        drain_seconds=settings.worker.drain_seconds,
        call_timeout_seconds=call_timeouts(settings),
        port_names={image: entry.port_names for image, entry in settings.catalog.items()},
        names_at=names_at(settings),
        order=order,
        ready_checks={image: entry.ready for image, entry in settings.catalog.items() if entry.ready},
        namespace=partitions.every[number].namespace,
        observes=settings.reconciler.mode == "observe",
        stops_per_minute_max=stops_per_minute + (number < one_more),
    )


def _follow(live: Live, every: Sequence[Parts], gate: FleetGate, metrics: Metrics) -> None:
    """Let what runs follow the settings and levers in force."""
    settings = live.settings
    order = _order(settings)
    for number, parts in enumerate(every):
        parts.policy = _policy(settings, order, number)
        parts.paused = live.paused
    follow_settings(settings, every[0].providers)
    gate.probe_hold_seconds = _probe_hold_seconds(settings)
    every[0].lanes.refresh()
    metrics.expect(live.rates, list(settings.resolved))


def _told_limits(live: Live) -> list[Limit]:
    """The limits that metrics tell of: those of every configured destination, and their accounts', once each."""
    return list(dict.fromkeys(limit for destination in live.rates for limit in live.limits_of(destination)))


def _probe_hold_seconds(settings: Settings) -> float:
    """As long as any call may take, and a little more."""
    return max(call_timeouts(settings).values(), default=0.0) + PROBE_MARGIN_SECONDS
