"""Rules and dashboard on what a real worker tells a real Prometheus."""

from __future__ import annotations

import time
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.deploy.observed import Prometheus, in_prometheus, panels, rules
from tests.deploy.pictures import Window, rows
from tests.polling import until

RECORDED = sorted({rule.name for rule in rules() if not rule.is_alert})
WAIT_SECONDS = 10.0
ELSEWHERE = {
    "processes replaced": "told by a supervisor alone, and this worker has none",
}
"""What a panel asks for that this worker does not tell."""


def _seen(prometheus: Prometheus, expr: str) -> list[float]:
    """Its values, once there are any."""
    values: list[float] = until(lambda: prometheus.values(expr), WAIT_SECONDS, every_seconds=0.1, told=lambda: expr)
    return values


def test_every_rule_is_evaluated_and_none_fails(prometheus: Prometheus) -> None:
    def evaluated() -> list[dict[str, Any]]:
        return [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]

    def errors() -> list[tuple[str, str | None]]:
        return [(rule["name"], rule.get("lastError")) for rule in evaluated()]

    until(lambda: {rule["health"] for rule in evaluated()} == {"ok"}, WAIT_SECONDS, every_seconds=0.1, told=errors)
    assert len(evaluated()) == len(rules())


@pytest.mark.parametrize("name", RECORDED)
def test_every_recorded_figure_has_a_value(prometheus: Prometheus, name: str) -> None:
    assert _seen(prometheus, name)


def test_the_parts_of_what_went_wrong_are_told_apart(prometheus: Prometheus) -> None:
    assert _seen(prometheus, 'allocator:matches_bad:rate5m{part="provider"} > 0')
    assert _seen(prometheus, 'allocator:matches_bad:rate5m{part="own"} > 0')
    assert _seen(prometheus, "allocator:matches:rate5m > on (job) sum by (job) (allocator:matches_bad:rate5m)")


@pytest.mark.parametrize(
    ("panel", "target"),
    [
        pytest.param(panel, target, id=f"{panel['title']} {target['refId']}")
        for panel in panels()
        for target in panel["targets"]
    ],
)
def test_every_panel_has_data(prometheus: Prometheus, panel: dict[str, Any], target: dict[str, Any]) -> None:
    if target["legendFormat"] in ELSEWHERE:
        assert len(panel["targets"]) > 1
        return
    assert _seen(prometheus, in_prometheus(target["expr"]))


def test_what_could_not_be_read_alerts_and_nothing_else_does(prometheus: Prometheus) -> None:
    """Each wave brought one request that is no JSON; all other alerts would be pending, were they true at all."""
    assert _seen(prometheus, 'ALERTS{alertname="AllocatorDeadLetters", alertstate="firing", code="invalid_request"}')
    assert {alert["labels"]["alertname"] for alert in prometheus.ask("alerts")["alerts"]} == {"AllocatorDeadLetters"}


def test_every_row_can_be_drawn(prometheus: Prometheus) -> None:
    now = time.time()
    drawn = dict(rows(prometheus, Window(now - 20, now, "allocator")))
    assert len(drawn) == 7
    for picture in drawn.values():
        ET.fromstring(picture)
        assert "no data" not in picture
