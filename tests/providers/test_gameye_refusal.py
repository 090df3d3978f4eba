"""What is told to a person, and how long a host asks us to wait."""

from __future__ import annotations

import json
import time

import pytest

from allocator.providers.exchange import Reply
from allocator.providers.replies import MESSAGE_LENGTH_MAX, error_message, retry_after_seconds


def said(body: object, *secrets: str) -> str:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return error_message(Reply(422, {}, raw), secrets)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": " 12 "}, 12.0),
        ({"Retry-After": "1.5"}, 1.5),
        ({"Retry-After": "86400"}, 300.0),
        ({"Retry-After": "9" * 400}, 300.0),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "Thu, 01 Jan 1970 00:17:00 GMT"}, 20.0),
        ({"Retry-After": "Thu, 01 Jan 1970 00:10:00 GMT"}, 0.0),
        ({"Retry-After": "Fri, 02 Jan 1970 00:00:00 GMT"}, 300.0),
        ({"Retry-After": "Thu, 99 Jan 1970 00:17:00 GMT"}, None),
        ({"Retry-After": "Thu, 01 Jan 1970 00:17:00 GMT", "Date": "Thu, 01 Jan 1970 00:16:50 GMT"}, 10.0),
        ({"Retry-After": "Thu, 01 Jan 1970 00:17:00 GMT", "Date": "today"}, 20.0),
    ],
)
def test_retry_after_is_read_in_both_forms_and_bounded(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers, now_seconds=1000.0) == seconds


@pytest.mark.skipif(
    not hasattr(time, "tzset"), reason="this platform cannot change its time zone within a process: run it on Linux"
)
def test_a_date_without_a_zone_is_utc_wherever_we_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC+5")
    time.tzset()
    try:
        assert retry_after_seconds({"Retry-After": "Thu, 01 Jan 1970 00:17:00 -0000"}, now_seconds=1000.0) == 20.0
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_message_has_the_hosts_words_the_violations_and_the_trace() -> None:
    violations = [{"field": "env.A", "description": "is empty"}, "odd", {"field": "ttl"}]
    body = {"message": "Bad", "details": "body", "identifier": "t-1", "violations": violations}
    assert said(body) == "Bad: body; env.A: is empty; ttl (identifier t-1)"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "HTTP 422 without a message"),
        (b"{}", "HTTP 422 without a message"),
        (b"[1]", "HTTP 422: [1]"),
        (b'{"message": 7, "violations": {}, "identifier": 3}', "HTTP 422 without a message"),
        (b"<html><TITLE>Bad &amp; \n gone</TITLE><body>x", "HTTP 422: Bad & gone"),
        (b"<p>x", "HTTP 422 without a message"),
        (b"upstream \x1b[31mreset\r\nmore", "HTTP 422: upstream [31mreset"),
        (b"\xff\xfe", "HTTP 422: \ufffd\ufffd"),
        (b"[" * 100_000, None),
    ],
)
def test_any_body_makes_a_message(body: bytes, message: str | None) -> None:
    told = said(body)
    assert len(told) <= MESSAGE_LENGTH_MAX
    assert told.isprintable()
    if message is not None:
        assert told == message


def test_a_long_message_is_cut_and_keeps_its_trace() -> None:
    told = said({"message": "long " * 500, "identifier": "t-1"})
    assert len(told) == MESSAGE_LENGTH_MAX
    assert told.endswith("… (identifier t-1)")


@pytest.mark.parametrize(
    "secret", ['qu"ote&<b>', "with space/and+", "line one\nline two", "--password=hunter2", "pä\tss"]
)
def test_a_secret_is_blotted_in_every_form_it_may_come_back_in(secret: str) -> None:
    from html import escape
    from urllib.parse import quote

    forms = [secret, json.dumps(secret), escape(secret), quote(secret, safe=""), *secret.split("=")[1:]]
    for form in forms:
        told = said({"message": f"got [{form}] there"}, secret)
        assert told.startswith("got [")
        assert "***" in told
        for part in secret.replace("=", "\n").split("\n")[-1].split():
            assert part not in told
        said_in_text = said(f"got {form}".encode(), secret)
        assert secret not in said_in_text


def test_a_secret_across_the_cut_leaves_no_half() -> None:
    secret = "S" * 60
    told = said({"message": "x" * (MESSAGE_LENGTH_MAX - 20) + secret}, secret)
    assert "S" not in told


def test_a_short_value_is_blotted_as_a_word_only() -> None:
    assert said({"message": "8 of 18 for team8", "identifier": "a-8"}, "8") == "*** of 18 for team8 (identifier a-8)"


def test_a_long_value_is_blotted_in_the_trace_too() -> None:
    assert "hunter2hunter2" not in said({"message": "m", "identifier": "x-hunter2hunter2"}, "hunter2hunter2")
