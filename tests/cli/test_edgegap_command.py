"""`allocator edgegap` as a person types it, against the simulated Edgegap."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from allocator.cli.main import app
from allocator.simulator.edgegap import EdgegapSimulator, SimulatorSettings, StatusFault
from allocator.simulator.edgegap.faults import Operation

TOKEN = "11111111-2222-3333-4444-555555555555"
IMAGE = "org/my-game"
DECLARED = """
[storages.logs]
endpoint = "https://s3.example.com"
bucket = "bucket"
access_key_id = "AK"
secret_access_key = { env = "S3_SECRET" }
pull_profiles.config = { source = "/bucket/config", source_type = "Folder", destination = "/usr/share/configs" }

[applications.my-game.versions.v1]
docker_repository = "registry.edgegap.com"
docker_image = "org/my-game"
docker_tag = "1.0"
req_cpu = 1024
req_memory = 2048
envs = { MODE = "[red]ranked", KEY = { file = "key" } }
pull_profiles = ["logs/config"]
"""
CREATE = ("--with", "docker_repository=docker.io", "--with", "docker_image=org/my-game", "--with", "docker_tag=1.0")
SIZE = ("--with", "req_cpu=256", "--with", "req_memory=256")
Run = Callable[..., Awaitable[Result]]


@pytest.fixture
async def simulator() -> AsyncIterator[EdgegapSimulator]:
    settings = SimulatorSettings(token=TOKEN, images={IMAGE: ("1.0", "1.1", "1.2")})
    async with EdgegapSimulator(settings) as simulator:
        yield simulator


@pytest.fixture
def run(simulator: EdgegapSimulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run the command in a thread, beside the simulator's loop."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALLOCATOR_EDGEGAP__TOKEN", TOKEN)
    monkeypatch.setenv("ALLOCATOR_EDGEGAP__BASE_URL", simulator.base_url)
    monkeypatch.setenv("S3_SECRET", "s3-secret")
    (tmp_path / "key").write_text("hidden-key\n", encoding="utf-8")
    (tmp_path / "edgegap.toml").write_text(DECLARED, encoding="utf-8")

    async def run(*words: str, code: int = 0) -> Result:
        result = await asyncio.to_thread(CliRunner().invoke, app, ["edgegap", *words], catch_exceptions=False)
        assert result.exit_code == code, result.output
        for secret in (TOKEN, "s3-secret", "hidden-key"):
            assert secret not in result.output
        return result

    return run


async def test_a_plan_tells_by_its_exit_code_whether_there_are_changes(run: Run, simulator: EdgegapSimulator) -> None:
    await run("plan", "edgegap.toml")
    planned = await run("plan", "edgegap.toml", "--exit-code", code=4)
    assert "+ version my-game/v1" in planned.stdout
    assert 'envs.MODE: "[red]ranked"' in planned.stdout
    assert 'envs.KEY: { file = "key" }, hidden' in planned.stdout
    assert "5 to create, 0 to change, 0 to delete" in planned.stdout
    applied = await run("apply", "edgegap.toml")
    assert applied.stdout.count("done: +") == 5
    again = await run("plan", "edgegap.toml", "--exit-code")
    assert "no changes" in again.stdout
    stored = next(iter(simulator.fleet.catalog.storages))
    assert stored.fields["secret_access_key"] == "s3-secret"


async def test_a_plan_as_json_is_one_object_with_the_same_exit_codes(run: Run) -> None:
    told = json.loads((await run("plan", "edgegap.toml", "--json", "--exit-code", code=4)).stdout)
    assert told["changes"] == 5
    assert [step["kind"] for step in told["steps"]] == ["storage", "profile", "application", "version", "link"]


async def test_another_image_for_an_active_version_is_refused_until_it_is_allowed(run: Run, tmp_path: Path) -> None:
    await run("apply", "edgegap.toml")
    file = tmp_path / "edgegap.toml"
    file.write_text(DECLARED.replace('docker_tag = "1.0"', 'docker_tag = "1.1"'), encoding="utf-8")
    refused = await run("plan", "edgegap.toml", code=1)
    assert 'docker_tag: "1.0" -> "1.1"   ACTIVE' in refused.stdout
    assert "! version my-game/v1: is active" in refused.stdout
    assert "nothing was done" in (await run("apply", "edgegap.toml", code=1)).output
    assert (
        "--replace-active"
        in (await run("versions", "update", "my-game", "v1", "--with", "docker_tag=1.1", code=1)).output
    )
    await run("plan", "edgegap.toml", "--replace-active", "--exit-code", code=4)
    await run("apply", "edgegap.toml", "--replace-active")
    await run("plan", "edgegap.toml")


async def test_only_prune_deletes_and_a_plan_without_it_names_what_it_leaves(run: Run) -> None:
    await run("apply", "edgegap.toml")
    await run("apps", "create", "stranger")
    left = await run("plan", "edgegap.toml")
    assert "left alone (--prune deletes): application stranger" in left.stdout
    await run("apply", "edgegap.toml")
    await run("apps", "show", "stranger")
    assert "- application stranger" in (await run("plan", "edgegap.toml", "--prune", "--exit-code", code=4)).stdout
    await run("apply", "edgegap.toml", "--prune")
    await run("apps", "show", "stranger", code=1)


async def test_a_secret_that_is_not_there_stops_apply_before_any_call(
    run: Run, simulator: EdgegapSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("S3_SECRET")
    refused = await run("apply", "edgegap.toml", code=2)
    assert "S3_SECRET (environment): is not set" in refused.output
    assert list(simulator.fleet.catalog.storages) == []


async def test_a_secret_in_clear_in_the_file_is_refused_by_name(run: Run, tmp_path: Path) -> None:
    clear = DECLARED.replace('secret_access_key = { env = "S3_SECRET" }', 'secret_access_key = "s3-secret"')
    (tmp_path / "edgegap.toml").write_text(clear, encoding="utf-8")
    refused = await run("plan", "edgegap.toml", code=2)
    assert "storages.logs.secret_access_key: must not stand here in clear" in refused.output


async def test_an_export_is_a_file_whose_plan_shows_no_change(run: Run, tmp_path: Path) -> None:
    await run("apply", "edgegap.toml")
    exported = await run("export")
    (tmp_path / "export.toml").write_text(exported.stdout, encoding="utf-8")
    assert "no changes" in (await run("plan", "export.toml", "--prune")).stdout


async def test_every_plain_verb_does_its_operation(run: Run) -> None:
    await run("storages", "create", "logs", "--with", "endpoint=https://s3.example.com", "--with", "bucket=b",
              "--with", "access_key_id=AK", "--with", 'secret_access_key={env="S3_SECRET"}')  # fmt: skip
    await run("storages", "update", "logs", "--with", "bucket=other")
    assert "bucket: other" in (await run("storages", "show", "logs")).stdout
    assert re.search(r"^logs +https://s3.example.com +other", (await run("storages", "list")).stdout, re.MULTILINE)
    await run("profiles", "create", "logs", "p", "--with", "source=/b", "--with", "source_type=File",
              "--with", "destination=/usr/share/p")  # fmt: skip
    await run("profiles", "update", "logs", "p", "--with", "source=/c")
    assert "source: /c" in (await run("profiles", "show", "logs", "p")).stdout
    assert "/usr/share/p" in (await run("profiles", "list", "logs")).stdout
    await run("apps", "create", "my-game", "--with", "is_active=false")
    await run("apps", "update", "my-game", "--with", "is_active=true")
    assert "is_active: yes" in (await run("apps", "show", "my-game")).stdout
    assert "my-game" in (await run("apps", "list")).stdout
    await run("versions", "create", "my-game", "v1", *CREATE, *SIZE, "--with", 'envs={A="b", K={file="key"}}')
    await run("versions", "update", "my-game", "v1", "--with", "max_duration=60")
    assert "max_duration: 60" in (await run("versions", "show", "my-game", "v1")).stdout
    assert "docker.io" in (await run("versions", "list", "my-game")).stdout
    await run("profiles", "link", "logs", "p", "my-game", "v1")
    await run("profiles", "unlink", "logs", "p", "my-game", "v1")
    assert "1.2" in (await run("tags", IMAGE)).stdout
    await run("tags", "delete", IMAGE, "1.2")
    assert "nope  not there" in (await run("tags", "bulk-delete", IMAGE, "1.1", "nope")).stdout
    assert [each["tag"] for each in json.loads((await run("tags", "list", IMAGE, "--json")).stdout)] == ["1.0"]
    await run("versions", "delete", "my-game", "v1")
    await run("apps", "delete", "my-game")
    await run("profiles", "delete", "logs", "p")
    await run("storages", "delete", "logs")
    assert json.loads((await run("apps", "list", "--json")).stdout) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("versions", "create", "g", "v", *CREATE), "--with: req_cpu: is required"),
        (("versions", "create", "g", "v", *CREATE, *SIZE, "--with", "private_token=x"), "must not stand here in clear"),
        (("versions", "update", "g", "v"), "nothing is to be changed"),
        (("versions", "update", "g", "v", "--with", "pull_profiles=[]"), "link and unlink"),
        (("apps", "update", "g", "--with", "is_activ=true"), "the nearest known one is is_active"),
        (("apps", "update", "g", "--with", "a-secret"), "--with (number 1): must be FIELD=VALUE"),
    ],
)
async def test_fields_that_cannot_be_are_said_and_nothing_is_sent(
    run: Run, simulator: EdgegapSimulator, words: tuple[str, ...], sentence: str
) -> None:
    refused = await run(*words, code=2)
    assert sentence in refused.output
    assert "a-secret" not in refused.output
    assert simulator.ledger.calls == []


async def test_what_edgegap_refuses_ends_with_1_and_its_words(run: Run) -> None:
    assert "does not exist" in (await run("versions", "show", "none", "v1", code=1)).output
    assert "already exists" in (await _twice(run)).output


async def _twice(run: Run) -> Result:
    await run("apps", "create", "my-game")
    return await run("apps", "create", "my-game", code=1)


async def test_a_refused_token_names_the_setting(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOCATOR_EDGEGAP__TOKEN", "another")
    assert "check edgegap.token" in (await run("apps", "list", code=1)).output


async def test_without_a_token_the_settings_are_at_fault(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALLOCATOR_EDGEGAP__TOKEN")
    assert "edgegap" in (await run("apps", "list", code=2)).output
    monkeypatch.delenv("ALLOCATOR_EDGEGAP__BASE_URL")
    assert "ALLOCATOR_EDGEGAP__TOKEN" in (await run("apps", "list", code=2)).output


async def test_an_edgegap_that_does_not_answer_well_ends_with_3(
    run: Run, simulator: EdgegapSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = StatusFault(kind="status", status=500, on=(Operation.CATALOG_WRITE,))
    simulator.apply(SimulatorSettings(token=TOKEN, faults=(fault,)))
    failed = await run("apply", "edgegap.toml", code=3)
    assert "storage logs: " in failed.output
    assert "whether it was done is not known; apply again" in failed.output
    monkeypatch.setattr("allocator.providers.edgegap.catalog.wire.FIRST_PAUSE_SECONDS", 0.0)
    monkeypatch.setenv("ALLOCATOR_EDGEGAP__BASE_URL", "http://127.0.0.1:1")
    assert "edgegap.base_url" in (await run("apps", "list", code=3)).output
