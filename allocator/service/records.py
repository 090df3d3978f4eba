"""The records of a namespace as a worker has them: five ports for each of its partitions.

In: settings, a connection. Out: `Records`, by the number of the partition; nothing is asked of Redis yet. How many
there are is what the settings say, and a worker is told by its first step where the namespace says otherwise.
"""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass
from itertools import count

from allocator.broker.streams import StreamsBroker
from allocator.broker.streams_aftermath import StreamsAftermath
from allocator.broker.streams_census import StreamsCensus
from allocator.broker.streams_parking import StreamsParking
from allocator.client.partitions import read_partitions
from allocator.contract.keys import Keys
from allocator.contract.partitions import Partitions
from allocator.redis_io.connect import RedisConnection
from allocator.service.settings import Settings


@dataclass(frozen=True, slots=True)
class Records:
    """One partition's."""

    keys: Keys
    broker: StreamsBroker
    aftermath: StreamsAftermath
    census: StreamsCensus
    parking: StreamsParking


def worker_name() -> str:
    """A name in the consumer group that no other process has or had."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def build_records(
    settings: Settings, connection: RedisConnection, partitions: Partitions | None = None
) -> tuple[Records, ...]:
    """The records of every partition; `partitions` where they are known to be others than the settings say."""
    partitions = partitions or Partitions(settings.namespace, settings.partitions)
    worker = worker_name()
    return tuple(_records(settings, connection, keys, partitions, worker) for keys in partitions.every)


async def known_partitions(connection: RedisConnection, settings: Settings) -> Partitions:
    """As Redis says; while no worker has made the namespace, as the settings do."""
    expected = Partitions(settings.namespace, settings.partitions)
    return await read_partitions(connection, settings.namespace) or expected


def _records(
    settings: Settings, connection: RedisConnection, keys: Keys, partitions: Partitions, worker: str
) -> Records:
    nonce, numbers = secrets.token_hex(8), count()
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
        partitions=partitions,
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
    return Records(keys, broker, aftermath, StreamsCensus(broker.steps, keys, worker=worker), parking)
