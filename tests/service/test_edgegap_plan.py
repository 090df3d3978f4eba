"""What a plan says of what is declared and what is there; nothing is called here."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.providers.edgegap.catalog.rows import Application, Profile, Storage, Version
from allocator.service.edgegap.declared import Declared
from allocator.service.edgegap.declared_file import checked, load_declared
from allocator.service.edgegap.export import export
from allocator.service.edgegap.plan import Allowed, make_plan
from allocator.service.edgegap.snapshot import Snapshot
from allocator.service.edgegap.steps import Act, Plan, facts
from allocator.service.edgegap.toml_text import assignment

VERSION: dict[str, Any] = {
    "docker_repository": "registry.edgegap.com",
    "docker_image": "org/my-game",
    "docker_tag": "1.0",
    "req_cpu": 1024,
    "req_memory": 2048,
}
STORAGE: dict[str, Any] = {
    "endpoint": "https://s3.example.com",
    "bucket": "bucket",
    "access_key_id": "AK",
    "secret_access_key": {"env": "S3_SECRET"},
}
PROFILE: dict[str, Any] = {"source": "/bucket/c", "source_type": "File", "destination": "/usr/share/c"}
EMPTY = Snapshot({}, {}, {}, {})


def declare(
    version: dict[str, Any] | None = None, storage: dict[str, Any] | None = None, **application: Any
) -> Declared:
    versions = {} if version is None else {"v1": {**VERSION, **version}}
    tables: dict[str, Any] = {"applications": {"my-game": {**application, "versions": versions}}}
    if storage is not None:
        tables["storages"] = {"logs": {**STORAGE, **storage}}
    return checked(Declared, tables, Path(), "test")


def there(*, profiles: dict[str, Any] | None = None, **version: Any) -> Snapshot:
    """My-game with v1, and the storage `logs`."""
    return Snapshot(
        applications={"my-game": Application(name="my-game", is_active=True, image="aGk=")},
        versions={("my-game", "v1"): Version.model_validate({**VERSION, "name": "v1", "is_active": True, **version})},
        storages={"logs": Storage(name="logs", access_key_id="AK", endpoint="https://s3.example.com", bucket="bucket")},
        profiles={
            ("logs", name): Profile.model_validate({**each, "name": name}) for name, each in (profiles or {}).items()
        },
    )


def lines(plan: Plan) -> list[str]:
    return [f"{step.act.sign} {step.item}" for step in plan.steps]


def test_what_is_not_there_is_made_in_the_order_in_which_one_needs_the_other() -> None:
    declared = declare({"endpoint_storage": "logs", "pull_profiles": ["logs/c"]}, {"pull_profiles": {"c": PROFILE}})
    assert lines(make_plan(declared, EMPTY)) == [
        "+ storage logs",
        "+ profile logs/c",
        "+ application my-game",
        "+ version my-game/v1",
        "+ link my-game/v1 <- logs/c",
    ]


def test_what_is_as_declared_is_left_alone() -> None:
    plan = make_plan(declare({"max_duration": 1440, "restart_policy": "always", "is_active": True}, {}), there())
    assert plan.steps == ()
    assert plan.refusals == ()


def test_what_the_file_does_not_name_is_not_compared() -> None:
    found = there(max_duration=7, force_cache=True, dns_config="x", envs=[{"key": "A", "value": "b"}])
    assert make_plan(declare({}), found).changes == ()


@pytest.mark.parametrize(
    ("declared", "now", "shown"),
    [
        ({"is_active": False}, {}, "is_active: true -> false"),
        ({"max_duration": 60}, {"max_duration": 30}, "max_duration: 30 -> 60"),
        ({"dns_config": "d"}, {}, 'dns_config: null -> "d"'),
        (
            {"ports": [{"port": 1, "protocol": "UDP", "name": "a"}]},
            {"ports": [{"port": 1, "protocol": "UDP", "name": "b"}]},
            "ports: 1/UDP b -> 1/UDP a",
        ),
        ({"envs": {"A": "new"}}, {"envs": [{"key": "A", "value": "old"}]}, 'envs.A: "old" -> "new"'),
        ({"envs": {}}, {"envs": [{"key": "A", "value": "old"}]}, 'envs.A: "old" -> None'),
        (
            {"envs": {"A": {"env": "X"}}},
            {"envs": [{"key": "A", "value": "old"}]},
            'envs.A: "old" -> { env = "X" }, hidden',
        ),
        (
            {"envs": {"A": "open"}},
            {"envs": [{"key": "A", "value": "", "is_hidden": True}]},
            'envs.A: (hidden) -> "open"',
        ),
    ],
)
def test_drift_is_shown_field_by_field(declared: dict[str, Any], now: dict[str, Any], shown: str) -> None:
    (step,) = make_plan(declare(declared), there(**now)).steps
    assert step.act is Act.CHANGE
    assert [f"{each.name}: {each.before} -> {each.after}" for each in step.differences] == [shown]


def test_ports_in_another_order_and_without_a_declared_name_are_the_same() -> None:
    declared = [{"port": 2, "protocol": "TCP"}, {"port": 1, "protocol": "UDP", "name": "game"}]
    now = [
        {"port": 1, "protocol": "UDP", "name": "game", "to_check": True},
        {"port": 2, "protocol": "TCP", "name": "2"},
    ]
    assert make_plan(declare({"ports": declared}), there(ports=now)).steps == ()


def test_the_image_of_an_active_version_is_refused_until_it_is_allowed_by_name() -> None:
    plan = make_plan(declare({"docker_tag": "1.1"}), there())
    assert [refusal.partition(":")[0] for refusal in plan.refusals] == ["version my-game/v1"]
    assert "--replace-active" in plan.refusals[0]
    allowed = make_plan(declare({"docker_tag": "1.1"}), there(), Allowed(replace_active=True))
    assert allowed.refusals == ()
    assert "ACTIVE" in allowed.steps[0].differences[0].remark


def test_a_version_whose_state_is_not_told_counts_as_active() -> None:
    assert make_plan(declare({"docker_image": "other"}), there(is_active=None)).refusals


def test_the_image_of_an_inactive_version_changes_without_asking() -> None:
    assert make_plan(declare({"docker_tag": "1.1"}), there(is_active=False)).refusals == ()


@pytest.mark.parametrize("name", ["req_cpu", "req_memory", "req_video"])
def test_what_the_vendor_cannot_change_is_refused_with_what_to_do(name: str) -> None:
    (refusal,) = make_plan(declare({name: 1500}), there()).refusals
    assert name in refusal
    assert "another name" in refusal


def test_nothing_is_deleted_unless_asked_and_what_would_be_is_named() -> None:
    declared = checked(Declared, {}, Path(), "test")
    plan = make_plan(declared, there(profiles={"c": PROFILE}))
    assert plan.steps == ()
    assert [str(item) for item in plan.undeclared] == ["application my-game", "profile logs/c", "storage logs"]
    pruned = make_plan(declared, there(profiles={"c": PROFILE}), Allowed(prune=True))
    assert lines(pruned) == ["- application my-game", "- profile logs/c", "- storage logs"]
    assert "v1" in pruned.steps[0].remark
    assert "ACTIVE" in pruned.steps[0].remark


def test_what_a_version_needs_must_be_there_or_declared() -> None:
    missing = make_plan(declare({"endpoint_storage": "nowhere", "pull_profiles": ["logs/none"]}), there())
    assert len(missing.refusals) == 2
    assert "declare [storages.nowhere]" in missing.refusals[0]
    assert "declare [storages.logs.pull_profiles.none]" in missing.refusals[1]
    assert make_plan(declare({"endpoint_storage": "logs"}), there()).refusals == ()
    pruned = make_plan(declare({"endpoint_storage": "logs"}), there(), Allowed(prune=True))
    assert "would be pruned" in pruned.refusals[0]


def test_links_cannot_be_read_so_that_they_are_put_again_without_counting_as_a_change() -> None:
    declared = declare({"pull_profiles": ["logs/c"]}, {"pull_profiles": {"c": PROFILE}})
    plan = make_plan(declared, there(profiles={"c": PROFILE}))
    assert lines(plan) == ["= link my-game/v1 <- logs/c"]
    assert plan.changes == ()


def test_pruning_takes_away_links_to_what_a_version_no_longer_names() -> None:
    declared = declare({"pull_profiles": []}, {"pull_profiles": {"c": PROFILE}})
    plan = make_plan(declared, there(profiles={"c": PROFILE}), Allowed(prune=True))
    assert [(step.act, str(step.item)) for step in plan.steps] == [(Act.UNLINK, "link my-game/v1 <- logs/c")]


def test_secrets_are_written_when_made_with_what_they_belong_to_or_when_asked() -> None:
    secrets: dict[str, Any] = {
        "private_username": "robot",
        "private_token": {"env": "TOKEN"},
        "envs": {"K": {"env": "KEY"}},
    }
    hidden = [{"key": "K", "value": "", "is_hidden": True}]
    now = there(private_username="robot", envs=hidden)
    assert make_plan(declare(secrets), now).steps == ()
    written = make_plan(declare(secrets, {}), now, Allowed(write_secrets=True))
    assert [str(reference) for reference in written.references] == [
        '{ env = "S3_SECRET" }',
        '{ env = "TOKEN" }',
        '{ env = "KEY" }',
    ]
    other_user = make_plan(declare(secrets), there(private_username="old", envs=hidden))
    assert [str(reference) for reference in other_user.references] == ['{ env = "TOKEN" }']
    other_variable = make_plan(declare({**secrets, "envs": {**secrets["envs"], "A": "b"}}), now)
    assert [str(reference) for reference in other_variable.references] == ['{ env = "KEY" }']


def test_a_plan_as_json_holds_every_step() -> None:
    told = facts(make_plan(declare({"docker_tag": "2"}), there()))
    assert told["changes"] == 1
    assert told["steps"][0]["fields"][0] == {
        "field": "docker_tag",
        "before": '"1.0"',
        "after": '"2"',
        "remark": told["steps"][0]["fields"][0]["remark"],
    }
    assert len(told["refusals"]) == 1


def test_the_plan_of_an_export_shows_no_change(tmp_path: Path) -> None:
    found = there(
        profiles={"c d": PROFILE},
        private_username="robot",
        private_token="must-not-be-exported",
        max_duration=60,
        req_video=0,
        restart_policy="never",
        endpoint_storage="logs",
        ports=[{"port": 7777, "protocol": "UDP", "name": "game"}, {"port": 1, "protocol": "TCP", "to_check": False}],
        envs=[
            {"key": "A", "value": 'q"uo\\te\u200b\x7f', "is_hidden": False},
            {"key": "K", "value": "must-not-be-exported", "is_hidden": True},
        ],
    )
    text = export(found)
    assert "must-not-be-exported" not in text
    file = tmp_path / "edgegap.toml"
    file.write_text(text, encoding="utf-8")
    plan = make_plan(load_declared(file), found, Allowed(prune=True))
    assert plan.steps == ()
    assert plan.refusals == ()


def test_what_an_export_cannot_declare_any_more_stands_in_a_comment(tmp_path: Path) -> None:
    text = export(there(max_duration=2880, private_username=""))
    assert "# beyond what can be declared: max_duration = 2880" in text
    file = tmp_path / "edgegap.toml"
    file.write_text(text, encoding="utf-8")
    assert make_plan(load_declared(file), there(max_duration=2880)).steps == ()
    too_small = export(there(req_cpu=64, req_memory=64))
    assert "# [applications.my-game.versions.v1]" in too_small
    file.write_text(too_small, encoding="utf-8")
    assert load_declared(file).applications["my-game"].versions == {}


TOML_VALUES = st.recursive(
    st.text() | st.booleans() | st.integers(-(2**63), 2**63 - 1),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(st.text(), TOML_VALUES)
def test_whatever_is_exported_is_read_back_as_the_same(name: str, value: Any) -> None:
    assert tomllib.loads(assignment(name, value)) == {name: value}
