"""What the tests of rules and dashboard look at: the files of `deploy/`, and Debian's Prometheus with its `promtool`.

In: the tree. Out: the expressions of rules and panels, the metrics that there are, with their labels, and a Prometheus
to ask.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.tools import ROOT, program

PACKAGE = "install the package `prometheus`"
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = (PROMETHEUS / "recording.rules.yml", PROMETHEUS / "alerts.rules.yml")
EXAMPLE = PROMETHEUS / "prometheus.example.yml"
STORIES = sorted((Path(__file__).parent / "rules").glob("*.test.yml"))
RUNBOOKS = ROOT / "deploy" / "docs" / "runbooks"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "allocator.json"
METRICS = ROOT / "deploy" / "docs" / "metrics.md"

_ROW = re.compile(r"^\| `(\w+)` \| ([\w ]+) \| ([^|]*) \|", re.MULTILINE)
_USED = re.compile(r"\b(allocator[_:][\w:]+)(?:\{([^}]*)\})?")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_OF_THE_SCRAPE = {"job", "instance", "le"}


def promtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it; what it says is in `stdout` and `stderr`."""
    return subprocess.run(
        [program("promtool", PACKAGE), *map(str, words)], capture_output=True, text=True, timeout=30, check=False
    )


@dataclass(frozen=True, slots=True)
class Rule:
    """A recording rule or an alert, as its file says it."""

    name: str
    expr: str
    fields: dict[str, Any]
    is_alert: bool


@cache
def rules() -> tuple[Rule, ...]:
    """All of them."""
    found = []
    for path in RULES:
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                is_alert = "alert" in rule
                found.append(Rule(rule["alert" if is_alert else "record"], rule["expr"], rule, is_alert))
    return tuple(found)


def alerts() -> list[Rule]:
    """Those that wake somebody."""
    return [rule for rule in rules() if rule.is_alert]


@cache
def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return loaded


def panels() -> list[dict[str, Any]]:
    """Its panels without the rows."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def in_prometheus(expr: str) -> str:
    """An expression of a panel with Grafana's variables filled in."""
    return expr.replace("$__rate_interval", "1m").replace("$job", "allocator")


@cache
def metrics() -> dict[str, set[str]]:
    """By name, as a scrape tells them, the labels of each metric; recorded ones have those of their rules."""
    found: dict[str, set[str]] = {}
    for name, kind, labels in _ROW.findall(METRICS.read_text(encoding="utf-8")):
        names = [f"{name}_{part}" for part in ("bucket", "sum", "count")] if kind == "histogram" else [name]
        found |= {each: set(re.findall(r"\w+", labels)) for each in names}
    assert found, f"{METRICS} has no table"
    for rule in rules():
        if not rule.is_alert:
            by = re.findall(r"by \(([^)]*)\)", rule.expr)
            said = {label.strip() for labels in by for label in labels.split(",")}
            found.setdefault(rule.name, set()).update(said, rule.fields.get("labels", {}))
    return found


def unknown_in(expr: str, known: dict[str, set[str]]) -> Iterator[str]:
    """What an expression asks for that nobody tells: metrics, and labels that a metric does not have."""
    for name, selector in _USED.findall(expr):
        if name not in known:
            yield name
            continue
        for label in _LABEL.findall(re.sub(r'"[^"]*"', "", selector)):
            if label not in known[name] | _OF_THE_SCRAPE:
                yield f"{name}{{{label}}}"


@dataclass(frozen=True, slots=True)
class Prometheus:
    """One that runs, and has seen matches."""

    url: str

    def ask(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer of its API."""
        question = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(question, timeout=10) as reply:
            return json.load(reply)["data"]

    def values(self, expr: str) -> list[float]:
        """What an expression is now, series by series, without those that are not a number."""
        found = (float(series["value"][1]) for series in self.ask("query", query=expr)["result"])
        return [value for value in found if not math.isnan(value)]
