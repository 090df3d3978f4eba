"""`allocator orphans`: what a person sees, what is stopped for them and what is not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from allocator.cli import orphans as command
from allocator.cli.main import app
from allocator.engine.observer import SessionStopped
from allocator.service import process
from allocator.service.settings_model import Settings
from tests.reconciler.sightings import grow_old, land

if TYPE_CHECKING:
    from tests.conftest import TestServer, WaitUntil
    from tests.engine.conftest import Fleet

Say = Callable[..., Awaitable[tuple[int, dict[str, Any], str]]]
HOUR_SECONDS = 3600


def settings(fleet: Fleet, **changes: Any) -> Settings:
    gameye = {"base_url": fleet.simulator.base_url, "account": "studio", "token": "secret", "timeout_seconds": 3}
    given = {"deployment": "tests", "namespace": fleet.keys.namespace, "redis": {"url": fleet.url}, "gameye": gameye}
    return Settings(**given | changes)


@pytest.fixture
def orphans(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run the command: its exit code, its JSON (or its lines under `text`), and what it complains of."""

    async def run(*stop: str, text: bool = False, **changes: Any) -> tuple[int, dict[str, Any], str]:
        capsys.readouterr()
        code = await command._ask(settings(fleet, **changes), stop, as_json=not text)
        out, err = capsys.readouterr()
        return code, ({"text": out} if text else json.loads(out)) if out else {}, err

    return run


async def refused(orphans: Say, session_id: str, said: str, **changes: Any) -> None:
    code, found, _ = await orphans(session_id, **changes)
    (stop,) = found["stops"]
    assert (code, stop["result"]) == (1, "refused")
    assert said in stop["message"]


async def test_without_orphans_it_says_so(fleet: Fleet, orphans: Say) -> None:
    await fleet.begin()
    await fleet.worker()
    await fleet.send(id="m-1")
    await fleet.ended("m-1")
    grow_old(fleet)
    assert await orphans() == (0, {"orphans": [], "stops": [], "failures": {}}, "")
    assert await orphans(text=True) == (0, {"text": "no orphans\n"}, "")


async def test_it_lists_at_the_provider_without_a_worker(fleet: Fleet, orphans: Say) -> None:
    await fleet.begin()
    member = await fleet.worker()
    await land(member, fleet, "s-1", "m-1")
    await member.drain()
    grow_old(fleet)
    code, found, err = await orphans()
    (orphan,) = found["orphans"]
    assert (code, err) == (0, "")
    assert 3 * HOUR_SECONDS <= orphan.pop("age_seconds") < 3 * HOUR_SECONDS + 60
    assert orphan.pop("created_at") == fleet.alive()[0].created_at_ms
    assert orphan == {
        "provider": "gameye",
        "session_id": "s-1",
        "location": "europe",
        "age": "3h00m",
        "request_id": "m-1",
        "kind": "unexplained",
    }
    _, lines, _ = await orphans(text=True)
    assert lines["text"] == "gameye  s-1  europe  3h00m  m-1  unexplained\n"


async def test_an_orphan_is_condemned_and_stopped_when_a_person_asks(
    fleet: Fleet, orphans: Say, wait_until: WaitUntil
) -> None:
    await fleet.begin()
    member = await fleet.worker()
    await fleet.send(id="m-1")
    (answer,) = await fleet.ended("m-1")
    await land(member, fleet, "stray", "m-1")
    await land(member, fleet, "lost", "m-2")
    grow_old(fleet)
    code, found, _ = await orphans("stray")
    assert (code, [each["session_id"] for each in found["orphans"]]) == (0, ["stray", "lost"])
    assert found["stops"] == [{"session_id": "stray", "result": "stopped", "message": ""}]
    assert await fleet.connection.execute("ZSCORE", fleet.keys.condemned, "gameye/stray")
    note: bytes = await fleet.connection.execute("HGET", fleet.keys.condemned_notes, "gameye/stray")
    assert note.decode().endswith(" orphan")
    assert {session.id for session in fleet.alive()} == {answer["session_id"], "lost"}
    _, lines, _ = await orphans("lost", text=True)
    assert lines["text"].splitlines()[1:] == ["lost  stopped"]
    await fleet.assert_one_session_each(["m-1"])


async def test_a_stop_that_fails_is_left_to_the_workers(fleet: Fleet, orphans: Say, wait_until: WaitUntil) -> None:
    await fleet.begin()
    member = await fleet.worker()
    await land(member, fleet, "lost", "m-1")
    grow_old(fleet)
    provider = type(member.parts.providers["gameye"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "CALL_SECONDS", 3.0)
        patch.setattr(provider, "stop", _broken)
        code, found, _ = await orphans("lost")
    (stop,) = found["stops"]
    assert (code, stop["result"]) == (1, "failed")
    assert "go on trying" in stop["message"]
    await wait_until(lambda: SessionStopped("gameye", "lost", "orphan") in member.events)
    assert fleet.alive() == []


async def _broken(*_: Any, **__: Any) -> Any:
    from allocator.providers.provider import StopFailed

    return StopFailed("out of order", 503)


async def test_what_is_in_play_is_never_stopped(fleet: Fleet, orphans: Say) -> None:
    await fleet.begin()
    await fleet.worker()
    await fleet.send(id="m-1")
    (answer,) = await fleet.ended("m-1")
    grow_old(fleet)
    await refused(orphans, answer["session_id"], "allocator cancel m-1")
    for key in (fleet.keys.record("m-1"), fleet.keys.allocation("m-1")):
        copy = await fleet.connection.execute("DUMP", key)
        await fleet.connection.execute("DEL", key)
        await refused(orphans, answer["session_id"], "in play")
        await fleet.connection.execute("RESTORE", key, 3_600_000, copy)
    assert len(fleet.alive()) == 1


async def test_what_comes_into_play_meanwhile_is_refused_by_redis_itself(
    fleet: Fleet, orphans: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fleet.begin()
    member = await fleet.worker()
    await land(member, fleet, "s-1", "m-1")
    grow_old(fleet)
    judge = command._Look._refusal

    async def then_committed(self: Any, session_id: str) -> str | None:
        judged = await judge(self, session_id)
        words = ("final", "allocated", "session", "s-1")
        await fleet.connection.execute("HSET", fleet.keys.record("m-1"), *words)
        return judged

    monkeypatch.setattr(command._Look, "_refusal", then_committed)
    await refused(orphans, "s-1", "in play")
    assert len(fleet.alive()) == 1


async def test_what_is_not_ours_to_stop_is_refused(fleet: Fleet, orphans: Say) -> None:
    from allocator.contract.request import MARK, NAMESPACE_MARK

    await fleet.begin()
    member = await fleet.worker()
    await land(member, fleet, "other deployment", "m-1", **{MARK: "theirs"})
    await land(member, fleet, "other namespace", "m-1", **{NAMESPACE_MARK: "other"})
    await land(member, fleet, "unlabelled", None)
    await land(member, fleet, "condemned", "m-1")
    await fleet.connection.execute("ZADD", fleet.keys.condemned, 1e15, "gameye/condemned")
    grow_old(fleet)
    await land(member, fleet, "young", "m-1")
    await refused(orphans, "nowhere", "no session of this id")
    await refused(orphans, "other deployment", "no session of this id")
    await refused(orphans, "other namespace", "namespace 'other'")
    await refused(orphans, "unlabelled", "no label says")
    await refused(orphans, "condemned", "the workers stop it")
    await refused(orphans, "young", "too young")
    assert len(fleet.alive()) == 5


async def test_a_redis_that_knows_nothing_of_the_namespace_speaks_for_no_stop(fleet: Fleet, orphans: Say) -> None:
    from allocator.contract.request import NAMESPACE_MARK

    await fleet.begin()
    member = await fleet.worker()
    await land(member, fleet, "s-1", "m-1", **{NAMESPACE_MARK: "empty"})
    grow_old(fleet)
    await refused(orphans, "s-1", "check redis.url", namespace="empty")
    assert await fleet.connection.execute("KEYS", "{empty}:*") == []
    assert len(fleet.alive()) == 1


async def test_a_namespace_of_another_deployment_exits_2(fleet: Fleet, orphans: Say) -> None:
    await fleet.begin()
    await fleet.worker()
    code, found, err = await orphans(deployment="theirs")
    assert (code, found) == (2, {})
    assert "belongs to the deployment 'tests'" in err


async def test_after_a_loss_it_warns_that_a_match_may_play_on_an_orphan(fleet: Fleet, orphans: Say) -> None:
    await fleet.begin()
    member = await fleet.worker()
    await land(member, fleet, "s-1", "m-1")
    grow_old(fleet)
    await fleet.connection.execute("HSET", fleet.keys.history, "since", member.parts.broker.now_ms())
    code, _, err = await orphans(text=True)
    assert code == 0
    assert err.startswith("Redis lost data at 20")


async def test_a_provider_that_cannot_be_listed_exits_3_and_stops_nothing(fleet: Fleet, orphans: Say) -> None:
    await fleet.begin()
    await fleet.worker()
    closed = {"base_url": "http://127.0.0.1:1", "account": "studio", "token": "secret"}
    code, found, err = await orphans("s-1", gameye=closed)
    assert (code, found["orphans"], list(found["failures"])) == (3, [], ["gameye"])
    assert found["stops"][0]["result"] == "refused"
    assert "cannot be listed" in err
    assert "secret" not in err


async def test_no_control_character_reaches_the_terminal(fleet: Fleet, orphans: Say) -> None:
    await fleet.begin()
    member = await fleet.worker()
    await land(member, fleet, "s\x1b[2J", "m\x07-1")
    grow_old(fleet)
    for text in (True, False):
        _, found, _ = await orphans("x\x1b", text=text)
        assert "\x1b" not in found.get("text", "")
    assert "s\\x1b[2J" in (await orphans(text=True))[1]["text"]


def test_a_redis_that_is_away_exits_3_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "run_loop", asyncio.run)  # the process's own collector settings stay out of the suite
    gameye = ("--set", "gameye.base_url=http://127.0.0.1:1", "--set", "gameye.token=t", "--set", "gameye.account=a")
    here = ("--set", "deployment=d", "--set", "redis.url=redis://127.0.0.1:1/0")
    result = CliRunner().invoke(app, ["orphans", *here, *gameye])
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.count("\n") == 1


def test_a_missing_setting_exits_2(redis_server: TestServer, redis_url: str) -> None:
    result = CliRunner().invoke(app, ["orphans", "--set", f"redis.url={redis_url}"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "deployment" in result.stderr
