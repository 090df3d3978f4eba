"""The dashboard for Grafana: that it loads, asks for what is told, and asks in words."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.observed import DASHBOARD, dashboard, in_prometheus, metrics, panels, promtool, unknown_in
from tests.deploy.tools import ROOT

ROWS = ("Objective", "Budget", "Queue", "Regions", "Providers", "Sessions", "Process")
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
EXPRESSIONS = [target["expr"] for panel in panels() for target in panel["targets"]]


def test_every_expression_parses(tmp_path: Path) -> None:
    checked = [{"record": f"panel:{number}", "expr": in_prometheus(expr)} for number, expr in enumerate(EXPRESSIONS)]
    path = tmp_path / "panels.rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": checked}]}), encoding="utf-8")
    said = promtool("check", "rules", path)
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_an_expression_asks_for_what_is_told(expr: str) -> None:
    assert "$job" in expr
    assert not list(unknown_in(expr, metrics()))


def test_rows_and_panels_ask_questions_and_each_says_how_to_read_it() -> None:
    rows = [panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"]
    assert [row.partition(":")[0] for row in rows] == list(ROWS)
    titles = Counter([*rows, *(panel["title"] for panel in panels())])
    assert all(title.endswith("?") for title in titles)
    assert set(titles.values()) == {1}
    assert all(panel["description"] for panel in panels())


def test_the_data_source_is_the_readers_choice() -> None:
    variables = {each["name"]: each for each in dashboard()["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["job"]["datasource"] == SOURCE
    for panel in panels():
        assert panel["datasource"] == SOURCE
        assert all(target["datasource"] == SOURCE for target in panel["targets"])


def test_no_panel_lies_over_another() -> None:
    every = dashboard()["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    for one, other in itertools.combinations([panel["gridPos"] for panel in every], 2):
        assert not (_overlap(one, other, "x", "w") and _overlap(one, other, "y", "h"))
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in every)


def test_grafana_finds_it_where_compose_mounts_it() -> None:
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))["services"]
    mounted = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    provisioned = ROOT / "deploy" / "grafana" / "provisioning"
    assert mounted["./grafana/provisioning"] == "/etc/grafana/provisioning"
    found = yaml.safe_load((provisioned / "dashboards" / "allocator.yml").read_text(encoding="utf-8"))
    assert found["providers"][0]["options"]["path"] == mounted[f"./grafana/{DASHBOARD.parent.name}"]
    source = yaml.safe_load((provisioned / "datasources" / "prometheus.yml").read_text(encoding="utf-8"))
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    assert "prometheus" in services


def _overlap(one: dict[str, Any], other: dict[str, Any], start: str, length: str) -> bool:
    return bool(one[start] < other[start] + other[length] and other[start] < one[start] + one[length])
