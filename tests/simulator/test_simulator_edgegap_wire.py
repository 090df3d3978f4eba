"""The simulated Edgegap over HTTP: rates, webhooks, and what goes wrong on purpose."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from allocator.simulator.edgegap import (
    Clock,
    Doubled,
    Dropped,
    EdgegapSimulator,
    Event,
    Failed,
    Fault,
    How,
    HtmlBody,
    Late,
    LateWebhook,
    LostReply,
    LostWebhook,
    MalformedBody,
    NewFields,
    Operation,
    Redirect,
    RetryAfter,
    SimulatorSettings,
    Slow,
    State,
    StatusFault,
    Unplaced,
)

WaitUntil = Callable[..., Any]


class Receiver:
    """Whoever takes webhooks: notes each, and answers, or hangs while `hold` is set."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.hold = False
        self.released = asyncio.Event()
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        self.got.append(await request.json())
        if self.hold:
            await self.released.wait()
        return web.Response(status=500)  # what is answered counts for nothing

    def states(self) -> list[str]:
        return [each["current_status"].removeprefix("Status.") for each in self.got]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield receiver
    receiver.released.set()
    await runner.cleanup()


class Bench:
    """One simulator and a client of it."""

    def __init__(self, simulator: EdgegapSimulator, http: aiohttp.ClientSession) -> None:
        self.simulator = simulator
        self.http = http

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        async with self.http.request(method, path, json=body, allow_redirects=False) as answer:
            raw = await answer.read()
            return answer.status, await answer.json() if raw and answer.content_type == "application/json" else raw

    async def deploy(self, receiver: Receiver | None = None, tag: str = "alloc-1", **more: Any) -> tuple[int, Any]:
        users = [{"user_type": "geo_coordinates", "user_data": {"latitude": 52.0, "longitude": 5.0}}]
        body = {"application": "arena", "version": "v1", "users": users, "tags": [tag], **more}
        if receiver is not None:
            body |= {f"webhook_on_{event}": {"url": receiver.url} for event in Event}
        return await self.ask("post", "/v2/deployments", body)

    def made(self, tag: str = "alloc-1") -> int:
        return len(self.simulator.ledger.tagged(tag))


@pytest.fixture
async def bench() -> AsyncIterator[Callable[..., Any]]:
    """`await bench(**settings)`; ended with the test."""
    async with contextlib.AsyncExitStack() as opened:

        async def open_bench(clock: Clock | None = None, **settings: Any) -> Bench:
            given = SimulatorSettings.model_validate({"start_seconds": 0, "stop_seconds": 0, **settings})
            simulator = await opened.enter_async_context(EdgegapSimulator(given, clock=clock))
            session = aiohttp.ClientSession(simulator.base_url, headers={"Authorization": "token any"})
            return Bench(simulator, await opened.enter_async_context(session))

        yield open_bench


async def test_every_documented_rate_holds_in_any_second_and_429_is_beyond(bench: Callable[..., Any]) -> None:
    now = [1000.0]
    clock = Clock(monotonic=lambda: now[0])
    here: Bench = await bench(clock, start_seconds=600, retry_after=RetryAfter(seconds=2))
    calls: list[tuple[str, int, Callable[[], Any]]] = [
        ("deploy", 40, here.deploy),
        ("status", 20, lambda: here.ask("get", "/v1/status/none")),
        ("list", 10, lambda: here.ask("get", "/v1/deployments")),
    ]
    for name, rate, call in calls:
        answers = Counter([(await call())[0] for _ in range(rate + 3)])
        assert answers[429] == 3, name
        now[0] += 0.5
        assert (await call())[0] == 429
        now[0] += 0.5
        assert (await call())[0] != 429
    ledger = here.simulator.ledger
    assert ledger.calls_per_second_max() == {"deploy": 44, "status": 24, "list": 14}
    assert ledger.calls_by_status()["deploy"] == {"202": 41, "429": 4}
    assert len(ledger.deployments) == 41
    async with here.http.get("/v1/deployments") as answer:
        assert (answer.status, answer.headers.get("Retry-After")) == (200, None)
    for _ in range(10):
        last = await here.http.get("/v1/deployments")
    assert (last.status, last.headers["Retry-After"]) == (429, "2")


def test_without_settings_the_limits_are_those_the_vendor_publishes() -> None:
    settings = SimulatorSettings()
    assert (settings.rates.deploy, settings.rates.status, settings.rates.list) == (40, 20, 10)
    assert (settings.throttle_status, settings.webhook_timeout_seconds, settings.retry_after) == (429, 10, None)


async def test_webhooks_bring_the_state_when_it_is_reached_though_nobody_asks(
    bench: Callable[..., Any], receiver: Receiver, wait_until: WaitUntil
) -> None:
    here: Bench = await bench(start_seconds=0.02, stop_seconds=0.02)
    _, made = await here.deploy(receiver)
    await wait_until(lambda: receiver.states() == ["READY"])
    _, described = await here.ask("get", f"/v1/status/{made['request_id']}")
    told = receiver.got[0]
    assert told == {**described, "elapsed_time": told["elapsed_time"]}
    assert (await here.ask("delete", f"/v1/stop/{made['request_id']}"))[0] == 200
    await wait_until(lambda: receiver.states() == ["READY", "TERMINATED"])
    await wait_until(lambda: [each.outcome for each in here.simulator.ledger.notices] == ["answered"] * 2)


async def test_an_error_is_told_by_its_own_webhook(
    bench: Callable[..., Any], receiver: Receiver, wait_until: WaitUntil
) -> None:
    here: Bench = await bench(faults=(Failed(detail="no image"),))
    await here.deploy(receiver)
    await wait_until(lambda: receiver.states() == ["ERROR"])
    assert receiver.got[0]["error_detail"] == "no image"


async def test_after_a_webhook_nobody_took_in_time_no_further_one_is_sent(
    bench: Callable[..., Any], receiver: Receiver, wait_until: WaitUntil
) -> None:
    here: Bench = await bench(webhook_timeout_seconds=0.05)
    receiver.hold = True
    _, made = await here.deploy(receiver)
    notices = here.simulator.ledger.notices
    await wait_until(lambda: [each.outcome for each in notices] == ["missed"])
    receiver.hold = False
    await here.ask("delete", f"/v1/stop/{made['request_id']}")
    await wait_until(lambda: [each.outcome for each in notices] == ["missed", "silenced"])
    _, other = await here.deploy(receiver, tag="alloc-2")
    await wait_until(lambda: receiver.got[-1]["request_id"] == other["request_id"])


async def test_an_address_that_nobody_listens_on_is_a_miss(bench: Callable[..., Any], wait_until: WaitUntil) -> None:
    here: Bench = await bench()
    await here.deploy(webhook_on_ready={"url": "http://127.0.0.1:1/"})
    await wait_until(lambda: [each.outcome for each in here.simulator.ledger.notices] == ["missed"])


async def test_a_share_of_the_webhooks_is_lost_and_some_are_late(
    bench: Callable[..., Any], receiver: Receiver, wait_until: WaitUntil
) -> None:
    lost, late = LostWebhook(probability=0.5), LateWebhook(seconds=(0.02, 0.03), times=1)
    here: Bench = await bench(faults=(lost, late), rates={"deploy": None})
    for number in range(60):
        await here.deploy(receiver, tag=f"alloc-{number}")
    notices = here.simulator.ledger.notices
    await wait_until(lambda: len(notices) == 60 and all(each.outcome in {"answered", "lost"} for each in notices))
    outcomes = Counter(each.outcome for each in notices)
    assert 15 <= outcomes["lost"] <= 45
    assert len(receiver.got) == outcomes["answered"]


async def test_the_end_does_not_wait_for_webhooks_under_way(receiver: Receiver, wait_until: WaitUntil) -> None:
    receiver.hold = True
    async with (
        EdgegapSimulator(SimulatorSettings(start_seconds=(0, 0))) as simulator,
        aiohttp.ClientSession(simulator.base_url, headers={"Authorization": "token any"}) as http,
    ):
        await Bench(simulator, http).deploy(receiver)
        await wait_until(lambda: receiver.got)
    assert [each.outcome for each in simulator.ledger.notices] == ["pending"]


# fault, how many deployments are there at once, what its caller sees: a status, or None where nothing comes
FATES: list[tuple[Fault, int, int | None]] = [
    (StatusFault(status=503), 0, 503),
    (HtmlBody(status=502), 0, 502),
    (Redirect(), 0, 307),
    (Dropped(), 0, None),
    (LostReply(), 1, None),
    (MalformedBody(), 1, 202),
    (Slow(latency_ms=(1, 2)), 1, 202),
    (NewFields(), 1, 202),
    (Doubled(), 2, 202),
    (Failed(), 1, 202),
    (Unplaced(), 1, 422),
]


@pytest.mark.parametrize(("fault", "made", "status"), FATES, ids=[fault.kind for fault, _, _ in FATES])
async def test_a_fault_leaves_what_it_says(
    bench: Callable[..., Any], fault: Fault, made: int, status: int | None
) -> None:
    here: Bench = await bench(faults=(fault.model_copy(update={"times": 1}),))
    if status is None:
        with pytest.raises(aiohttp.ClientError):
            await here.deploy()
    else:
        try:
            assert (await here.deploy())[0] == status
        except ValueError:
            assert fault.kind == "malformed"
    assert here.made() == made
    assert here.simulator.ledger.calls[0].status == status
    assert (await here.deploy())[0] == 202


async def test_a_late_deployment_appears_though_its_post_answered_an_error(
    bench: Callable[..., Any], wait_until: WaitUntil
) -> None:
    here: Bench = await bench(faults=(Late(after_seconds=0.05),))
    assert (await here.deploy())[0] == 504
    assert here.made() == 0
    await wait_until(lambda: here.made() == 1)
    assert here.simulator.ledger.deployments[0].started_by == "late"


async def test_a_fault_strikes_only_the_calls_and_locations_it_names(bench: Callable[..., Any]) -> None:
    on = (Operation.STATUS, Operation.STOP)
    here: Bench = await bench(
        faults=(StatusFault(status=503, on=on, locations=("amsterdam",)), StatusFault(locations=("singapore",)))
    )
    _, made = await here.deploy()
    assert (await here.ask("get", f"/v1/status/{made['request_id']}"))[0] == 503
    assert (await here.ask("delete", f"/v1/stop/{made['request_id']}"))[0] == 503
    assert (await here.ask("get", "/v1/status/other"))[0] == 400
    assert (await here.ask("get", "/v1/deployments"))[0] == 200


async def test_a_deployment_is_not_seen_of_a_post_whose_answer_hangs(
    bench: Callable[..., Any], wait_until: WaitUntil
) -> None:
    here: Bench = await bench(faults=(Dropped(how=How.HANG),))
    asking = asyncio.create_task(here.deploy())
    await wait_until(lambda: here.simulator.ledger.calls)
    asking.cancel()
    await asyncio.wait([asking])
    assert (here.made(), here.simulator.ledger.calls[0].status) == (0, None)


@pytest.mark.parametrize(("setting", "status"), [({}, 400), ({"unknown_status": 404}, 404)])
async def test_an_unknown_id_answers_as_the_live_api_or_as_its_description(
    bench: Callable[..., Any], setting: dict[str, Any], status: int
) -> None:
    here: Bench = await bench(**setting)
    assert (await here.ask("get", "/v1/status/0123456789ab"))[0] == status
    assert (await here.ask("delete", "/v1/stop/0123456789ab"))[0] == 404


async def test_a_deferred_stop_answers_202_or_200(bench: Callable[..., Any]) -> None:
    here: Bench = await bench(start_seconds=600)
    _, made = await here.deploy()
    stop = f"/v1/stop/{made['request_id']}"
    assert (await here.ask("delete", stop))[0] == 202
    here.simulator.apply(SimulatorSettings(deferred_stop_status=200))
    status, shown = await here.ask("delete", stop)
    assert (status, "deployment_summary" in shown) == (200, False)
    here.simulator.fleet.set_state(made["request_id"], State.READY)
    assert here.simulator.ledger.deployments[0].state is State.TERMINATING


async def test_a_fault_of_the_simulators_own_is_heard_at_its_end(wait_until: WaitUntil) -> None:
    def break_down(_at: float) -> None:
        raise LookupError("broken")

    async def serve() -> None:
        async with EdgegapSimulator() as simulator:
            simulator.fleet._schedule(0.0, break_down)
            await wait_until(lambda: simulator._playing is not None and simulator._playing.done())

    with pytest.raises(LookupError, match="broken"):
        await serve()
