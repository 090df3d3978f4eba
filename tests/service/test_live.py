"""What may change while a worker runs: settings that are read again, levers over them, a file that is watched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from allocator.broker.broker import BrokerUnavailable
from allocator.broker.memory_levers import MemoryLevers
from allocator.broker.memory_store import MemoryStore
from allocator.contract.destination import Destination
from allocator.placement.plan import Place, Region
from allocator.providers.credential import RenewableCredential
from allocator.service.live import Live, Source
from allocator.service.live_credential import credential_of, renew
from allocator.service.live_file import LOOK_SECONDS, WatchedFile
from allocator.service.live_merge import Merged
from allocator.service.settings import load_settings

EUROPE, US = Destination("gameye", "europe"), Destination("gameye", "us-east")
FILE = """
deployment = "d"
default_regions = ["europe"]
redis.url = "redis://127.0.0.1:1/0"
gameye.token = "{token}"
gameye.rate = {account_rate}
regions.europe = {{ rate = {rate} }}
regions.west.destinations = [
  {{ provider = "gameye", location = "europe", rate = {rate} }}, {{ provider = "gameye", location = "us-east" }},
]
{more}
"""
FIRST = {"token": "first-token", "rate": 40, "account_rate": 200, "more": ""}
NOW_MS = 1_795_000_000_000


class Bench:
    """A `Live` over a file and a twin, and all that it was heard to say."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 0.0
        self.write()
        self.store = MemoryStore(lambda: NOW_MS)
        self.board = MemoryLevers(self.store)
        self.masked: list[str] = []
        self.told = 0
        settings = load_settings(path, {}, {})
        assert settings.gameye is not None
        self.credential: RenewableCredential = credential_of(
            settings.gameye, "gameye", report=self.masked.append, learn=self.masked.append
        )
        self.live = Live(
            settings,
            self.board,
            providers=("gameye",),
            account_of=lambda _: "studio",
            admit=self._admit,
            source=Source(lambda: load_settings(path, {}, {}), WatchedFile(path, monotonic=lambda: self.now)),
        )
        self.live.listen(self._hear)

    def write(self, **other: Any) -> None:
        self.path.write_text(FILE.format(**(FIRST | other)))

    async def read_again(self, **other: Any) -> list[Any]:
        """Write the file and ask for it; the log."""
        self.write(**other)
        self.live.reload()
        with capture_logs() as logs:
            await self.live.look()
        return logs

    @property
    def rates(self) -> tuple[float | None, float | None]:
        own, account = self.live.limits_of(EUROPE)
        return own.rate, account.rate

    def _hear(self) -> None:
        self.told += 1

    def _admit(self, merged: Merged) -> None:
        renew({"gameye": self.credential}, merged, report=self.masked.append, learn=self.masked.append)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "allocator.toml")


async def test_regions_and_limits_are_those_of_the_settings(bench: Bench) -> None:
    await bench.live.look()
    assert bench.live.region("europe") == Region((Place(EUROPE),))
    assert bench.live.region("west") == Region((Place(EUROPE), Place(US)))
    assert bench.live.region("atlantis") is None
    assert [limit.scope for limit in bench.live.limits_of(EUROPE)] == ["europe", "*"]
    assert bench.rates == (40, 200)
    assert bench.live.rates == {EUROPE: 40, US: 20}


async def test_nothing_is_taken_up_before_the_levers_are_known(bench: Bench) -> None:
    bench.store.away = True
    with pytest.raises(BrokerUnavailable):
        await bench.live.look()
    assert bench.live.paused
    bench.store.away = False
    await bench.live.look()
    assert (bench.live.paused, bench.told) == (False, 1)


async def test_a_pause_is_in_force_at_the_next_look_and_stays_while_redis_is_away(bench: Bench) -> None:
    await bench.live.look()
    await bench.board.pause(None)
    await bench.live.look()
    bench.store.away = True
    with pytest.raises(BrokerUnavailable):
        await bench.live.look()
    assert (bench.live.paused, bench.told) == (True, 2)


async def test_a_look_that_finds_nothing_new_tells_nobody(bench: Bench) -> None:
    await bench.live.look()
    with capture_logs() as logs:
        await bench.live.look()
    assert (bench.told, logs) == (1, [])


@pytest.mark.parametrize(
    ("for_ms", "sentence"),
    [(None, "drained by an operator"), (1_800_000, "drained by an operator until 2026-11-18 11:36 UTC")],
)
async def test_a_drained_region_says_why_and_until_when(bench: Bench, for_ms: int | None, sentence: str) -> None:
    await bench.board.drain("europe", for_ms)
    await bench.live.look()
    assert bench.live.region("europe") == Region((Place(EUROPE),), drained=sentence)
    assert bench.live.region("west") == Region((Place(EUROPE), Place(US)))
    await bench.board.resume_region("europe")
    await bench.live.look()
    assert bench.live.region("europe") == Region((Place(EUROPE),))


async def test_a_lever_s_rate_goes_before_the_settings_and_of_two_the_tighter(bench: Bench) -> None:
    await bench.board.set_rate("west", 7, None)
    await bench.live.look()
    assert bench.live.rates == {EUROPE: 7, US: 7}
    await bench.board.set_rate("europe", 90, None)
    await bench.live.look()
    assert bench.rates == (7, 200)
    await bench.board.resume_region("west")
    await bench.live.look()
    assert bench.live.rates == {EUROPE: 90, US: 20}


async def test_a_lever_on_a_region_that_is_not_known_changes_nothing(bench: Bench) -> None:
    await bench.board.drain("atlantis", None)
    await bench.board.set_rate("atlantis", 1, None)
    await bench.live.look()
    assert bench.live.region("atlantis") is None
    assert bench.live.rates == {EUROPE: 40, US: 20}


async def test_what_may_change_is_in_force_at_once_and_levers_stay_over_it(bench: Bench) -> None:
    await bench.board.set_rate("west", 7, None)
    await bench.live.look()
    logs = await bench.read_again(
        rate=50,
        account_rate=300,
        more="request_timeout_seconds = 30\nworker.max_gate_wait_seconds = 1\n"
        'regions.asia.rate = 5\ncatalog.g.ports.x = "1/udp"',
    )
    settings = bench.live.settings
    assert (settings.request_timeout_seconds, settings.worker.max_gate_wait_seconds) == (30, 1)
    assert settings.catalog["g"].port_names == {"1/udp": "x"}
    assert bench.live.region("asia") == Region((Place(Destination("gameye", "asia")),))
    assert bench.rates == (7, 300)
    (log,) = logs
    assert (log["event"], log["log_level"]) == ("settings read again", "info")
    assert {"gameye.rate", "regions.europe.rate", "request_timeout_seconds"} <= set(log["changed"])
    await bench.board.resume_region("west")
    await bench.live.look()
    assert bench.rates == (50, 300)


async def test_a_region_that_is_taken_out_is_unknown_at_once(bench: Bench) -> None:
    bench.path.write_text('deployment = "d"\nredis.url = "redis://127.0.0.1:1/0"\ngameye.token = "t"\n[regions.asia]\n')
    bench.live.reload()
    await bench.live.look()
    assert bench.live.region("europe") is None
    assert bench.live.region("asia") is not None


async def test_what_is_built_in_stays_and_is_named(bench: Bench) -> None:
    before = bench.live.settings
    more = 'namespace = "other"\nadmin.port = 1\nworker.concurrency = 3\ngameye.account = "x"'
    logs = await bench.read_again(more=more)
    assert bench.live.settings == before
    assert [log["event"] for log in logs] == ["settings read again", "settings take effect at the next start"]
    assert logs[0]["changed"] == []
    assert logs[1]["settings"] == ["admin.port", "gameye.account", "namespace", "worker.concurrency"]
    assert bench.told == 1


FAULTY = 'reqest_timeout_seconds = 1\nworker.concurrency = -1\nregions.asia.rate = "first-token"'


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (FAULTY, ["reqest_timeout_seconds", "worker.concurrency", "regions.asia.rate"]),
        ("not TOML", ["not TOML"]),
        ('[edgegap]\ntoken = "t"\n[regions.asia]\ndestinations = [{provider="edgegap",location="x"}]', ["edgegap"]),
        ("gameye.token_file = 'x'", ["token"]),
    ],
)
async def test_a_faulty_file_keeps_all_the_old_settings_and_says_every_fault(
    bench: Bench, more: str, said: list[str]
) -> None:
    await bench.live.look()
    before = bench.live.settings
    logs = await bench.read_again(rate=99, token="second-token", more=more)
    (log,) = logs
    assert (log["event"], log["log_level"]) == ("settings are faulty; the old ones stay in force", "error")
    assert len(log["faults"]) == len(said)
    assert all(any(word in fault for fault in log["faults"]) for word in said)
    assert "-token" not in str(log["faults"]).replace("regions.asia.rate", "")
    assert bench.live.settings is before
    assert bench.rates == (40, 200)
    assert bench.credential.token() == "first-token"
    assert bench.told == 1
    await bench.read_again(rate=41)
    assert bench.rates == (41, 200)


async def test_settings_are_read_while_redis_is_away(bench: Bench) -> None:
    bench.store.away = True
    bench.write(rate=41)
    bench.live.reload()
    with pytest.raises(BrokerUnavailable):
        await bench.live.look()
    assert (bench.rates, bench.told) == ((41, 200), 1)


async def test_another_token_is_in_use_at_once_and_never_in_the_log(bench: Bench, tmp_path: Path) -> None:
    assert (bench.credential.token(), bench.masked) == ("first-token", ["first-token"])
    logs = await bench.read_again(token="second-token")
    assert (bench.credential.token(), bench.masked) == ("second-token", ["first-token", "second-token"])
    assert logs[0]["changed"] == ["gameye.token"]
    assert "-token" not in str(logs)
    assert "-token" not in repr(bench.credential)
    secret = tmp_path / "token"
    secret.write_text("third-token")
    bench.path.write_text(bench.path.read_text().replace('token = "second-token"', f'token_file = "{secret}"'))
    bench.live.reload()
    await bench.live.look()
    assert bench.credential.token() == "third-token"
    assert bench.masked[-1] == "third-token"


async def test_a_token_that_cannot_be_used_keeps_everything(bench: Bench, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("")
    text = bench.path.read_text()
    bench.path.write_text(
        text.replace('token = "first-token"', f'token_file = "{secret}"').replace("rate = 40", "rate = 41")
    )
    bench.live.reload()
    with capture_logs() as logs:
        await bench.live.look()
    assert "is empty" in logs[0]["faults"][0]
    assert (bench.credential.token(), bench.rates) == ("first-token", (40, 200))


async def test_a_file_that_changes_is_read_without_being_asked(bench: Bench) -> None:
    bench.write(rate=41)
    for _ in range(2):
        bench.now += LOOK_SECONDS
        await bench.live.look()
    assert (bench.rates, bench.told) == ((41, 200), 2)


async def test_a_file_that_was_asked_for_is_not_read_a_second_time(bench: Bench) -> None:
    await bench.read_again(rate=41)
    with capture_logs() as logs:
        for _ in range(3):
            bench.now += LOOK_SECONDS
            await bench.live.look()
    assert logs == []


class Watch:
    """A watched file and the clock of its watch."""

    def __init__(self, path: Path | None) -> None:
        self._now = 0.0
        self.file = WatchedFile(path, monotonic=lambda: self._now)

    def changed(self) -> bool:
        self._now += LOOK_SECONDS
        return self.file.changed()


def _put(path: Path, text: str) -> None:
    """As an editor or an operator's tool does: a new file in the place of the old."""
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


@pytest.mark.parametrize("act", [lambda path: path.write_text("longer"), lambda path: _put(path, "a"), Path.unlink])
def test_a_change_is_said_once_when_it_stands_still(tmp_path: Path, act: Callable[[Path], object]) -> None:
    path = tmp_path / "f"
    path.write_text("a")
    watch = Watch(path)
    assert not watch.changed()
    act(path)
    assert [watch.changed() for _ in range(4)] == [False, True, False, False]


def test_a_file_that_is_being_written_is_left_alone_until_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("a")
    watch = Watch(path)
    for length in range(2, 6):
        path.write_text("a" * length)
        assert not watch.changed()
    assert watch.changed()


def test_a_config_map_that_is_turned_elsewhere_by_its_link_has_changed(tmp_path: Path) -> None:
    for name in ("..1", "..2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "allocator.toml").write_text("same")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "allocator.toml").symlink_to("..data/allocator.toml")
    watch = Watch(tmp_path / "allocator.toml")
    assert not watch.changed()
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert [watch.changed() for _ in range(3)] == [False, True, False]


def test_a_change_that_was_seen_is_not_said(tmp_path: Path) -> None:
    path = tmp_path / "f"
    watch = Watch(path)
    path.write_text("a")
    watch.file.seen()
    assert not any(watch.changed() for _ in range(3))
    assert not any(Watch(None).changed() for _ in range(3))
