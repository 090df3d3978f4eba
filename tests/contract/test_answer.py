"""The allocation hash, its event, and the names of sessions."""

from __future__ import annotations

import json
import uuid
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocator.contract.allocation import ATTEMPTS_MAX, Allocation, Attempt, Outcome, Port, State, endpoint
from allocator.contract.codes import Code
from allocator.contract.events import allocation_event, refusal_event, timestamp
from allocator.contract.identity import session_id
from allocator.contract.keys import Keys
from allocator.contract.request import Priority

text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
moment = st.integers(0, 2**43)
milliseconds = st.floats(0, 1e6).map(lambda value: round(value, 3))
number = st.integers(1, 65535)
ports = st.builds(Port, name=text, protocol=st.sampled_from(["udp", "tcp"]), container_port=number, port=number)
attempts = st.builds(
    Attempt,
    region=text,
    provider=text,
    location=text,
    outcome=st.sampled_from(Outcome),
    status=st.none() | st.integers(100, 599),
    at=moment,
    duration_ms=milliseconds,
    waited_ms=milliseconds,
)
plain_json = st.recursive(st.booleans() | st.integers(-(2**53), 2**53) | text, st.lists, max_leaves=4)
optional: dict[str, Any] = {
    **dict.fromkeys(
        ("host", "endpoint", "region", "provider", "location", "session_id", "session_key"), st.none() | text
    ),
    **dict.fromkeys(("error_code", "error_message"), st.none() | text),
    **dict.fromkeys(("enqueued_at", "updated_at", "allocated_at", "expires_at", "retry_after_ms"), st.none() | moment),
}
allocations = st.builds(
    Allocation,
    state=st.sampled_from(State),
    request_id=text,
    priority=st.sampled_from(["high", "normal", "low"]),
    context=st.none() | plain_json.filter(lambda value: value is not False),
    ports=st.lists(ports, max_size=3).map(tuple),
    attempts=st.lists(attempts, max_size=4).map(tuple),
    final=st.booleans(),
    **optional,
)


@given(allocations)
def test_what_is_written_to_the_hash_is_read_back(allocation: Allocation) -> None:
    hashed = allocation.to_hash()
    assert all(isinstance(value, str) for value in hashed.values())
    assert next(iter(hashed)) == "state"
    assert Allocation.from_hash(hashed) == allocation
    assert Allocation.from_hash({**hashed, "a_field_of_tomorrow": "x"}) == allocation


@given(allocations)
def test_the_event_says_what_the_hash_says(allocation: Allocation) -> None:
    event = json.loads(allocation_event(allocation, deployment="d", entry_id="1-0"))
    data, hashed = event["data"], allocation.to_hash()
    assert data.keys() == hashed.keys()
    for name, value in hashed.items():
        said = data[name]
        if name == "final":
            assert said is True
        elif isinstance(said, str) and name != "context":
            assert said == value
        else:
            assert said == json.loads(value)


def test_a_context_that_is_false_is_handed_back_like_any_other() -> None:
    event = json.loads(allocation_event(Allocation(State.FAILED, "m", context=False), deployment="d", entry_id="1-0"))
    assert event["data"]["context"] is False


@pytest.mark.parametrize("count", [ATTEMPTS_MAX, ATTEMPTS_MAX + 1, 200])
def test_a_hash_holds_the_first_attempt_and_the_latest(count: int) -> None:
    many = [Attempt("r", "p", "l", Outcome.UNKNOWN, None, at, 1.0, 1.0) for at in range(count)]
    read = Allocation.from_hash(Allocation(State.EXPIRED, "m", attempts=tuple(many)).to_hash()).attempts
    assert len(read) == ATTEMPTS_MAX
    assert (read[0], read[-1]) == (many[0], many[-1])


def test_an_event_holds_no_more_attempts_than_the_hash() -> None:
    attempt = Attempt("r", "p", "l", Outcome.UNKNOWN, 500, 1, 1.0, 1.0)
    event = allocation_event(Allocation(State.EXPIRED, "m", attempts=(attempt,) * 70), deployment="d", entry_id="1-0")
    assert len(json.loads(event)["data"]["attempts"]) == ATTEMPTS_MAX


def test_an_event_bears_what_cloudevents_asks_for() -> None:
    allocation = Allocation(State.ALLOCATED, "m-1", updated_at=1_700_000_000_123, final=True)
    event = json.loads(allocation_event(allocation, deployment="prod", entry_id="5-0"))
    assert event == {
        "specversion": "1.0",
        "type": "allocator.allocation.allocated.v1",
        "source": "/allocator/prod",
        "id": event["id"],
        "time": "2023-11-14T22:13:20.123Z",
        "subject": "m-1",
        "datacontenttype": "application/json",
        "data": event["data"],
    }
    assert "5-0" in event["id"]
    assert allocation_event(allocation, deployment="prod", entry_id="5-0") == json.dumps(
        event, separators=(",", ":"), ensure_ascii=False
    )


def test_a_refusal_names_its_entry_and_why() -> None:
    code = Code.ID_CONFLICT
    refusal = refusal_event(
        deployment="d", entry_id="5-0", priority=Priority.NORMAL, request_id="m", code=code, message="other", at_ms=1
    )
    event = json.loads(refusal)
    assert event["type"] == "allocator.request.refused.v1"
    assert event["data"] == {
        "state": "refused",
        "request_id": "m",
        "entry_id": "5-0",
        "priority": "normal",
        "error_code": "id_conflict",
        "error_message": "other",
    }


@given(st.integers(0, 4_000_000_000_000))
def test_a_timestamp_keeps_its_milliseconds(at_ms: int) -> None:
    assert timestamp(at_ms).endswith(f".{at_ms % 1000:03d}Z")
    assert len(timestamp(at_ms)) == len("2023-11-14T22:13:20.123Z")


def test_players_dial_the_game_port_or_the_first_and_ipv6_is_bracketed() -> None:
    query, game = Port("query", "udp", 27015, 20001), Port("game", "udp", 7777, 20002)
    assert endpoint("10.0.0.1", (query, game)) == "10.0.0.1:20002"
    assert endpoint("10.0.0.1", (query,)) == "10.0.0.1:20001"
    assert endpoint("2001:db8::1", (game,)) == "[2001:db8::1]:20002"
    assert endpoint("10.0.0.1", ()) is None


names = st.text("abcABC019._:-", min_size=1, max_size=8)
sources = st.tuples(names, names, st.integers(1, 50))


@given(sources, sources)
def test_two_sessions_have_one_id_only_if_all_that_makes_it_is_one(
    one: tuple[str, str, int], other: tuple[str, str, int]
) -> None:
    assert (session_id(*one) == session_id(*other)) is (one == other)
    assert uuid.UUID(session_id(*one)).version == 5


def test_a_session_id_never_changes_from_release_to_release() -> None:
    assert session_id("mygame-prod", "m-1", 1) == "e3d0a80a-eaa7-58bf-8958-f153f09765a4"


@given(st.sampled_from(["allocator", "a:1"]), names)
def test_every_key_of_a_namespace_bears_its_tag_and_no_two_keys_are_one(namespace: str, name: str) -> None:
    keys = Keys(namespace)
    every = [*keys.lasting, keys.allocation(name), keys.results_for(name), keys.record(name)]
    assert all(key.startswith(f"{{{namespace}}}:") for key in every)
    assert len(set(every)) == len(keys.lasting) + 3
    assert {keys.requests(priority) for priority in Priority} <= keys.lasting


def test_the_hash_knows_every_field_of_an_answer() -> None:
    attempt, port = Attempt("r", "p", "l", Outcome.CREATED, 201, 1, 1.0, 1.0), Port("game", "udp", 1, 2)
    full: dict[str, Any] = dict.fromkeys(optional, "1")
    full |= {"context": {"a": 1}, "ports": (port,), "attempts": (attempt,), "final": True}
    hashed = Allocation(State.ALLOCATED, "m", **full).to_hash()
    assert hashed.keys() == {each.name for each in fields(Allocation)}
