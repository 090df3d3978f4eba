"""The documents say what is so: those made from the code are as it makes them, and what others name is there."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.exceptions import NoPermissionError

from allocator.client import AllocatorClient
from allocator.contract.allocation import Allocation
from allocator.contract.asyncapi import asyncapi_document
from allocator.contract.codes import Code
from allocator.contract.events import allocation_event, refusal_event
from allocator.contract.keys import Keys
from allocator.contract.openapi import openapi_document
from allocator.contract.request import AllocationRequest, Decoded, InvalidRequest, Priority, decode_request
from allocator.contract.schema import event_schema, request_schema
from allocator.service.checkup_access import ACL_RULES
from allocator.service.documents import documents
from allocator.service.settings_page import NO_DOCSTRING, settings_page
from tests.conftest import TestServer
from tests.contract.test_answer import allocations
from tests.deploy.tools import DEPLOY, ROOT

DOCS = DEPLOY / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
MAKE = "run: python -m allocator.service.documents"
REQUEST = jsonschema.Draft202012Validator(request_schema())
EVENT = jsonschema.Draft202012Validator(event_schema(), format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize("name", sorted(documents()))
def test_a_page_that_is_made_from_the_code_is_as_the_code_makes_it(name: str) -> None:
    kept, made = (DOCS / name).read_text(), documents()[name]
    if name.endswith(".json"):
        # By meaning: the order of keys is pydantic's to choose.
        assert json.loads(kept) == json.loads(made), MAKE
    else:
        assert kept == made, MAKE


def test_every_setting_says_what_it_does() -> None:
    lines = [line.split("|")[1].strip() for line in settings_page().splitlines() if NO_DOCSTRING in line]
    assert not lines, "write a docstring under each in service/settings_tables.py or settings_model.py"


def body(**more: Any) -> dict[str, Any]:
    return {"id": "m-1", "image": "my-game", **more}


@pytest.mark.parametrize(
    "asked",
    [
        body(),
        body(regions=["europe"], players=[{"latency_ms": {"europe": 30}, "ip": "192.0.2.1"}]),
        body(latency_caps=[{"max_ms": 60, "after_seconds": 5}], env={"A": "b"}, args=["-x"], labels={"a": ""}),
        body(ttl="2h30m", timeout_seconds=0.1, restart=True, context={"a": [1, None]}, reply_to="mm-7"),
        body(version=None, regions=None, ttl="90m", traceparent=f"00-{'1' * 32}-{'2' * 16}-01"),
    ],
)
def test_what_the_program_takes_the_schema_takes(asked: dict[str, Any]) -> None:
    assert isinstance(decode_request(json.dumps(asked).encode()), Decoded)
    REQUEST.validate(asked)


@pytest.mark.parametrize(
    "asked",
    [
        {"image": "my-game"},
        body(id="m 1"),
        body(id=""),
        body(region="europe"),
        body(regions=[]),
        body(regions=["a", "a"]),
        body(regions=[f"r-{number}" for number in range(17)]),
        body(env={"A": ""}),
        body(labels={"allocator": "x"}),
        body(ttl="2 hours"),
        body(ttl=""),
        body(timeout_seconds=0),
        body(restart="yes"),
        body(players=[{"lat": 91}]),
        body(latency_caps=[{"after_seconds": 1}]),
        body(traceparent="00-1-2-01"),
    ],
)
def test_what_the_program_refuses_the_schema_refuses(asked: dict[str, Any]) -> None:
    assert isinstance(decode_request(json.dumps(asked).encode()), InvalidRequest)
    assert not REQUEST.is_valid(asked)


@settings(max_examples=30, deadline=None)
@given(allocations.filter(lambda each: each.final), st.text("0123456789-", min_size=1, max_size=20))
def test_every_announcement_is_of_the_schema(allocation: Allocation, entry_id: str) -> None:
    EVENT.validate(json.loads(allocation_event(allocation, deployment="d", entry_id=entry_id)))


def test_a_refusal_is_of_the_schema_and_half_of_one_is_not() -> None:
    text = refusal_event(
        deployment="d",
        entry_id="1-0",
        priority=Priority.NORMAL,
        request_id="m-1",
        code=Code.ID_CONFLICT,
        message="another body",
        at_ms=1,
    )
    event = json.loads(text)
    EVENT.validate(event)
    del event["data"]["entry_id"]
    assert not EVENT.is_valid(event)


def test_the_asyncapi_document_names_every_public_stream_and_nothing_that_is_not_there() -> None:
    document = asyncapi_document()
    keys = Keys("allocator")
    streams = {*(keys.requests(priority) for priority in Priority), keys.cancellations, keys.results}
    named = {channel["address"].replace("{namespace}", keys.prefix) for channel in document["channels"].values()}
    assert named == streams | {keys.results_for("{reply_to}")}
    references = re.findall(r'"\$ref": "(#/(?:channels|components)/[^"]+)"', json.dumps(document))
    assert references
    for reference in references:
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def test_every_reference_of_the_openapi_document_leads_somewhere() -> None:
    document = openapi_document()
    references = re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document))
    assert references
    for reference in references:
        found: Any = document
        for part in reference.split("/"):
            found = found[part]
        jsonschema.Draft202012Validator.check_schema(found)


def test_the_contract_names_every_key_of_a_request_every_field_of_an_answer_and_every_code() -> None:
    page = (DOCS / "contract.md").read_text()
    named = set(re.findall(r"`([a-z_]+)`", page))
    assert set(AllocationRequest.model_fields) <= named
    assert {field.name for field in fields(Allocation)} <= named
    rows = re.findall(r"^\| `([a-z_]+)` \|", page[page.index("## 4. Codes") :], re.MULTILINE)
    assert set(rows) == set(Code)


def links() -> Iterator[tuple[Path, str]]:
    for page in [*PAGES, ROOT / "README.md"]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                yield page, target


def test_every_link_leads_somewhere() -> None:
    broken = [f"{page.name}: {target}" for page, target in links() if not (page.parent / target).exists()]
    assert not broken


def test_every_page_can_be_found_from_the_index() -> None:
    index = {target for page, target in links() if page == DOCS / "README.md"}
    pages = {path.name for path in DOCS.iterdir() if path.is_file()} - {"README.md"}
    assert pages <= index, "name it in deploy/docs/README.md"


def test_every_proof_of_a_promise_is_a_test() -> None:
    proofs = 0
    for line in (DOCS / "promises.md").read_text().splitlines():
        for room, name, tests in re.findall(r"`([a-z_]+)/([a-z_]+)`: ((?:`test_\w+`(?:, )?)+)", line):
            text = (ROOT / "tests" / room / f"test_{name}.py").read_text()
            for test in re.findall(r"`(test_\w+)`", tests):
                assert f"def {test}(" in text, f"{room}/{name}: {test}"
                proofs += 1
        assert "`test_" not in line or re.search(r"`: `test_", line)
    assert proofs > 30


def acl(page: str, user: str) -> list[list[str]]:
    """The words of each `ACL SETUSER` of a page, continued over indented lines."""
    blocks = re.findall(r"```\n(ACL SETUSER .*?)```", (DOCS / page).read_text(), re.DOTALL)
    return [words for words in map(shlex.split, blocks) if words[2] == user]


def test_the_workers_rules_in_the_documents_are_those_that_doctor_asks_for() -> None:
    (rules,) = acl("redis.md", "worker")
    assert tuple(rules[-len(ACL_RULES) :]) == ACL_RULES


@pytest.fixture
def matchmaker(private_server: TestServer) -> Callable[[int], str]:
    """The URL of a user with so many of the documented blocks of rules."""

    def make(blocks: int) -> str:
        for words in acl("security.md", "matchmaker")[:blocks]:
            private_server.command(*words)
        return private_server.url.replace("redis://", "redis://matchmaker:secret@")

    return make


async def test_a_matchmaker_with_the_documented_rules_can_ask_read_and_cancel_and_read_nothing_else(
    private_server: TestServer, matchmaker: Callable[[int], str]
) -> None:
    keys = Keys("allocator")
    url = matchmaker(1)
    allowed: list[tuple[str, ...]] = [
        *(("XADD", keys.requests(priority), "*", "request", "{}") for priority in Priority),
        ("XADD", keys.cancellations, "*", "id", "m-1"),
        ("HGETALL", keys.allocation("m-1")),
        ("XREAD", "COUNT", "1", "STREAMS", keys.results, "0"),
        ("XREAD", "COUNT", "1", "STREAMS", keys.results_for("mm-7"), "0"),
        ("XGROUP", "CREATE", keys.results, "mm", "$", "MKSTREAM"),
        ("XREADGROUP", "GROUP", "mm", "r-1", "COUNT", "1", "STREAMS", keys.results, ">"),
        ("XACK", keys.results, "mm", "1-0"),
    ]
    refused: list[tuple[str, ...]] = [
        ("XREAD", "STREAMS", keys.requests(Priority.NORMAL), "0"),
        ("XREAD", "STREAMS", keys.dead_letters, "0"),
        ("HGETALL", keys.record("m-1")),
        ("XADD", keys.dead_letters, "*", "a", "b"),
        ("KEYS", "*"),
        ("FLUSHALL",),
    ]
    with Redis.from_url(url, protocol=2) as client:
        for command in allowed:
            client.execute_command(*command)
        for command in refused:
            with pytest.raises(NoPermissionError):
                client.execute_command(*command)


async def test_the_python_client_needs_no_more_than_the_documented_rules(
    private_server: TestServer, matchmaker: Callable[[int], str]
) -> None:
    async with AllocatorClient(matchmaker(2)) as client:
        await client.submit({"id": "m-1", "image": "my-game"})
        found = await client.get("m-1")
        assert found is not None
        assert found.state == "queued"
        await client.cancel("m-1")
        with pytest.raises(TimeoutError):
            await client.wait("m-1", timeout_seconds=0.2)
        with pytest.raises(TimeoutError):  # the id is known: whether its own entry is refused has to be found out
            await client.allocate({"id": "m-1", "image": "my-game"}, timeout_seconds=0.2)
        assert not (await client.take_up({"id": "m-1", "image": "my-game"}, timeout_seconds=0.2)).taken
    refusals = [entry for entry in private_server.command("ACL", "LOG") if b"setinfo" not in repr(entry).encode()]
    assert not refusals
