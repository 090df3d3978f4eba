"""The settings that `demo` and `dev` write are ones that a worker takes, with and without a second host."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from allocator.cli import demo, dev
from allocator.cli.main import app
from allocator.service.settings import Settings, trace_settings

URLS = {"redis": "redis://127.0.0.1:6390", "gameye": "http://127.0.0.1:8470", "edgegap": "http://127.0.0.1:8471"}


def loaded(directory: Path, text: str) -> Settings:
    file = directory / "allocator.toml"
    file.write_text(text.format(**URLS))
    return trace_settings(file, {}, {}).settings


def hosts(settings: Settings, region: str) -> list[tuple[str, str]]:
    destinations = settings.regions[region].destinations or ()
    return [(each.provider, each.location) for each in destinations]


@pytest.mark.parametrize("text", [demo.SETTINGS, dev.SETTINGS])
def test_without_a_second_host_there_is_none(tmp_path: Path, text: str) -> None:
    settings = loaded(tmp_path, text)
    assert settings.edgegap is None
    assert settings.gameye is not None


def test_the_demo_goes_on_at_edgegap_where_europe_is_full(tmp_path: Path) -> None:
    settings = loaded(tmp_path, demo.with_edgegap(demo.SETTINGS))
    assert hosts(settings, "europe") == [("gameye", "europe"), ("edgegap", "amsterdam")]
    assert settings.catalog["arena"].edgegap is not None
    assert settings.catalog["arena"].ports == {"game": "7777/udp"}


def test_dev_has_a_region_at_edgegap_and_one_at_both(tmp_path: Path) -> None:
    settings = loaded(tmp_path, dev.SETTINGS + dev.WITH_EDGEGAP)
    assert hosts(settings, "amsterdam") == [("edgegap", "amsterdam")]
    assert hosts(settings, "eu-any") == [("gameye", "europe"), ("edgegap", "amsterdam")]
    assert settings.catalog["my-game"].edgegap is not None


def test_chaos_and_a_second_host_exclude_each_other() -> None:
    outcome = CliRunner().invoke(app, ["demo", "--chaos", "--edgegap"])
    assert outcome.exit_code == 2
    assert "leave --edgegap out" in outcome.output
