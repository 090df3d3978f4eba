"""A provider that another package brings: its table in the settings, and a match that a real worker serves with it."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from allocator.cli.main import app
from allocator.client import AllocatorClient
from allocator.providers.outside import OutsideError, build_outside, installed_names
from allocator.service.checkup_outside import check_outside
from allocator.service.hosts import build_providers, call_timeouts
from allocator.service.settings import Settings, SettingsError, load_settings, trace_settings
from tests.conftest import TestServer, WaitUntil
from tests.crash.fleet import ROOT, Process, start
from tests.providers.example_host import KEY, AcmeHost

BASE = {"deployment": "test", "redis.url": "redis://127.0.0.1:6379"}
ACME = {"acme.base_url": "http://127.0.0.1:9", "acme.key": "the-key-of-acme"}
MISNAMED = """
class Misnamed:
    name, account = "other", "bad"
    def __init__(self, table, *, learn):
        self.unsuited = self.start = self.find = self.stop = self.list = self.offers = self.close = print


def fails(table, *, learn):
    raise KeyError(table["key"])
"""
REGIONS = {"regions": '{"eu": {"destinations": [{"provider": "acme", "location": "europe"}]}}'}


@pytest.fixture(autouse=True)
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of installed packages: one brings `acme`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    bring(tmp_path, "acme-allocator", "acme = tests.providers.example_provider:make")
    return tmp_path


def bring(directory: Path, package: str, entries: str) -> None:
    info = directory / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[allocator.providers]\n{entries}\n", encoding="utf-8")


def settings(**environ: str) -> Settings:
    return load_settings(None, {**BASE, **ACME, **REGIONS}, environ)


def faults(options: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, {**BASE, **options}, {})
    return str(caught.value)


def test_its_table_bears_its_name_in_the_file_the_environment_and_on_the_command_line(packages: Path) -> None:
    assert installed_names() == {"acme"}
    (packages / "allocator.toml").write_text('[acme]\nbase_url = "http://a"\nkey = "k"\nsites = ["x"]\nrate = 5\n')
    loaded = load_settings(None, {**BASE, **REGIONS, "acme.zone": "z"}, {"ALLOCATOR_ACME__KEY": "from-outside"})
    table = loaded.outside["acme"].model_dump()
    assert {name: table[name] for name in ("base_url", "key", "zone", "sites", "rate")} == {
        "base_url": "http://a",
        "key": "from-outside",
        "zone": "z",
        "sites": ["x"],
        "rate": 5,
    }
    assert loaded.providers == ("acme",)
    assert (loaded.account_of("acme"), call_timeouts(loaded)) == ("acme", {"acme": 8})


def test_nothing_of_its_own_is_ever_printed() -> None:
    traced = trace_settings(None, {**BASE, **ACME, **REGIONS}, {})
    assert "the-key-of-acme" not in repr(traced)
    shown = {leaf.key: leaf.value for leaf in traced.leaves if leaf.key.startswith("acme.")}
    assert shown == {
        "acme.base_url": "***",
        "acme.key": "***",
        "acme.account": None,
        "acme.rate": None,
        "acme.timeout_seconds": 8,
    }
    options = [word for key, value in ({**BASE, **ACME}).items() for word in ("--set", f"{key}={value}")]
    printed = CliRunner().invoke(app, ["config", *options]).output
    assert "acme.key" in printed
    assert "the-key-of-acme" not in printed


def test_what_is_not_installed_is_an_unknown_setting_with_the_nearest_known_one() -> None:
    assert "acne (--set): unknown setting" in faults({"acne.key": "k"})
    said = faults({**ACME, "regions": '{"eu": {"destinations": [{"provider": "acne", "location": "x"}]}}'})
    assert "must be 'gameye' or 'edgegap', or 'acme', which a package brings" in said


def test_a_region_that_leads_to_it_needs_its_table() -> None:
    said = faults({**REGIONS, "gameye.token": "t"})
    assert "regions.eu (--set): leads to acme, which is off; add the table [acme]" in said


def test_a_bad_value_of_a_field_that_every_provider_has_is_said_by_its_written_name() -> None:
    assert "acme.rate (--set): must be a number" in faults({**ACME, "acme.rate": "the-key-of-acme"})


async def test_it_is_built_from_its_table_and_its_secrets_are_told_to_be_masked() -> None:
    learnt: list[str] = []
    providers = build_providers(settings(), report=lambda _problem: None, learn=learnt.append)
    assert [(each.name, each.account) for each in providers.values()] == [("acme", "acme")]
    assert learnt == ["the-key-of-acme"]
    await providers["acme"].close()


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("bad = no_such_module:make", "bad: no_such_module:make cannot be imported (ModuleNotFoundError); mend it"),
        ("bad = builtins:dict", "is no provider, it has no unsuited, start"),
        ("bad = misnamed:Misnamed", "calls itself 'other' with the account 'bad'; its name must be 'bad'"),
        ("bad = misnamed:fails", "failed with KeyError; mend it"),
    ],
)
def test_a_package_that_brings_no_provider_is_said_in_a_sentence(packages: Path, entry: str, sentence: str) -> None:
    (packages / "misnamed.py").write_text(MISNAMED, encoding="utf-8")
    bring(packages, "bad", entry)
    with pytest.raises(OutsideError) as caught:
        build_outside("bad", {"account": "bad", "key": "the-key-of-acme"}, learn=lambda _secret: None)
    assert sentence in str(caught.value)
    assert "the-key-of-acme" not in str(caught.value)


def test_a_table_that_lacks_something_is_said_in_the_providers_words() -> None:
    with pytest.raises(OutsideError, match=r"^acme: set acme\.base_url$"):
        build_outside("acme", {"account": "acme"}, learn=lambda _secret: None)


def test_what_two_packages_bring_under_one_name_is_refused(packages: Path) -> None:
    bring(packages, "other", "acme = somewhere.else:make")
    with pytest.raises(OutsideError, match="keep one of them"):
        build_outside("acme", {"account": "acme"}, learn=lambda _secret: None)


@pytest.fixture
async def host() -> AsyncIterator[AcmeHost]:
    async with AcmeHost() as host:
        yield host


async def test_doctor_says_whether_it_can_be_made_answers_and_has_room(host: AcmeHost) -> None:
    host.limits["europe"] = (0, None)
    options = {**BASE, **REGIONS, "acme.base_url": host.base_url, "catalog": '{"my-game": {}}'}
    good = [each async for each in check_outside(load_settings(None, {**options, "acme.key": KEY}, {}))]
    assert [(each.what, each.good) for each in good] == [("acme host", True), ("acme image my-game", False)]
    assert good[1].says == "has room in us-east; not in europe"
    (bad,) = [each async for each in check_outside(load_settings(None, options, {}))]
    assert (bad.good, bad.says) == (False, "acme: set acme.key")


@pytest.fixture
async def worker(host: AcmeHost, redis_server: TestServer, namespace: str, tmp_path: Path) -> AsyncIterator[Process]:
    """A real worker process that serves `eu` at Acme, first at a site that is full."""
    file = tmp_path / "worker.toml"
    file.write_text(
        f"""
        deployment = "{namespace}"
        namespace = "{namespace}"
        redis.url = "{redis_server.url}"
        admin.port = 0
        catalog.my-game.ports = {{ game = "7777/udp" }}

        [acme]
        base_url = "{host.base_url}"
        key = "{KEY}"
        account = "studio"

        [regions.eu]
        destinations = [
          {{ provider = "acme", location = "us-east" }},
          {{ provider = "acme", location = "europe" }},
        ]
        """,
        encoding="utf-8",
    )
    host.limits["us-east"] = (0, None)
    process = await start("worker", tmp_path, "allocator", "worker", "--config", str(file))
    yield process
    await process.kill()


async def test_a_match_is_served_released_and_left_behind_by_nobody_through_a_real_worker(
    *, host: AcmeHost, worker: Process, redis_server: TestServer, namespace: str, wait_until: WaitUntil
) -> None:
    async with AllocatorClient(redis_server.url, namespace) as client:
        request = {"id": "m-1", "image": "my-game", "regions": ["eu"], "env": {"MODE": "ranked"}}
        allocation = await client.allocate(request)
        assert allocation.state == "allocated", worker.tail()
        assert (allocation.provider, allocation.location) == ("acme", "europe")
        (port,) = allocation.ports
        assert (port.name, port.port) == ("game", host.servers[allocation.session_id or ""]["ports"][0]["outer"])
        assert [each.location for each in allocation.attempts] == ["us-east", "europe"]
        await client.cancel("m-1")
        await wait_until(lambda: [each["state"] for each in host.servers.values()] == ["down"])
    worker.signal(signal.SIGTERM)
    assert await worker.ended() == 0
    assert KEY not in worker.tail()
