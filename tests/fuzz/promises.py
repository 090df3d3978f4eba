"""What the two decoders promise whatever bytes come: each function here takes bytes and raises where one is broken.

In: any bytes. Out: nothing, or an exception, which is a finding. `fuzz_request` and `fuzz_gameye` feed them with what
a coverage-guided fuzzer invents, `test_fuzz_promises` with a few hundred bodies in every run of the tests.
"""

from __future__ import annotations

import json
import math
import re

from allocator.contract.request import (
    CONTEXT_BYTES_MAX,
    REQUEST_BYTES_MAX,
    AllocationRequest,
    Decoded,
    InvalidRequest,
    decode_request,
)
from allocator.providers.exchange import Reply
from allocator.providers.gameye import wire
from allocator.providers.gameye.refusal import refused_start
from allocator.providers.provider import Session, SessionState, StartSpec
from allocator.providers.reading import Unreadable
from allocator.providers.replies import MESSAGE_LENGTH_MAX, error_message

SENTENCE_LENGTH_MAX = 2000
ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
OURS = "00000000-0000-5000-8000-000000000001"
SECRET = "s3cr3t-0f-a-match"
SPEC = StartSpec(image="my-game", env={"KEY": SECRET}, port_names={"7777/udp": "game"})

REQUESTS: tuple[bytes, ...] = (
    b'{"id":"m-1","image":"my-game","regions":["europe","us-east"]}',
    b'{"id":"m.2:x_3","image":"g","version":"v1","ttl":"2h30m","timeout_seconds":0.5,"restart":true,"reply_to":"mm-7"}',
    b'{"id":"m","image":"g","players":[{"id":"p","latency_ms":{"europe":31.5,"asia":2e2},"ip":"::1","lat":-1,"lon":9}]}',
    b'{"id":"m","image":"g","latency_caps":[{"max_ms":50,"after_seconds":0},{"max_ms":120,"after_seconds":10}]}',
    b'{"id":"m","image":"g","env":{"A":"1"},"args":["-x","\\u00e9"],"labels":{"k":""},"context":{"a":[1,2.5,null,"\\n"]}}',
    b'{"id":"m","image":"g","traceparent":"00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"}',
    b'{"id":"m","image":"g","context":[[[[-0.0,1e22,12345678901234567890]]],"\\ud83d\\ude00"]}',
    b'{"id":"","image":"","regions":["a","a"],"ttl":"0m","\\u001b[2J":1,"env":{"":"x"}}',
    b'{"id":"m","image":"\\ud800"}',
    b"\xef\xbb\xbf{}",
    b"[NaN,Infinity,1e999]",
)
REPLIES: tuple[bytes, ...] = (
    b'{"id":"a","host":"h","ports":[{"type":"udp","container":7777,"host":20001},{"type":"udp","container":7777,"host":2}]}',
    b'{"id":"a","image":"g","tag":"v","location":"eu","host":"h","created":17e11,"status":"running","port":{"80/tcp":202}}',
    b'{"id":"a","image":"g","location":"eu","players":{},"labels":{"env":"{}","tags":"{\\"allocator\\":\\"d\\"}"}}',
    b'{"sessions":[{"id":"a","image":"g","location":"eu","host":"h","created":1e12,"port":{"7777/udp":20001}}]}',
    b'{"id":"a","image":"g","location":"europe","status":"exited"}',
    b'{"locations":[{"id":"europe","ips":["10.0.0.1"]}]}',
    b'{"exists":true}',
    b'{"message":"bad","details":"worse","identifier":"01HX","violations":[{"field":"env","description":"empty"}]}',
    b"<html><head><title>502 Bad &#27;[2J Gateway</title></head></html>",
    b'{"message":"the value s3cr3t-0f-a-match is wrong"}',
)
"""What each fuzzer begins with, and what every run of the tests goes through."""

STATUSES = (200, 400, 401, 404, 409, 420, 422, 429, 500, 503)


class BrokenPromiseError(AssertionError):
    """A decoder broke a promise; the bytes that did it are the fuzzer's to show."""


def hold(promise: object, said: str) -> None:
    """Raise BrokenPromiseError unless this is true."""
    if not promise:
        raise BrokenPromiseError(said)


def request_promises(raw: bytes) -> None:
    """Any bytes give a request that survives being written and read again, or a sentence fit to be shown."""
    match decode_request(raw):
        case Decoded(request, digest, context):
            hold(len(raw) <= REQUEST_BYTES_MAX, "a body over the limit was taken")
            _rereads(request, digest, context, raw)
            _is_asked_for(request)
        case InvalidRequest(message, request_id, reply_to):
            _is_sentence(message)
            hold(request_id is None or ID.fullmatch(request_id), "an id that is none")
            hold(reply_to is None or (ID.fullmatch(reply_to) and len(reply_to) <= 64), "a reply_to that is none")


def _rereads(request: AllocationRequest, digest: str, context: str | None, raw: bytes) -> None:
    body = json.loads(raw)
    spaced = json.dumps(body, indent=1, ensure_ascii=True, sort_keys=True).encode()
    written = request.model_dump_json(exclude_unset=True).encode()
    for again in (spaced, written):
        if len(again) > REQUEST_BYTES_MAX:
            continue
        other = decode_request(again)
        hold(isinstance(other, Decoded), f"refused when it was read again: {other!r}")
        if isinstance(other, Decoded):
            hold(other.request == request, "another request when it was read again")
            hold(other.digest == digest, "another digest when it was read again")
            hold(other.context is None or context is not None, "a context from nowhere")
    hold((context is None) == (body.get("context") is None), "a context was lost or made up")
    if context is not None:
        hold(len(context.encode()) <= CONTEXT_BYTES_MAX, "a context over the limit")
        hold(json.loads(context) == body["context"], "another context than was sent")


def _is_asked_for(request: AllocationRequest) -> None:
    """The body of a start says what the request asks for, and nothing that is not text."""
    spec = StartSpec(request.image, request.version, request.env, request.args, request.labels, request.restart)
    body = json.loads(wire.start_body(OURS, "europe", spec))
    hold(body["id"] == OURS and body["image"] == request.image, "another image or id")
    hold(body.get("env", {}) == request.env, "another env")
    hold(tuple(body.get("args", ())) == request.args, "other args")
    hold(body.get("labels", {}) == request.labels, "other labels")


def gameye_promises(raw: bytes) -> None:
    """Any body of a reply gives a session that holds together, or the name of a fault; none of it ever raises."""
    for read in (wire.read_described, wire.read_listed, wire.read_locations):
        _is_answer(read(raw))
    started = wire.read_started(raw, OURS, "europe", SPEC)
    _is_answer(started)
    if isinstance(started, Session):
        hold(started.host and started.id, "a session without host or id")
        again = wire.read_started(_as_started(started), OURS, "europe", SPEC)
        hold(again == started, f"another session when it was read again: {again!r}")
    _refuses(Reply(STATUSES[len(raw) % len(STATUSES)], {}, raw))


def _is_answer(answer: object) -> None:
    match answer:
        case Unreadable(fault):
            _is_sentence(fault)
        case Session():
            _is_session(answer)
        case tuple():
            for each in answer:
                _is_answer(each)
        case str() | bool():
            pass
        case _:
            raise BrokenPromiseError(f"not an answer: {type(answer).__name__}")


def _is_session(session: Session) -> None:
    hold(session.id, "a session without an id")
    hold(session.state in SessionState, "a state of no enum")
    keys = [(port.container_port, port.protocol) for port in session.ports]
    hold(keys == sorted(set(keys)), "ports out of order, or one twice")
    hold(all(1 <= port.port <= 65_535 for port in session.ports), "a port of no number")
    created = session.created_at_ms
    hold(created is None or isinstance(created, int), "a time that is no number")
    hold(
        all(each is None or isinstance(each, str) for each in (session.mark, session.request_id)), "a label of no text"
    )


def _as_started(session: Session) -> bytes:
    """The session as the host would say it in a 201."""
    ports = [{"type": port.protocol, "container": port.container_port, "host": port.port} for port in session.ports]
    return json.dumps({"id": session.id, "host": session.host, "ports": ports}).encode()


def _refuses(reply: Reply) -> None:
    message = error_message(reply, [SECRET])
    _is_sentence(message)
    hold(len(message) <= MESSAGE_LENGTH_MAX, "a message over the limit")
    hold(SECRET not in message, "a message that tells a secret")
    refused_start(reply, throttle_statuses=frozenset({420, 429}), secrets=[SECRET], now_seconds=math.pi)


def _is_sentence(text: str) -> None:
    hold(text, "nothing is said")
    hold(text.isprintable(), f"not printable: {text!r}")
    hold(len(text) <= SENTENCE_LENGTH_MAX, f"{len(text)} characters are no sentence")
    text.encode()
