"""Two hosts behind one region: what Gameye has no room for goes to Edgegap, and nothing is left there twice."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import pytest

from allocator.contract.identity import session_id
from allocator.engine import reconciler
from allocator.engine.observer import GateShut, Slowed
from allocator.providers.edgegap import follower
from allocator.providers.edgegap.tags import key_tag
from allocator.service.admin import AdminServer
from allocator.simulator import edgegap as simulated
from allocator.simulator.edgegap import EdgegapSimulator, RateSettings, SimulatorSettings, State
from allocator.simulator.gameye import RegionSettings

if TYPE_CHECKING:
    from tests.engine.conftest import Fleet, Member

TOLD = tuple(simulated.Operation(name) for name in ("deploy", "stop", "list", "status"))
LONG = os.environ.get("LONG_TESTS") == "1"
FULL = {"europe": RegionSettings(capacity=0)}
EVERYWHERE: dict[str, Any] = {
    "eu": {"destinations": ({"provider": "gameye", "location": "europe", "rate": 1000}, "amsterdam")},
    "edge": {"destinations": ("amsterdam", "new-york")},
    "ams": {"destinations": ("amsterdam",)},
}
NAMED = {"application": "my-game-eg", "version": "v7"}
PLACES = {"amsterdam": {"lat": 52.37, "lon": 4.89}, "new-york": {"lat": 40.71, "lon": -74.01}}


class Host:
    """A simulated Edgegap, and workers that know it."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.settings = SimulatorSettings(start_seconds=(0.1, 0.6), stop_seconds=0.1)
        self.simulator = EdgegapSimulator(self.settings)

    def apply(self, **options: Any) -> None:
        """Let it behave otherwise from now on."""
        self.settings = self.settings.model_copy(update=options)
        self.simulator.apply(self.settings)

    async def worker(self, regions: dict[str, Any] | None = None, **edgegap: Any) -> Member:
        table = {
            "token": "token secret",
            "base_url": self.simulator.base_url,
            "account": "studio",
            "locations": PLACES,
            "timeout_seconds": 2,
            "ready_timeout_seconds": 5,
        }
        return await self.fleet.worker(
            edgegap={**table, **edgegap},
            regions={name: _region(region) for name, region in (regions or EVERYWHERE).items()},
            default_regions=("eu",),
            worker={"concurrency": 512},
            catalog={"game": {"ports": {"game": "7777/udp"}, "edgegap": NAMED}},
        )

    @property
    def serving(self) -> set[str]:
        return {deployment.request_id for deployment in self.simulator.ledger.serving()}

    def assert_within_rates(self) -> None:
        most = self.simulator.ledger.calls_per_second_max()
        limits = {"deploy": 40, "status": 20, "list": 10}
        assert {kind: count for kind, count in most.items() if count > limits.get(kind, count)} == {}
        assert not any("429" in statuses for statuses in self.simulator.ledger.calls_by_status().values())

    async def assert_one_each(self, request_ids: list[str], wait_until: Any) -> None:
        """What was recorded serves, and nothing else does."""
        answers = await self.fleet.answers(request_ids)
        recorded = Counter(each["session_id"] for each in answers if each.get("provider") == "edgegap")
        assert set(recorded.values()) <= {1}
        await wait_until(lambda: self.serving == set(recorded), timeout_seconds=20)


def _region(region: dict[str, Any]) -> dict[str, Any]:
    places = [
        each if isinstance(each, dict) else {"provider": "edgegap", "location": each, "rate": 1000}
        for each in region["destinations"]
    ]
    return {"destinations": places}


async def reconcile(member: Member) -> None:
    """One pass, as it is made every half minute."""
    assert member.worker._reconciler is not None
    await member.worker._reconciler.look()


@pytest.fixture
async def host(fleet: Fleet) -> AsyncIterator[Host]:
    host = Host(fleet)
    await fleet.begin(FULL)
    async with host.simulator:
        yield host
        await fleet.end()


@pytest.mark.parametrize("location", ["amsterdam", "by-players"])
async def test_a_start_that_came_too_fast_lowers_the_rate_and_shuts_nothing(host: Host, location: str) -> None:
    host.apply(rates=RateSettings(deploy=10), start_seconds=(0.05, 0.1))
    places = {"here": {"destinations": ({"provider": "edgegap", "location": location, "rate": 40},)}}
    member = await host.worker(places)
    ids = await host.fleet.send_many(20, regions=["here"], players=[{"ip": "192.0.2.1"}])
    answers = await host.fleet.ended(*ids, seconds=20)
    assert {each["state"] for each in answers} == {"allocated"}
    assert member.seen(Slowed)
    assert member.seen(GateShut) == []


async def test_what_gameye_has_no_room_for_is_served_by_edgegap_within_its_rates(host: Host, wait_until: Any) -> None:
    if LONG:
        host.apply(start_seconds=(0.5, 3.0))
    for _ in range(2):
        await host.worker()
    ids = await host.fleet.send_many(200 if LONG else 60)
    answers = await host.fleet.ended(*ids, seconds=30)
    assert {(each["state"], each.get("provider"), each.get("location")) for each in answers} == {
        ("allocated", "edgegap", "amsterdam")
    }
    made = {deployment.request_id: deployment for deployment in host.simulator.ledger.deployments}
    for request_id, answer in zip(ids, answers, strict=True):
        deployment = made[answer["session_id"]]
        (port,) = json.loads(answer["ports"])
        assert (answer["host"], port["port"]) == (deployment.host, deployment.ports[0].external)
        assert (port["name"], answer["endpoint"]) == ("game", f"{deployment.host}:{port['port']}")
        assert answer["session_key"] == session_id("tests", request_id, 1)
        assert key_tag(answer["session_key"]) in deployment.tags
        assert (deployment.application, deployment.version) == ("my-game-eg", "v7")
        assert int(answer["expires_at"]) - int(answer["allocated_at"]) == 24 * 3600 * 1000
        assert json.loads(answer["attempts"])[-1]["outcome"] == "created"
    assert len(made) == len(ids)
    host.assert_within_rates()
    await host.assert_one_each(ids, wait_until)


async def test_a_lost_reply_is_resolved_by_the_tag_and_starts_no_second_deployment(host: Host, wait_until: Any) -> None:
    host.apply(faults=(simulated.LostReply(times=3),))
    await host.worker()
    ids = await host.fleet.send_many(6, regions=["edge"])
    answers = await host.fleet.ended(*ids)
    assert {answer["state"] for answer in answers} == {"allocated"}
    assert len(host.simulator.ledger.deployments) == 6
    outcomes = [json.loads(answer["attempts"])[-1]["outcome"] for answer in answers]
    assert outcomes.count("adopted") == 3
    await host.assert_one_each(ids, wait_until)


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (simulated.Failed(locations=("amsterdam",)), "unavailable"),
        (simulated.NeverReady(locations=("amsterdam",), seconds=2.5), "unavailable"),
        (simulated.Unplaced(locations=("amsterdam",)), "no_capacity"),
    ],
    ids=["error", "never_ready", "unplaced"],
)
async def test_what_never_serves_is_stopped_and_the_match_goes_on(
    host: Host, wait_until: Any, monkeypatch: pytest.MonkeyPatch, fault: Any, outcome: str
) -> None:
    monkeypatch.setattr(follower, "DOUBT_SECONDS", 0.5)
    host.apply(faults=(fault,))
    await host.worker(ready_timeout_seconds=1.2)
    ids = await host.fleet.send_many(2, regions=["edge"])
    answers = await host.fleet.ended(*ids, seconds=20)
    assert {(each["state"], each.get("location")) for each in answers} == {("allocated", "new-york")}
    assert outcome in {json.loads(answer["attempts"])[0]["outcome"] for answer in answers}
    await wait_until(
        lambda: all(
            each.state is State.TERMINATED or each.request_id in {answer["session_id"] for answer in answers}
            for each in host.simulator.ledger.deployments
        ),
        timeout_seconds=20,
    )
    await host.assert_one_each(ids, wait_until)


async def test_a_pending_deployment_of_a_dead_worker_is_waited_for_and_adopted(host: Host, wait_until: Any) -> None:
    host.apply(start_seconds=(2.5, 2.5))
    dying = await host.worker()
    ids = await host.fleet.send_many(4, regions=["ams"])
    await wait_until(lambda: len(host.simulator.ledger.deployments) == 4)
    await dying.cut()
    await host.worker()
    answers = await host.fleet.ended(*ids)
    assert [json.loads(answer["attempts"])[-1]["outcome"] for answer in answers] == ["adopted"] * 4
    assert len(host.simulator.ledger.deployments) == 4
    assert {answer["endpoint"] for answer in answers} == {
        f"{each.host}:{each.ports[0].external}" for each in host.simulator.ledger.deployments
    }
    await host.assert_one_each(ids, wait_until)


async def test_a_pending_deployment_of_a_dead_worker_that_is_never_ready_is_left_behind_and_stopped(
    host: Host, wait_until: Any
) -> None:
    host.apply(faults=(simulated.NeverReady(seconds=3.5, times=1),))
    dying = await host.worker()
    await host.fleet.send(id="m-1", regions=["ams"])
    await wait_until(lambda: len(host.simulator.ledger.deployments) == 1)
    await dying.cut()
    await host.worker(timeout_seconds=0.5, ready_timeout_seconds=1)
    (answer,) = await host.fleet.ended("m-1")
    never_ready, serves = host.simulator.ledger.deployments
    assert (answer["state"], answer["session_id"]) == ("allocated", serves.request_id)
    assert answer["session_key"] == session_id("tests", "m-1", 2)
    await wait_until(lambda: never_ready.stop_asked_at_ms is not None and never_ready.state is State.TERMINATED)
    await host.assert_one_each(["m-1"], wait_until)


async def test_a_doubled_create_leaves_the_one_that_was_told_of(
    host: Host, wait_until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "TURN_MS", 1)
    host.apply(faults=(simulated.Doubled(times=1),))
    member = await host.worker()
    await host.fleet.send(id="m-1", regions=["ams"])
    (answer,) = await host.fleet.ended("m-1")
    await wait_until(lambda: len(host.serving) == 2)
    await reconcile(member)
    await host.assert_one_each(["m-1"], wait_until)
    assert host.serving == {answer["session_id"]}
    assert await host.fleet.answer("m-1") == answer


async def test_a_release_stops_the_deployment_by_our_id(host: Host, wait_until: Any) -> None:
    await host.worker()
    await host.fleet.send(id="m-1", regions=["ams"])
    await host.fleet.ended("m-1")
    await host.fleet.connection.execute("XADD", host.fleet.keys.cancellations, "*", "id", "m-1")

    async def released() -> bool:
        return (await host.fleet.answer("m-1"))["state"] == "released"

    await wait_until(released)
    await wait_until(lambda: not host.serving)


async def test_after_a_loss_of_redis_requests_sent_again_keep_what_they_play_on_or_wait_for(
    host: Host, wait_until: Any
) -> None:
    await host.worker()
    await host.fleet.send(id="plays", regions=["ams"])
    (before,) = await host.fleet.ended("plays")
    host.apply(start_seconds=(2, 2))
    await host.fleet.send(id="waits", regions=["ams"])
    await wait_until(lambda: len(host.simulator.ledger.deployments) == 2)
    await host.fleet.connection.execute("FLUSHALL")
    for name in ("plays", "waits"):
        await host.fleet.send(id=name, regions=["ams"])
    plays, waits = await host.fleet.ended("plays", "waits", seconds=20)
    assert (plays["session_id"], plays["endpoint"]) == (before["session_id"], before["endpoint"])
    assert {plays["session_id"], waits["session_id"]} == host.serving
    assert len(host.simulator.ledger.deployments) == 2
    assert [json.loads(each["attempts"])[-1]["outcome"] for each in (plays, waits)] == ["adopted"] * 2


@pytest.mark.parametrize(("asks", "why"), [({"args": ["-x"]}, "args"), ({"ttl": "1h"}, "ttl")])
async def test_what_edgegap_cannot_do_passes_it_over_without_a_call(host: Host, asks: dict[str, Any], why: str) -> None:
    host.fleet.apply({"europe": RegionSettings()})
    both = {"mixed": {"destinations": ("amsterdam", {"provider": "gameye", "location": "europe", "rate": 1000})}}
    await host.worker({**both, "ams": EVERYWHERE["ams"], "eu": EVERYWHERE["eu"]})
    await host.fleet.send(id="served", regions=["mixed"], **asks)
    await host.fleet.send(id="nowhere", regions=["ams"], **asks)
    served, nowhere = await host.fleet.ended("served", "nowhere")
    assert [(each["provider"], each["outcome"]) for each in json.loads(served["attempts"])] == [
        ("edgegap", "unsuitable"),
        ("gameye", "created"),
    ]
    assert (nowhere["state"], nowhere["error_code"]) == ("failed", "no_region")
    assert why in nowhere["error_message"]
    assert [each["outcome"] for each in json.loads(nowhere["attempts"])] == ["unsuitable"]
    assert not host.simulator.ledger.calls


async def test_faults_and_a_kill_leave_one_deployment_for_each_match(
    host: Host, wait_until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "TURN_MS", 1)
    host.apply(
        start_seconds=(0.2, 1.0),
        faults=(
            simulated.LostReply(probability=0.08, on=TOLD[:2]),
            simulated.StatusFault(probability=0.05, on=TOLD, status=500),
            simulated.Late(probability=0.05, after_seconds=1.0),
            simulated.Doubled(probability=0.08),
            simulated.Failed(probability=0.05),
            simulated.Unplaced(probability=0.02),
            simulated.NeverReady(probability=0.03, seconds=4.0),
        ),
    )
    dying = await host.worker(ready_timeout_seconds=3)
    member = await host.worker(ready_timeout_seconds=3)
    ids = await host.fleet.send_many(200 if LONG else 40, regions=["edge"], timeout_seconds=120)
    await wait_until(lambda: len(host.simulator.ledger.deployments) >= 20)
    await dying.cut()
    answers = await host.fleet.ended(*ids, seconds=110)
    assert Counter(answer["state"] for answer in answers) == {"allocated": len(ids)}
    # until nothing can land any more
    host.apply(faults=())

    async def one_each() -> bool:
        await reconcile(member)
        return host.serving == {answer["session_id"] for answer in answers}

    await wait_until(one_each, timeout_seconds=30)
    stopped = {each.request_id for each in host.simulator.ledger.deployments if each.stop_asked_at_ms is not None}
    assert stopped.isdisjoint(answer["session_id"] for answer in answers), "a live match was stopped"
    host.assert_within_rates()


async def test_pending_ones_are_told_within_two_seconds_though_half_the_webhooks_are_lost(
    host: Host, unused_tcp_port_factory: Callable[[], int]
) -> None:
    count = 400 if LONG else 60
    host.apply(
        start_seconds=(20, 32) if LONG else (1.6, 3),
        faults=(simulated.LostWebhook(probability=0.5),),
        rates=RateSettings() if LONG else RateSettings(deploy=None),
    )
    doors = []
    for _ in range(2):
        port = unused_tcp_port_factory()
        member = await host.worker(
            rate=40 if LONG else 1000, webhook_base_url=f"http://127.0.0.1:{port}", ready_timeout_seconds=60
        )
        doors.append(_door(member, port))
    async with doors[0], doors[1]:
        ids = await host.fleet.send_many(count, regions=["ams"], timeout_seconds=120)
        answers = await host.fleet.ended(*ids, seconds=110)
    ready_at_ms = {each.request_id: each.ready_at_ms or 0 for each in host.simulator.ledger.deployments}
    late_ms = [int(answer["allocated_at"]) - ready_at_ms[answer["session_id"]] for answer in answers]
    most = host.simulator.ledger.calls_per_second_max()
    host.fleet.measured(f"recorded {max(late_ms)} ms after READY at most, {most}")
    assert max(late_ms) <= 2000
    assert {notice.outcome for notice in host.simulator.ledger.notices} >= {"answered", "lost"}
    assert most["list"] <= 10
    assert most.get("status", 0) <= 20


def _door(member: Member, port: int) -> AdminServer:
    """The admin address of a worker, which webhooks come in by."""
    service = member._service
    return AdminServer(
        "127.0.0.1", port, registry=service.observers.registry, ready=_well, alive=_well, hooks=service.hooks
    )


def _well() -> None:
    """All is well."""


async def test_a_catalog_that_names_an_image_otherwise_meanwhile_loses_no_match_that_a_dead_worker_had(
    host: Host, wait_until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.apply(start_seconds=(1.0, 1.0))
    worker = await host.worker()
    await host.fleet.send(id="m-1", regions=["ams"], timeout_seconds=30)
    await wait_until(lambda: host.simulator.ledger.calls_by_status().get("deploy"))
    await worker.cut()
    monkeypatch.setitem(NAMED, "application", "my-game-renamed")
    await host.worker()
    (answer,) = await host.fleet.ended("m-1", seconds=20)
    assert answer["state"] == "allocated"
    assert host.serving == {answer["session_id"]}
