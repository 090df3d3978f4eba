"""What tests of looks put into Redis: ends announced, and all that a namespace may hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from allocator.contract.allocation import Allocation, State
from allocator.contract.events import allocation_event
from allocator.contract.keys import GROUP, Keys
from allocator.contract.request import Priority

if TYPE_CHECKING:
    from tests.conftest import TestServer

T0 = 1_700_000_000_000


def ended(request_id: str, state: State = State.ALLOCATED, **fields: Any) -> Allocation:
    place = {"region": "europe", "endpoint": "203.0.113.7:20113", "allocated_at": T0 + 1500}
    given = {"enqueued_at": T0, "updated_at": T0 + 2500, **(place if state is State.ALLOCATED else {}), **fields}
    return Allocation(state=state, request_id=request_id, final=True, **given)


def announce(server: TestServer, keys: Keys, allocations: Sequence[Allocation]) -> None:
    """As a commit does."""
    with server.plain() as client:
        pipe = client.pipeline(transaction=False)
        for each in allocations:
            event = allocation_event(each, deployment="d", entry_id="1-0")
            fields: dict[Any, Any] = {"request_id": each.request_id, "state": str(each.state), "event": event}
            pipe.xadd(keys.results, fields)
        pipe.execute()


def fill(server: TestServer, keys: Keys, secret: str = "") -> None:
    """Some of everything: two untaken, one being taken, three under lease of which one is parked, and the rest."""
    high, normal = keys.requests(Priority.HIGH), keys.requests(Priority.NORMAL)
    body = f'{{"id":"m-1","image":"g","env":{{"A":"{secret}"}}}}'
    for stream in (high, normal, normal):
        server.command("XADD", stream, "*", "request", body)
    for stream in (high, normal):
        server.command("XGROUP", "CREATE", stream, GROUP, "0")
    server.command("XREADGROUP", "GROUP", GROUP, "w", "COUNT", 1, "STREAMS", normal, ">")
    server.command("ZADD", keys.leases, 10**15, "a", 10**15, "b", 10**15, "c")
    server.command("SADD", keys.parked, "c")
    server.command("ZADD", keys.condemned, 1, "gameye/s-1", 1, "gameye/s-2")
    server.command("XADD", keys.cancellations, "*", "id", "m-9")
    server.command("XADD", keys.dead_letters, "*", "code", "invalid_request", "request", body)
    server.command("HSET", keys.orphans("gameye"), "counts", '{"unexplained":1,"superseded":2,"condemned":1}')
