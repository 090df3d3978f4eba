"""What a caller of the simulated Gameye sees when things go wrong on purpose, and what the ledger then holds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest

from allocator.simulator.dice import Dice
from allocator.simulator.gameye import (
    Clock,
    Dropped,
    Fault,
    GameyeSimulator,
    How,
    HtmlBody,
    Late,
    LostReply,
    MalformedBody,
    NewFields,
    Operation,
    Redirect,
    RegionSettings,
    RetryAfter,
    SimulatorSettings,
    Slow,
    Status,
    StatusFault,
)

BODY = {"location": "europe", "image": "arena", "id": "m-1"}
WALL = 1_700_000_000.0


class Bench:
    """A simulator whose clock and sleeps are the test's, and a client of it."""

    def __init__(self, simulator: GameyeSimulator, http: aiohttp.ClientSession) -> None:
        self.simulator = simulator
        self.http = http
        self.now = 0.0
        self.slept: list[float] = []

    def apply(self, *faults: Fault, **settings: Any) -> None:
        self.simulator.apply(SimulatorSettings(faults=faults, **settings))

    async def call(self, method: str = "POST", path: str = "/session", body: Any = BODY) -> tuple[int, bytes]:
        async with self.http.request(method, path, json=body, allow_redirects=False) as answer:
            return answer.status, await answer.read()

    @property
    def started(self) -> list[str]:
        return [session.id for session in self.simulator.ledger.sessions]

    @property
    def answered(self) -> list[int | None]:
        return [post.status for post in self.simulator.ledger.posts]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    benches: list[Bench] = []

    async def sleep(seconds: float) -> None:
        benches[0].slept.append(seconds)
        await asyncio.sleep(0)

    clock = Clock(monotonic=lambda: benches[0].now if benches else 0.0, wall=lambda: WALL, sleep=sleep)
    async with (
        GameyeSimulator(clock=clock) as simulator,
        aiohttp.ClientSession(simulator.base_url, headers={"Authorization": "Bearer any"}) as http,
    ):
        benches.append(Bench(simulator, http))
        yield benches[0]


@pytest.mark.parametrize("status", [500, 503, 504])
async def test_a_status_before_creating_creates_nothing(bench: Bench, status: int) -> None:
    bench.apply(StatusFault(status=status, times=1))
    assert (await bench.call())[0] == status
    assert bench.started == []
    assert (await bench.call())[0] == 201
    assert bench.answered == [status, 201]


@pytest.mark.parametrize(("fault", "created"), [(LostReply(), ["m-1"]), (Dropped(), [])])
async def test_a_reset_connection_says_nothing_of_what_was_done(bench: Bench, fault: Fault, created: list[str]) -> None:
    bench.apply(fault)
    with pytest.raises(aiohttp.ClientError):
        await bench.call()
    assert bench.started == created
    assert bench.answered == [None]
    assert bench.simulator.ledger.posts_by_status() == {"europe": {"none": 1}}


async def test_an_answer_that_hangs_ends_when_the_caller_gives_up(bench: Bench, wait_until: Callable[..., Any]) -> None:
    bench.apply(LostReply(how=How.HANG))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bench.call(), 0.1)
    assert bench.started == ["m-1"]
    before = len(asyncio.all_tasks())
    await wait_until(lambda: len(asyncio.all_tasks()) <= before)


async def test_a_simulator_ends_though_a_caller_hangs_on_it(wait_until: Callable[..., Any]) -> None:
    settings = SimulatorSettings(faults=(LostReply(how=How.HANG),))
    async with GameyeSimulator(settings) as simulator, aiohttp.ClientSession(simulator.base_url) as http:
        call = asyncio.ensure_future(http.post("/session", json=BODY, headers={"Authorization": "Bearer any"}))
        await wait_until(lambda: simulator.ledger.sessions)
        async with asyncio.timeout(5):
            await simulator.__aexit__(None, None, None)
        with pytest.raises(aiohttp.ClientError):
            await call


async def test_a_late_session_is_unknown_until_it_lands(bench: Bench) -> None:
    bench.apply(Late(after_seconds=4, times=1))
    assert (await bench.call())[0] == 504
    assert (await bench.call("GET", "/session/m-1", None))[0] == 404
    assert (await bench.call("DELETE", "/session/m-1", None))[0] == 404
    bench.now = 4.0
    status, raw = await bench.call("GET", "/session/m-1", None)
    assert (status, json.loads(raw)["status"]) == (200, "running")


async def test_a_late_session_may_come_without_any_answer(bench: Bench) -> None:
    bench.apply(Late(after_seconds=4, how=How.RESET))
    with pytest.raises(aiohttp.ClientError):
        await bench.call()
    assert bench.started == []
    bench.now = 4.0
    assert bench.started == ["m-1"]


async def test_a_malformed_answer_comes_after_the_session(bench: Bench) -> None:
    bench.apply(MalformedBody())
    status, raw = await bench.call()
    assert status == 201
    with pytest.raises(json.JSONDecodeError):
        json.loads(raw)
    assert bench.started == ["m-1"]


async def test_a_proxys_page_and_a_redirect_create_nothing(bench: Bench) -> None:
    bench.apply(HtmlBody(times=1), Redirect(to="http://elsewhere.invalid/"))
    status, raw = await bench.call()
    assert (status, raw[:6]) == (502, b"<html>")
    async with bench.http.post("/session", json=BODY, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (307, "http://elsewhere.invalid/")
    assert bench.started == []


async def test_slowness_and_latency_add_up_and_the_session_is_there_meanwhile(bench: Bench) -> None:
    bench.apply(Slow(latency_ms=(250, 250)), regions={"europe": RegionSettings(latency_ms="50-150")})
    async with asyncio.timeout(5):
        assert (await bench.call())[0] == 201
    assert len(bench.slept) == 1
    assert 0.3 <= bench.slept[0] <= 0.4


async def test_a_session_runs_once_its_start_is_answered(wait_until: Callable[..., Any]) -> None:
    answered = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        await answered.wait()

    settings = SimulatorSettings(regions={"europe": RegionSettings(latency_ms=100)})
    async with (
        GameyeSimulator(settings, clock=Clock(sleep=sleep)) as simulator,
        aiohttp.ClientSession(simulator.base_url, headers={"Authorization": "Bearer any"}) as http,
    ):
        call = asyncio.ensure_future(http.post("/session", json=BODY))
        await wait_until(lambda: simulator.ledger.sessions)
        async with http.get("/session/m-1") as meanwhile:
            assert (await meanwhile.json())["status"] == "created"
        answered.set()
        async with await call as answer:
            assert answer.status == 201
        assert simulator.ledger.sessions[0].status is Status.RUNNING


async def test_by_default_some_answers_name_a_port_twice_and_new_fields_come_on_request(bench: Bench) -> None:
    bench.simulator.apply(SimulatorSettings())
    counts = []
    for number in range(100):
        _, raw = await bench.call(body={**BODY, "id": str(number)})
        ports = json.loads(raw)["ports"]
        assert all(port == ports[0] for port in ports)
        counts.append(len(ports))
    assert 5 <= counts.count(2) <= 45
    bench.apply(NewFields(on=(Operation.START, Operation.FIND)))
    _, raw = await bench.call()
    assert json.loads(raw).keys() > {"id", "host", "ports"}
    _, raw = await bench.call("GET", "/session/m-1", None)
    assert "provisioner" in json.loads(raw)


@pytest.mark.parametrize("operation", list(Operation))
async def test_a_fault_strikes_the_operations_that_it_names(bench: Bench, operation: Operation) -> None:
    bench.apply(StatusFault(status=500, on=(operation,)))
    calls: dict[Operation, tuple[str, str, Any]] = {
        Operation.START: ("POST", "/session", BODY),
        Operation.LIST: ("GET", "/session", None),
        Operation.FIND: ("GET", "/session/m-1", None),
        Operation.STOP: ("DELETE", "/session/m-1", None),
        Operation.JOIN: ("PUT", "/session/player/join", {"session": "m-1", "players": ["a"]}),
        Operation.LEAVE: ("DELETE", "/session/player/leave", {"players": ["a"]}),
        Operation.LOCATIONS: ("GET", "/available-location/arena", None),
        Operation.TAG: ("GET", "/tag/europe/arena/v1", None),
        Operation.LOGS: ("GET", "/logs?id=m-1", None),
        Operation.ARTIFACTS: ("GET", "/artifacts?session=m-1&path=/x", None),
    }
    struck = {each for each, call in calls.items() if (await bench.call(*call))[0] == 500}
    assert struck == {operation}


async def test_a_lost_stop_stopped_the_session(bench: Bench) -> None:
    bench.apply(LostReply(on=(Operation.STOP,)))
    await bench.call()
    with pytest.raises(aiohttp.ClientError):
        await bench.call("DELETE", "/session/m-1", None)
    assert bench.simulator.ledger.sessions[0].status is Status.EXITED


async def test_a_fault_of_one_region_spares_the_others(bench: Bench) -> None:
    bench.apply(StatusFault(regions=("europe",)), StatusFault(on=(Operation.FIND,), regions=("us-east",)))
    assert (await bench.call())[0] == 500
    assert (await bench.call(body={**BODY, "location": "us-east"}))[0] == 201
    assert (await bench.call("GET", "/session/m-1", None))[0] == 500
    assert (await bench.call(body={**BODY, "id": "m-2", "location": "asia"}))[0] == 201
    assert (await bench.call("GET", "/session/m-2", None))[0] == 200


@pytest.mark.parametrize("status", [420, 429, 503])
async def test_retry_after_comes_in_both_forms(bench: Bench, status: int) -> None:
    region = RegionSettings(closed=status, retry_after=RetryAfter(seconds=6.5, form="date"))
    bench.apply(regions={"europe": region, "asia": RegionSettings(closed=status)}, retry_after=RetryAfter(seconds=2.5))
    async with bench.http.post("/session", json=BODY) as answer:
        assert answer.status == status
        assert parsedate_to_datetime(answer.headers["Retry-After"]).timestamp() == int(WALL + 6.5)
    async with bench.http.post("/session", json={**BODY, "location": "asia"}) as answer:
        assert answer.headers["Retry-After"] == "3"
    async with bench.http.post("/session", json={**BODY, "location": "nowhere"}) as answer:
        assert "Retry-After" not in answer.headers


def test_the_same_seed_gives_the_same_faults_and_a_new_fault_changes_no_other() -> None:
    def struck(*faults: Fault, seed: int = 7) -> list[bool]:
        dice = Dice(faults, seed)
        return [isinstance(dice.cast(Operation.START, "europe").decisive, StatusFault) for _ in range(200)]

    one = StatusFault(probability=0.3)
    assert struck(one) == struck(one)
    assert struck(one) != struck(one, seed=8)
    assert struck(one) == struck(one, Slow(probability=0.5))
    assert 30 <= sum(struck(one)) <= 90


async def test_following_a_log_ends_with_its_session(bench: Bench, wait_until: Callable[..., Any]) -> None:
    await bench.call()
    async with bench.http.get("/logs?id=m-1&follow=true") as answer:
        assert answer.content_type == "text/plain"
        assert b"starts" in await answer.content.readline()
        bench.simulator.fleet.stop("m-1")
        async with asyncio.timeout(5):
            assert b"ends: stopped" in await answer.content.read()


async def test_the_list_goes_by_all_its_filters(bench: Bench) -> None:
    for number, location in enumerate(["europe", "europe", "asia"]):
        labels = {"mode": "duel" if number else "free"}
        await bench.call(body={**BODY, "id": str(number), "location": location, "labels": labels, "version": "v1"})
    bench.simulator.fleet.stop("1")
    bench.simulator.fleet.join("2", ("ann", "bob"))
    host = bench.simulator.ledger.sessions[2].host
    expected = {
        "": {"0", "2"},
        "all=true": {"0", "1", "2"},
        "all=false": {"0", "2"},
        "all=true&location=europe": {"0", "1"},
        "image=arena&tag=v1": {"0", "2"},
        "image=other": set(),
        "tag=v2": set(),
        f"host={host}": {"2"},
        "playerCount[gt]=1": {"2"},
        "playerCount[lt]=2&playerCount[gt]=-1": {"0"},
        "all=true&filter[mode]=duel": {"1", "2"},
        "filter[mode]=Duel": set(),
        "filter[none]=": set(),
    }
    for query, ids in expected.items():
        _, raw = await bench.call("GET", f"/session?{query}", None)
        assert {session["id"] for session in json.loads(raw)["sessions"]} == ids, query
