"""A request's bytes: whatever they are, the answer is a value; the same request always has the same digest."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from allocator.contract.request import (
    REQUEST_BYTES_MAX,
    Decoded,
    InvalidRequest,
    decode_request,
    ttl_seconds,
)

FULL: dict[str, Any] = {
    "id": "m-1",
    "image": "game",
    "version": "1.2",
    "regions": ["europe", "us-east"],
    "players": [{"id": "p", "latency_ms": {"europe": 20.5}}, {"ip": "203.0.113.9", "lat": 1, "lon": 2}],
    "latency_caps": [{"max_ms": 80, "after_seconds": 0}],
    "env": {"A": "1"},
    "args": ["-x"],
    "labels": {"k": "v"},
    "restart": True,
    "ttl": "2h30m",
    "timeout_seconds": 30,
    "context": {"n": [1, None, "ü"]},
    "reply_to": "mm-1",
    "traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01",
}
OTHER: dict[str, Any] = {
    "id": "m-2",
    "image": "other",
    "version": "1.3",
    "regions": ["us-east", "europe"],
    "players": [],
    "latency_caps": [],
    "env": {"A": "2"},
    "args": ["-x", "-y"],
    "labels": {},
    "restart": False,
    "ttl": "2h",
    "timeout_seconds": 31,
    "context": {"n": [None, 1, "ü"]},
    "reply_to": "mm-2",
    "traceparent": "00-" + "3" * 32 + "-" + "2" * 16 + "-01",
}
SAME_ALL_THE_SAME = {"timeout_seconds", "reply_to", "traceparent"}


def decoded(body: dict[str, Any] | bytes) -> Decoded:
    answer = decode_request(body if isinstance(body, bytes) else json.dumps(body).encode())
    assert isinstance(answer, Decoded), answer
    return answer


def refused(body: dict[str, Any] | bytes) -> InvalidRequest:
    answer = decode_request(body if isinstance(body, bytes) else json.dumps(body).encode())
    assert isinstance(answer, InvalidRequest), answer
    return answer


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.binary(max_size=200))
@example(b"")
@example(b"\xff\xfe")
@example(b"[" * 50_000)
@example(b'{"a":' * 9_000)
@example(b'"' + b"x" * REQUEST_BYTES_MAX + b'"')
def test_any_bytes_give_a_value(raw: bytes) -> None:
    assert isinstance(decode_request(raw), InvalidRequest)


@given(st.dictionaries(st.sampled_from([*FULL, "unknown", "\ud800"]), JSON, max_size=6))
@settings(suppress_health_check=[HealthCheck.too_slow])  # the first text ever drawn has its tables made first
@example({"id": "m", "image": "\ud800"})
@example({"id": "m", "image": "g", "\ud800": 1})
@example({"id": "m", "image": "g", "env": {"\udfff": "x"}})
@example({"id": "m", "image": "g", "env": {"x": "\udfff"}})
@example({"id": "m", "image": "g", "context": {"\udfff": 1}})
@example({"id": "m", "image": "g", "context": 10**400})
@example({"id": "\ud800", "image": "g"})
@example({"id": "m", "image": "g", "players": [{"latency_ms": {"\ud800": 1}}]})
def test_any_json_object_gives_a_value_and_a_message_that_can_be_sent(body: dict[str, Any]) -> None:
    answer = decode_request(json.dumps(body).encode())
    if isinstance(answer, InvalidRequest):
        assert answer.message.encode()
        assert len(answer.message) < 2000
        assert answer.request_id is None or answer.request_id == body["id"]
    else:
        assert answer.request.id == body["id"]
        if answer.context is not None:
            assert answer.context.encode()


def test_every_key_of_the_contract_is_read() -> None:
    request = decoded(FULL).request
    assert request.model_dump(mode="json", exclude_defaults=True).keys() == FULL.keys()
    assert (request.regions, request.args, request.timeout_seconds) == (("europe", "us-east"), ("-x",), 30)
    assert json.loads(decoded(FULL).context or "") == FULL["context"]


@given(st.permutations(list(FULL)), st.sampled_from([None, 1, 4]))
def test_the_digest_is_the_same_for_keys_in_any_order_and_any_blanks(order: list[str], indent: int | None) -> None:
    raw = json.dumps({key: FULL[key] for key in order}, indent=indent).encode()
    assert decoded(raw).digest == decoded(FULL).digest


@pytest.mark.parametrize("key", FULL)
def test_the_digest_changes_with_every_key_that_counts_and_no_other(key: str) -> None:
    same = decoded({**FULL, key: OTHER[key]}).digest == decoded(FULL).digest
    assert same is (key in SAME_ALL_THE_SAME)
    if key not in {"id", "image"}:
        without = decoded({name: value for name, value in FULL.items() if name != key})
        assert (without.digest == decoded(FULL).digest) is (key in SAME_ALL_THE_SAME)


def test_numbers_that_are_equal_are_one_request() -> None:
    one = decoded(b'{"id":"m","image":"g","context":[1,100,-0.0]}')
    same = decoded(b'{"id":"m","image":"g","context":[1.0,1e2,0]}')
    assert one.digest == same.digest
    assert one.digest != decoded(b'{"id":"m","image":"g","context":[1,100,0.5]}').digest


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id", ""),
        ("id", "x" * 129),
        ("id", "a b"),
        ("id", "a\n"),
        ("id", 7),
        ("image", ""),
        ("image", "x" * 257),
        ("regions", []),
        ("regions", ["a", "a"]),
        ("regions", [str(n) for n in range(17)]),
        ("regions", "europe"),
        ("players", [{}] * 257),
        ("players", [{"latency_ms": {"europe": -1}}]),
        ("players", [{"lat": 91}]),
        ("env", {"A": ""}),
        ("env", {"A": 1}),
        ("env", {"": "x"}),
        ("args", [""]),
        ("labels", {"allocator": "x"}),
        ("restart", "yes"),
        ("ttl", ""),
        ("ttl", "0m"),
        ("ttl", "90s"),
        ("ttl", "721h"),
        ("timeout_seconds", 0.05),
        ("timeout_seconds", 3601),
        ("timeout_seconds", True),
        ("timeout_seconds", "30"),
        ("context", "x" * 4095),
        ("reply_to", "x" * 65),
        ("reply_to", "a b"),
        ("traceparent", "00-" + "0" * 32 + "-" + "2" * 16 + "-01"),
    ],
)
def test_a_value_past_its_limit_is_refused_by_its_key(key: str, value: Any) -> None:
    answer = refused({**FULL, key: value})
    assert answer.message.startswith(key)
    assert answer.request_id == (None if key == "id" else "m-1")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id", "x" * 128),
        ("id", "A.b_c:d-9"),
        ("image", "x" * 256),
        ("regions", [str(n) for n in range(16)]),
        ("players", [{}] * 256),
        ("ttl", "720h"),
        ("ttl", "1m"),
        ("timeout_seconds", 0.1),
        ("timeout_seconds", 3600),
        ("context", "x" * 4094),
        ("reply_to", "x" * 64),
    ],
)
def test_a_value_at_its_limit_is_taken(key: str, value: Any) -> None:
    decoded({**FULL, key: value})


def test_a_request_of_the_greatest_size_is_taken_and_one_byte_more_is_not() -> None:
    body = b'{"id":"m","image":"g","env":{"A":"' + b"x" * 60_000 + b'"}}'
    raw = body + b" " * (REQUEST_BYTES_MAX - len(body))
    decoded(raw)
    assert "65537" in refused(raw + b" ").message


def test_no_message_repeats_a_value_of_env_or_args() -> None:
    for body in ({"env": {"K": ["hunter2"]}}, {"args": [{"hunter2": 1}]}, {"env": {"K": "hunter2"}, "ttl": "hunter2"}):
        assert "hunter2" not in refused({"id": "m", "image": "g", **body}).message


def test_every_unknown_key_is_named_and_what_can_be_read_of_the_sender_is_kept() -> None:
    answer = refused({**FULL, "regoins": [], "imgae": 1})
    assert "regoins: unknown key" in answer.message
    assert "imgae: unknown key" in answer.message
    assert (answer.request_id, answer.reply_to) == ("m-1", "mm-1")


def test_a_number_too_large_for_json_readers_is_refused() -> None:
    refused(b'{"id":"m","image":"g","context":1e999}')


@pytest.mark.parametrize("ttl", ["2h\n", "٣h"])
def test_a_ttl_is_of_plain_digits_and_nothing_follows(ttl: str) -> None:
    refused({"id": "m", "image": "g", "ttl": ttl})


@given(st.integers(0, 719), st.integers(0, 59))
def test_a_ttl_is_its_hours_and_minutes(hours: int, minutes: int) -> None:
    if hours or minutes:
        assert ttl_seconds(f"{hours}h{minutes}m") == hours * 3600 + minutes * 60
