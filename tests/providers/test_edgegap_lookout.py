"""Many who want to know are few calls, and each call has leave."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from allocator.providers.edgegap import lookout as lookout_module
from allocator.providers.edgegap.follower import Follower, NeverReady, Ready
from allocator.providers.edgegap.lookout import By, Lookout
from allocator.providers.edgegap.pace import Kind, OwnPace
from allocator.providers.edgegap.wire import Page, Row, Status
from allocator.providers.provider import LookupFailed


class Host:
    """Deployments by request id, listed in pages; remembers what it was asked."""

    def __init__(self, *rows: dict[str, Any], page_rows: int = 100) -> None:
        self.rows = {row["request_id"]: row for row in rows}
        self.calls: list[tuple[dict[str, Any], int]] = []
        self.leaves = 0
        self.leave = True
        self.failing = False
        self.statuses: dict[str, str] = {}
        self.asked_statuses: list[str] = []
        self.page_rows = page_rows
        self.after_call: Any = lambda: None

    async def pace(self, _kind: Kind, _seconds: float) -> bool:
        await asyncio.sleep(0)  # as a real one, it lets others run
        self.leaves += self.leave
        return self.leave

    async def page(self, query: str, number: int, _limit: int) -> Page | LookupFailed:
        asked = json.loads(query)
        self.calls.append((asked, number))
        if self.failing:
            return LookupFailed("away")
        (wanted,) = asked["filters"]
        values = set(wanted["value"])
        named = [row for row in self.rows.values() if values & {row["request_id"], *row.get("tags", ())}]
        first, size = (number - 1) * self.page_rows, self.page_rows
        pagination = {
            "has_next": first + size < len(named),
            "paginator": {"num_pages": -(-len(named) // size)},
        }
        page = Page.model_validate({"data": named[first : first + size], "pagination": pagination})
        self.after_call()
        return page

    async def status(self, request_id: str) -> Status | LookupFailed | None:
        self.asked_statuses.append(request_id)
        if request_id not in self.statuses:
            return None
        told = {**self.rows[request_id], "current_status": self.statuses[request_id], "app_name": "game"}
        return Status.model_validate(told)


def row(name: str, *tags: str, ready: bool = True) -> dict[str, Any]:
    return {"request_id": name, "public_ip": "192.0.2.1", "ready": ready, "tags": list(tags)}


def lookout_of(host: Host) -> Lookout:
    return Lookout(host.page, host.pace)


async def test_four_hundred_who_wait_are_four_calls() -> None:
    names = [f"d-{number}" for number in range(400)]
    host = Host(*(row(name) for name in names))
    lookout = lookout_of(host)
    answers = await asyncio.gather(*(lookout.rows(By.REQUEST_ID, name) for name in names))
    assert [[each.request_id for each in answer] for answer in answers if isinstance(answer, list)] == [
        [name] for name in names
    ]
    assert len(host.calls) == host.leaves == 4
    await lookout.close()


async def test_who_asks_by_tag_gets_every_deployment_that_bears_it_and_no_other() -> None:
    host = Host(row("d-1", "a"), row("d-2", "a", "b"), row("d-3", "b"))
    lookout = lookout_of(host)
    one, other, none = await asyncio.gather(*(lookout.rows(By.TAG, tag) for tag in ("a", "b", "c")))
    found = [[each.request_id for each in answer] for answer in (one, other, none) if isinstance(answer, list)]
    assert found == [["d-1", "d-2"], ["d-2", "d-3"], []]
    assert len(host.calls) == 1


async def test_ids_and_tags_take_turns() -> None:
    host = Host(row("d-1", "a"))
    lookout = lookout_of(host)
    names = [f"d-{number}" for number in range(300)]
    by_ids = asyncio.gather(*(lookout.rows(By.REQUEST_ID, name) for name in names))
    await lookout.rows(By.TAG, "a")
    await by_ids
    fields = [asked["filters"][0]["field"] for asked, _ in host.calls]
    assert fields == ["request_id", "tags", "request_id", "request_id"]


async def test_without_leave_no_call_is_made_and_who_waits_is_told() -> None:
    host = Host(row("d-1"))
    host.leave = False
    lookout = lookout_of(host)
    assert isinstance(await lookout.rows(By.REQUEST_ID, "d-1"), LookupFailed)
    assert isinstance(await lookout.every("a", "created_at"), LookupFailed)
    assert not host.calls


async def test_a_call_that_fails_tells_all_who_waited_for_it_and_the_next_is_made() -> None:
    host = Host(row("d-1"))
    host.failing = True
    lookout = lookout_of(host)
    first = await asyncio.gather(*(lookout.rows(By.REQUEST_ID, name) for name in ("d-1", "d-2")))
    assert first == [LookupFailed("away")] * 2
    host.failing = False
    assert isinstance(await lookout.rows(By.REQUEST_ID, "d-1"), list)


async def test_who_goes_away_meanwhile_costs_the_others_nothing() -> None:
    host = Host(row("d-1"), row("d-2"))
    lookout = lookout_of(host)
    gone = asyncio.ensure_future(lookout.rows(By.REQUEST_ID, "d-1"))
    stays = asyncio.ensure_future(lookout.rows(By.REQUEST_ID, "d-2"))
    await asyncio.sleep(0)  # both wait
    gone.cancel()
    answer = await stays
    assert isinstance(answer, list)
    assert [each.request_id for each in answer if isinstance(each, Row)] == ["d-2"]


async def test_closing_lets_go_of_all_who_wait() -> None:
    host = Host(row("d-1"))
    lookout = lookout_of(host)
    host.after_call = lambda: None
    waits = asyncio.ensure_future(lookout.rows(By.REQUEST_ID, "d-1"))
    await asyncio.sleep(0)  # it waits
    await lookout.close()
    assert isinstance(await waits, LookupFailed)


async def test_no_deployment_is_missed_while_others_end_between_the_pages() -> None:
    host = Host(*(row(f"d-{number}", "ours") for number in range(12)), page_rows=3)
    ends = iter(["d-0", "d-4", "d-1", "d-2"])
    host.after_call = lambda: host.rows.pop(next(ends, ""), None)
    found = await lookout_of(host).every("ours", "created_at")
    assert isinstance(found, list)
    assert {each.request_id for each in found} >= set(host.rows)
    assert all(asked["order_by"] == [{"field": "created_at", "order": "asc"}] for asked, _ in host.calls)
    assert host.leaves == len(host.calls)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    from allocator.providers.edgegap import follower

    monkeypatch.setattr(follower, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(follower, "DOUBT_SECONDS", 0.05)
    monkeypatch.setattr(lookout_module, "LEAVE_SECONDS", 0.1)


async def test_one_that_becomes_ready_is_told_with_where_it_is(quick: None, wait_until: Any) -> None:
    host = Host(row("d-1", ready=False))
    follower = Follower(lookout_of(host), host.status)
    waits = asyncio.ensure_future(follower.ready("d-1", 5))
    await wait_until(lambda: len(host.calls) >= 2)
    host.rows["d-1"]["ready"] = True
    outcome = await waits
    assert isinstance(outcome, Ready)
    assert outcome.found.public_ip == "192.0.2.1"
    assert follower.pending == 0


async def test_a_hint_makes_one_look_at_once_and_is_not_believed(
    quick: None, monkeypatch: pytest.MonkeyPatch, wait_until: Any
) -> None:
    from allocator.providers.edgegap import follower as module

    monkeypatch.setattr(module, "LOOK_SECONDS", 60)
    host = Host(row("d-1", ready=False))
    host.statuses["d-1"] = "Status.DEPLOYING"
    follower = Follower(lookout_of(host), host.status)
    waits = asyncio.ensure_future(follower.ready("d-1", 5))
    await asyncio.sleep(0)  # it waits
    for _ in range(2):
        follower.hint("d-1")
        follower.hint("of nobody")
        asked = len(host.asked_statuses)
        await wait_until(lambda: len(host.asked_statuses) > asked)  # noqa: B023 - it is awaited here
        assert not waits.done()
    host.statuses["d-1"] = "Status.READY"
    follower.hint("d-1")
    assert isinstance(await waits, Ready)
    assert not host.calls


async def test_without_leave_for_a_status_a_hint_is_followed_by_a_list(quick: None) -> None:
    host = Host(row("d-1"))
    follower = Follower(lookout_of(host), host.status)
    waits = asyncio.ensure_future(follower.ready("d-1", 5))
    await asyncio.sleep(0)  # it waits
    follower.hint("d-1")
    assert isinstance(await waits, Ready)
    assert len(host.calls) == 1


@pytest.mark.parametrize("state", ["Status.ERROR", "Status.TERMINATED"])
async def test_what_has_failed_is_found_out_before_its_time_is_up(quick: None, state: str) -> None:
    host = Host(row("d-1", ready=False))
    host.statuses["d-1"] = state
    outcome = await Follower(lookout_of(host), host.status).ready("d-1", 5)
    assert outcome == NeverReady(f"the deployment failed: {state}")


async def test_one_that_is_never_ready_is_given_up_in_its_time_though_nothing_answers(quick: None) -> None:
    host = Host()
    host.failing = True
    follower = Follower(lookout_of(host), host.status)
    outcome = await follower.ready("d-1", 0.1)
    assert isinstance(outcome, NeverReady)
    assert "edgegap.ready_timeout_seconds" in outcome.message
    assert follower.pending == 0


async def test_the_pace_of_one_process_spaces_its_calls_and_refuses_who_cannot_wait() -> None:
    pace = OwnPace({Kind.LIST: 50.0, Kind.STATUS: 50.0})
    loop = asyncio.get_running_loop()
    since = loop.time()
    assert await asyncio.gather(*(pace(Kind.LIST, 1.0) for _ in range(4))) == [True] * 4
    assert loop.time() - since >= 3 / 50 - 0.005
    assert not await pace(Kind.LIST, 0.0)
    assert await pace(Kind.STATUS, 0.0)
