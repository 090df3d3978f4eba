"""`allocator config` and the shared options: what people and programs see, and that no secret is among it."""

import json
import traceback
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from allocator.cli.config import config
from allocator.cli.options import ConfigOption, SetOption, load_or_exit
from allocator.service.settings import SettingsError, load_settings, trace_settings

SECRET = "s3cr3t-Value"
FULL = f"""
deployment = "d"
[redis]
url = "redis://user:{SECRET}@127.0.0.1:6379/0"
[gameye]
token = "{SECRET}"
[edgegap]
token = "{SECRET}"
[api]
token = "{SECRET}"
[admin]
token = "{SECRET}"
[regions.europe]
rate = 40
"""


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def allocator(*arguments: str, **environ: str) -> Result:
    app = typer.Typer()
    app.command("config")(config)

    @app.command("load")
    def load(file: ConfigOption = None, assignments: SetOption = None) -> None:
        typer.echo(load_or_exit(file, assignments, options={"worker.backlog": "7"}).worker.backlog)

    return CliRunner().invoke(app, arguments, env=environ)


def test_config_shows_each_value_and_where_it_came_from() -> None:
    Path("allocator.toml").write_text(FULL)
    result = allocator("config", "--set", "worker.backlog=9", ALLOCATOR_WORKER__CONCURRENCY="8")
    rows = [line.split(maxsplit=2) for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert ["worker.backlog", "9", "--set"] in [[part.strip() for part in row] for row in rows]
    assert ["worker.concurrency", "8", "ALLOCATOR_WORKER__CONCURRENCY"] in [
        [part.strip() for part in row] for row in rows
    ]
    assert ["regions.europe.rate", "40", "allocator.toml"] in [[part.strip() for part in row] for row in rows]
    assert "file: allocator.toml" in result.stdout


def test_config_as_json_holds_every_setting_with_its_source() -> None:
    Path("allocator.toml").write_text(FULL)
    shown = json.loads(allocator("config", "--json").stdout)
    assert shown["regions.europe.rate"] == {"value": 40, "source": "allocator.toml"}
    assert shown["gameye.throttle_statuses"] == {"value": [420, 429], "source": "default"}
    assert shown["gameye.token"] == {"value": "***", "source": "allocator.toml"}
    assert shown["redis.url"] == {"value": "redis://***@127.0.0.1:6379/0", "source": "allocator.toml"}
    assert shown["gameye.token_file"] == {"value": None, "source": "default"}


def test_config_shows_what_a_worker_still_needs() -> None:
    shown = json.loads(allocator("config", "--json").stdout)
    assert shown["deployment"]["source"] == "not set; a worker requires it"
    assert shown["redis.url"]["source"] == "not set; a worker requires it"


@pytest.mark.parametrize("arguments", [("config",), ("config", "--json")])
def test_no_secret_is_shown(arguments: tuple[str, ...]) -> None:
    Path("allocator.toml").write_text(FULL)
    result = allocator(*arguments)
    assert result.exit_code == 0
    assert SECRET not in result.output


def test_no_secret_is_in_a_repr() -> None:
    Path("allocator.toml").write_text(FULL)
    traced = trace_settings(None, {}, {})
    assert SECRET not in repr(traced)
    assert SECRET not in str(traced.settings)
    assert traced.settings.gameye is not None
    assert traced.settings.gameye.token is not None
    assert traced.settings.gameye.token.get_secret_value() == SECRET


@pytest.mark.parametrize(
    "options",
    [
        {key: SECRET}
        for key in (
            "worker.concurrency",
            "redis.url",
            "gameye.base_url",
            "gameye.environment",
            "gameye.throttle_statuses",
            "gameye",
            "regions",
            "session_ttl",
            "unknown_regions",
            "unknown_key",
        )
    ]
    + [
        {"deployment": f"{SECRET} {SECRET}"},
        {"gameye.token": f"{SECRET}\n"},
        {"gameye.base_url": f"https://user:{SECRET}@host"},
        {"gameye.token": SECRET, "gameye.token_file": "f"},
        {"regions": f'{{"eu": {{"destinations": [{{"provider": "{SECRET}"}}]}}}}'},
        {"catalog": f'{{"g": {{"ports": {{"game": "{SECRET}"}}}}}}'},
    ],
)
def test_no_fault_repeats_a_value(options: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, options, {})
    error = caught.value
    told = "".join(traceback.format_exception(error)) + repr(error) + repr(error.__context__) + str(error.__context__)
    assert SECRET not in told


def test_each_fault_is_one_line_on_stderr_and_the_exit_code_is_2() -> None:
    result = allocator("load", "--set", "worker.concurrency=0", "--set", "worker.lease=1", ALLOCATOR_DEPLOYMENT="d")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert [line.split(" (")[0] for line in result.stderr.splitlines()] == [
        "redis.url",
        "gameye",
        "worker.concurrency",
        "worker.lease",
    ]


@pytest.mark.parametrize("assignment", [SECRET, f"={SECRET}"])
def test_an_assignment_without_a_key_is_refused_and_not_repeated(assignment: str) -> None:
    result = allocator("config", "--set", "namespace=n", "--set", assignment)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--set (number 2): must be KEY=VALUE" in result.stderr
    assert SECRET not in result.output


def test_a_commands_own_option_takes_the_place_of_the_same_key() -> None:
    Path("allocator.toml").write_text(FULL)
    assert allocator("load", "--set", "worker.backlog=9").stdout == "7\n"


def test_the_last_assignment_of_a_key_counts() -> None:
    shown = json.loads(
        allocator("config", "--json", "--set", "namespace=a", "--set", "namespace=b=c", "--set", "namespace=d").stdout
    )
    assert shown["namespace"]["value"] == "d"
