"""Ready checks, through the whole service: a match is allocated once its game answers, or goes on without it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from allocator.engine.observer import NotReady, SessionStopped
from allocator.engine.readiness import tcp_answers
from allocator.simulator.gameye import ImageSettings, RegionSettings

if TYPE_CHECKING:
    from tests.engine.conftest import Fleet, Member

PORTS = {"game": ImageSettings(ports=("7777/udp", "8080/tcp"))}
CATALOG = {"game": {"ready_check": "tcp:8080", "ready_timeout_seconds": 1}}
BOTH = {"europe": RegionSettings(), "us-east": RegionSettings()}


class Games:
    """Real TCP ports that stand for the games: made-up addresses lead to the one of their session's location."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._ports: dict[str, int] = {}
        self._servers: list[asyncio.Server] = []
        self.asked: list[str] = []

    async def listen(self, location: str) -> None:
        async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self._servers.append(server)
        self._ports[location] = server.sockets[0].getsockname()[1]

    def lead(self, member: Member) -> None:
        """Let a worker ask these instead of addresses that are nobody's."""
        member.parts.answers = self._answers

    async def _answers(self, host: str, port: int, timeout_seconds: float) -> bool:
        (session,) = [
            each
            for each in self._fleet.simulator.ledger.sessions
            if each.host == host and any((mapped.type, mapped.host) == ("tcp", port) for mapped in each.ports)
        ]
        self.asked.append(session.location)
        loop = asyncio.get_running_loop()
        ends = loop.time() + timeout_seconds
        while (left_seconds := ends - loop.time()) > 0:
            # where nobody listens yet, port 1 of this machine refuses
            found = self._ports.get(session.location, 1)
            if await tcp_answers("127.0.0.1", found, min(left_seconds, 0.05)):
                return True
        return False

    async def close(self) -> None:
        for server in self._servers:
            server.close()
            await server.wait_closed()


@pytest.fixture
async def games(fleet: Fleet) -> AsyncIterator[Games]:
    playing = Games(fleet)
    yield playing
    await playing.close()


async def test_a_match_is_allocated_only_once_its_game_answers(fleet: Fleet, games: Games, wait_until: Any) -> None:
    await fleet.begin(BOTH, images=PORTS)
    games.lead(await fleet.worker(catalog=CATALOG))
    await fleet.send(id="m-1", regions=["europe"])
    await wait_until(lambda: games.asked == ["europe"])
    assert len(fleet.alive()) == 1
    assert (await fleet.answer("m-1"))["state"] == "allocating"
    listening_at_ms = fleet.members[0].parts.broker.now_ms()
    await games.listen("europe")
    (answer,) = await fleet.ended("m-1")
    assert answer["state"] == "allocated"
    assert int(answer["allocated_at"]) >= listening_at_ms
    assert fleet.posts() == 1
    await fleet.assert_one_session_each(["m-1"])


async def test_a_session_that_never_gets_ready_is_stopped_and_the_match_goes_on_elsewhere(
    fleet: Fleet, games: Games, wait_until: Any
) -> None:
    await fleet.begin(BOTH, images=PORTS)
    await games.listen("us-east")
    member = await fleet.worker(catalog=CATALOG)
    games.lead(member)
    ids = await fleet.send_many(5, regions=["europe", "us-east"])
    answers = await fleet.ended(*ids)
    assert {(each["state"], each["region"]) for each in answers} == {("allocated", "us-east")}
    for each in answers:
        tried = json.loads(each["attempts"])
        assert [(attempt["region"], attempt["outcome"]) for attempt in tried] == [
            ("europe", "unavailable"),
            ("us-east", "created"),
        ]
    assert len(member.seen(NotReady)) == 5
    await wait_until(lambda: len(member.seen(SessionStopped)) == 5)
    await wait_until(lambda: {session.location for session in fleet.alive()} == {"us-east"})
    await fleet.assert_one_session_each(ids)


async def test_a_match_that_gets_no_game_by_its_deadline_expires_and_leaves_nothing(
    fleet: Fleet, games: Games, wait_until: Any
) -> None:
    await fleet.begin({"europe": RegionSettings()}, images=PORTS)
    games.lead(await fleet.worker(rates={"europe": 1000}, catalog=CATALOG))
    ids = await fleet.send_many(3, timeout_seconds=1.8)
    answers = await fleet.ended(*ids, seconds=5)
    assert {(each["state"], each["error_code"]) for each in answers} == {("expired", "unavailable")}
    assert all("8080/tcp did not answer" in each["error_message"] for each in answers)
    assert all(int(each["updated_at"]) - int(each["enqueued_at"]) <= 2800 for each in answers)
    await wait_until(lambda: not fleet.alive())
    await wait_until(fleet.nothing_is_left)


async def test_what_a_dead_worker_was_still_waiting_for_is_checked_by_the_next_before_it_is_told(
    fleet: Fleet, games: Games, wait_until: Any
) -> None:
    await fleet.begin({"europe": RegionSettings()}, images=PORTS)
    patient = {"game": {**CATALOG["game"], "ready_timeout_seconds": 20}}
    dying = await fleet.worker(rates={"europe": 1000}, catalog=patient)
    games.lead(dying)
    await fleet.send(id="m-1")
    await wait_until(lambda: games.asked == ["europe"])
    await dying.cut()
    games.lead(await fleet.worker(rates={"europe": 1000}, catalog=patient))
    await wait_until(lambda: games.asked == ["europe", "europe"])
    assert (await fleet.answer("m-1"))["state"] == "allocating"
    await games.listen("europe")
    (answer,) = await fleet.ended("m-1")
    assert answer["state"] == "allocated"
    # the one that was started is the one that is handed over
    assert fleet.posts() == 1
    await fleet.assert_one_session_each(["m-1"])


async def test_an_image_without_a_check_is_handed_over_at_once(fleet: Fleet, games: Games) -> None:
    await fleet.begin(BOTH, images={**PORTS, "other": ImageSettings()})
    games.lead(await fleet.worker(catalog=CATALOG))
    await fleet.send(id="m-1", image="other")
    (answer,) = await fleet.ended("m-1", seconds=2)
    assert answer["state"] == "allocated"
    assert not games.asked
