"""The rules for Prometheus: that they load, fire when they should and not else, and lead a person on."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from allocator.cli.main import app
from tests.deploy.observed import (
    EXAMPLE,
    RULES,
    RUNBOOKS,
    STORIES,
    Rule,
    alerts,
    metrics,
    panels,
    promtool,
    rules,
    unknown_in,
)
from tests.deploy.prometheus_rule import WRITTEN, rendered
from tests.deploy.tools import ROOT

COMMANDS = typer.main.get_command(app)
ALERTS = sorted({alert.name for alert in alerts()})
_ASKED = re.compile(r'ALERTS\{alertname="(\w+)"')
_COMMAND = re.compile(r"`allocator ([^`]+)`")
_QUOTED = re.compile(r'"([^"]+\?)"')


@cache
def stories() -> list[dict[str, Any]]:
    """Those of all files."""
    return [test for path in STORIES for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]]


def test_promtool_takes_the_rules_and_the_example() -> None:
    for checked in (promtool("check", "rules", *RULES), promtool("check", "config", EXAMPLE)):
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_operator_gets_the_same_rules() -> None:
    assert WRITTEN.read_text(encoding="utf-8") == rendered(), "run python -m tests.deploy.prometheus_rule"
    written = yaml.safe_load(WRITTEN.read_text(encoding="utf-8"))["spec"]["groups"]
    assert written == [group for path in RULES for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]]


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.name)
def test_alerts_fire_in_their_stories_and_not_in_the_others(story: Path) -> None:
    played = promtool("test", "rules", story)
    assert played.returncode == 0, played.stdout + played.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_has_a_story_in_which_it_fires_and_one_in_which_it_does_not(name: str) -> None:
    asked = [
        bool(test["exp_samples"])
        for each in stories()
        for test in each["promql_expr_test"]
        if name in _ASKED.findall(test["expr"])
    ]
    assert set(asked) == {True, False}


def test_what_a_person_reads_is_filled_in(tmp_path: Path) -> None:
    """promtool prints the annotations of alerts that a story did not expect."""
    firing: dict[str, dict[str, Any]] = {}
    for test in stories():
        for each in test["promql_expr_test"]:
            for name in _ASKED.findall(each["expr"]) if each["exp_samples"] else ():
                unexpected = {"alertname": name, "eval_time": each["eval_time"], "exp_alerts": []}
                firing.setdefault(name, {**test, "promql_expr_test": [], "alert_rule_test": [unexpected]})
    path = tmp_path / "firing.test.yml"
    told = {"rule_files": list(map(str, RULES)), "evaluation_interval": "2m", "tests": list(firing.values())}
    path.write_text(yaml.safe_dump(told), encoding="utf-8")
    printed = promtool("test", "rules", path)
    said = dict(re.findall(r'alertname="(\w+)".*\n\s+Annotations:(.*)', printed.stdout + printed.stderr))
    assert sorted(said) == ALERTS
    for line in said.values():
        assert not re.search(r"<error|<no value>|\{\{|\}\}|%!", line), line
    assert re.search(r"75% of them end no_capacity or unavailable", said["AllocatorMatchesFail"])


@pytest.mark.parametrize(
    "alert", alerts(), ids=lambda alert: f"{alert.name}-{alert.fields['labels'].get('window', '')}"
)
def test_an_alert_says_how_bad_it_is_and_leads_to_a_page_that_speaks_of_it(alert: Rule) -> None:
    said = alert.fields["annotations"]
    assert alert.fields["labels"]["severity"] in {"page", "ticket"}
    assert said["summary"]
    titles = {panel["title"] for panel in panels()}
    assert titles.issuperset(_QUOTED.findall(said["description"]))
    page = ROOT / said["runbook_url"]
    assert page.parent == RUNBOOKS
    text = page.read_text(encoding="utf-8")
    assert alert.name in text
    assert titles.issuperset(_QUOTED.findall(text))


def test_no_page_is_left_over() -> None:
    pages = {path.name for path in RUNBOOKS.glob("*.md")} - {"README.md"}
    assert pages == {Path(alert.fields["annotations"]["runbook_url"]).name for alert in alerts()}
    listed = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    assert pages == set(re.findall(r"\(([\w-]+\.md)\)", listed))


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("*.md")), ids=lambda path: path.name)
def test_a_page_names_commands_that_are_there_and_leads_nowhere_else(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for line in _COMMAND.findall(text):
        command, words = COMMANDS, line.split()
        while hasattr(command, "commands") and words and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        assert command.name not in {None, "allocator"}, line
        options = {option for parameter in command.params for option in parameter.opts}
        assert options.issuperset(word for word in words if word.startswith("--")), line
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.name)
def test_a_rule_asks_for_what_is_told(rule: Rule) -> None:
    assert not list(unknown_in(rule.expr, metrics()))
