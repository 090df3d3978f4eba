"""Whether a lease that has ended says that its owner has: after an outage of the broker it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from allocator.engine import contact as contact_module
from allocator.engine.contact import Contact
from allocator.engine.observer import TakenOver
from allocator.redis_io.connect import connect
from allocator.simulator.gameye import RegionSettings, RetryAfter

if TYPE_CHECKING:
    from tests.engine.conftest import Member

LEASE = 10.0
SHUT = RegionSettings(closed=420, retry_after=RetryAfter(seconds=60))


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def contact(clock: Clock) -> Contact:
    """Of a worker that has begun, holds something and has just renewed it."""
    contact = Contact(clock, lambda: LEASE)
    contact.begin()
    contact.heard()
    contact.renewed(1)
    return contact


def test_while_the_broker_is_there_nobody_waits(contact: Contact, clock: Clock) -> None:
    for turn in range(60):
        clock.seconds += 1
        contact.heard()
        assert contact.may_take_over
        if turn % 4 == 0:
            contact.renewed(1)


def test_after_a_silence_in_which_leases_of_the_living_end_they_have_one_to_renew(
    contact: Contact, clock: Clock
) -> None:
    clock.seconds += LEASE / 2 + 0.1
    contact.heard()
    contact.renewed(1)
    assert not contact.may_take_over
    for _ in range(2):
        clock.seconds += LEASE / 2 - 0.1
        contact.renewed(1)
        assert not contact.may_take_over
    clock.seconds += 0.3
    assert contact.may_take_over


def test_a_worker_that_begins_while_the_broker_is_away_gives_them_as_long(clock: Clock) -> None:
    contact = Contact(clock, lambda: LEASE)
    contact.begin()
    clock.seconds += LEASE
    contact.begin()
    contact.heard()
    assert not contact.may_take_over
    clock.seconds += LEASE
    assert contact.may_take_over


def test_nothing_is_taken_over_while_our_own_renewals_are_behind(contact: Contact, clock: Clock) -> None:
    for _ in range(10):
        clock.seconds += LEASE / 10
        contact.heard()
    assert not contact.may_take_over
    contact.renewed(1)
    assert contact.may_take_over


def test_a_renewal_of_nothing_has_asked_nobody(contact: Contact, clock: Clock) -> None:
    for _ in range(4):
        clock.seconds += LEASE / 3
        contact.renewed(0)
    contact.heard()
    assert not contact.may_take_over


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact_module, "SILENCE_SECONDS_MIN", 0.3)


def is_over(member: Member) -> bool:
    """Whether the lease of the one request that it holds has ended, as far as it knows."""
    ((held, _),) = member.worker._held.values()
    return member.parts.loop.time() >= held._course.lease_until


async def test_an_outage_longer_than_a_lease_takes_nothing_from_the_living(
    make_fleet: Callable[..., Any], private_server: Any, wait_until: Any, short: None
) -> None:
    async with await connect(private_server.url, name="test") as connection:
        fleet = make_fleet(private_server.url, connection)
        await fleet.begin({"europe": SHUT})
        members = [await fleet.worker(rates={"europe": 100}) for _ in range(2)]
        await fleet.send(id="m-1", timeout_seconds=60)
        await wait_until(lambda: sum(member.worker.held for member in members) == 1)
        (owner,) = (member for member in members if member.worker.held)
        for _ in range(2):
            private_server.kill()
            await wait_until(lambda: is_over(owner))
            private_server.start()
            await wait_until(lambda: not is_over(owner))
        assert await connection.execute("HGET", fleet.keys.record("m-1"), "takes") == b"1"
        assert not any(member.seen(TakenOver) for member in members)
        await connection.execute("XADD", fleet.keys.cancellations, "*", "id", "m-1")
        await fleet.ended("m-1")
        await fleet.end()


async def test_who_died_in_an_outage_is_taken_over_from_soon_after(
    make_fleet: Callable[..., Any], private_server: Any, wait_until: Any, short: None
) -> None:
    async with await connect(private_server.url, name="test") as connection:
        fleet = make_fleet(private_server.url, connection)
        await fleet.begin({"europe": SHUT})
        one = await fleet.worker(rates={"europe": 100})
        await fleet.send(id="m-1", timeout_seconds=60)
        await wait_until(lambda: one.worker.held == 1)
        two = await fleet.worker(rates={"europe": 100})
        private_server.kill()
        await wait_until(lambda: is_over(one))
        await one.cut()
        private_server.start()
        await wait_until(lambda: two.seen(TakenOver))
        await connection.execute("XADD", fleet.keys.cancellations, "*", "id", "m-1")
        await fleet.ended("m-1")
        await fleet.end()
