"""The end of a request in the words of the contract: the hash and its event hold the same facts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from allocator.broker.broker import Hold
from allocator.contract.allocation import Allocation, Attempt, Outcome, Port, State
from allocator.contract.codes import Code
from allocator.contract.destination import Destination
from allocator.contract.request import AllocationRequest, Priority
from allocator.engine.course import Course
from allocator.engine.ending import Bad, End, Placed, adopt, ending
from allocator.engine.observer import Leg
from allocator.engine.parts import Policy
from allocator.engine.turns import order_of
from allocator.placement.plan import Candidate
from allocator.providers.provider import Session, StartSpec

POLICY = Policy(
    deployment="d",
    default_regions=(),
    request_timeout_seconds=60,
    result_ttl_seconds=7200,
    session_ttl="4h",
    max_gate_wait_seconds=2,
    lease_seconds=10,
    concurrency=1,
    backlog=1,
    backlog_bytes=1,
    drain_seconds=1,
    call_timeout_seconds={},
    port_names={},
)
PORTS = (Port("7777/udp", "udp", 7777, 20001), Port("27015/udp", "udp", 27015, 20002))
SESSION = Session("s-1", "2001:db8::7", PORTS, "ireland", "game", created_at_ms=5_000)
CANDIDATES = [
    Candidate("us", Destination("gameye", "us")),
    Candidate("eu", Destination("gameye", "europe")),
    Candidate("eu", Destination("gameye", "ireland")),
]


def course(context: Any = None, attempts: Sequence[Attempt] = ()) -> Course:
    return Course(
        hold=Hold("m-1", "f", "4000-7", Priority.HIGH, 64_000, b"{}"),
        leg=Leg("m-1", "4000-7", Priority.HIGH),
        request=AllocationRequest(id="m-1", image="game", context=context),
        spec=StartSpec("game", port_names={"7777/udp": "game"}),
        ttl_seconds=3600,
        lease_until=0.0,
        generation=1,
        attempts=list(attempts),
        suspects=set(),
    )


tries = st.lists(
    st.builds(
        Attempt,
        region=st.sampled_from(["us", "eu"]),
        provider=st.just("gameye"),
        location=st.sampled_from(["us", "europe"]),
        outcome=st.sampled_from(Outcome),
        status=st.none() | st.integers(100, 599),
        at=st.integers(0, 2**40),
        duration_ms=st.floats(0, 1e5),
        waited_ms=st.floats(0, 1e5),
    ),
    max_size=3,
)
ends = st.one_of(
    st.builds(
        Bad,
        state=st.sampled_from([State.FAILED, State.EXPIRED]),
        code=st.sampled_from(Code),
        message=st.text("abc ü", max_size=9),
        retry_after_ms=st.none() | st.integers(1, 10**6),
    ),
    st.builds(Placed, st.sampled_from(CANDIDATES), st.just(SESSION)),
)


@given(ends, tries, st.none() | st.just({"a": 1}) | st.just([]))
def test_the_hash_and_its_event_hold_the_same_facts(end: End, attempts: list[Attempt], context: Any) -> None:
    last = ending(end, course(context, attempts), POLICY, now_ms=9_000, condemn=())
    event = json.loads(last.event)
    assert next(iter(last.fields)) == "state"
    assert event["type"] == f"allocator.allocation.{last.fields['state']}.v1"
    assert event["data"].pop("context", None) == context
    assert "context" not in last.fields, "reserve has written it"
    assert event["data"].keys() == last.fields.keys()
    for name, said in event["data"].items():
        kept = last.fields[name]
        assert said == kept or said is (kept == "1") or said == json.loads(kept)
    whole = {**last.fields, **({} if context is None else {"context": json.dumps(context)})}
    assert Allocation.from_hash(whole).to_data() == json.loads(last.event)["data"]
    assert (last.session is None) is isinstance(end, Bad)


def test_a_placed_match_is_kept_for_as_long_as_its_session_may_live_and_an_hour() -> None:
    last = ending(Placed(CANDIDATES[2], SESSION), course(), POLICY, now_ms=9_000, condemn=())
    assert last.keep_ms == (3600 + 3600) * 1000
    assert last.session == ("gameye", "s-1")
    assert last.fields["expires_at"] == str(5_000 + 3600 * 1000)
    assert (last.fields["allocated_at"], last.fields["enqueued_at"]) == ("9000", "4000")
    bad = ending(Bad(State.EXPIRED, Code.DEADLINE, "late"), course(), POLICY, now_ms=9_000, condemn=())
    assert bad.keep_ms == 7200 * 1000


def test_a_session_that_is_adopted_stands_for_the_region_where_it_runs() -> None:
    end = adopt("gameye", SESSION, course(), POLICY, CANDIDATES)
    assert isinstance(end, Placed)
    assert end.candidate == CANDIDATES[2]
    assert [port.name for port in end.session.ports] == ["game", "27015/udp"]
    assert ending(end, course(), POLICY, now_ms=1, condemn=()).fields["endpoint"] == "[2001:db8::7]:20001"


def test_a_session_that_runs_where_nobody_asked_stands_for_the_first_region() -> None:
    elsewhere = Session("s-1", "h", (), "mars", "game")
    end = adopt("gameye", elsewhere, course(), POLICY, CANDIDATES)
    assert isinstance(end, Placed)
    assert end.candidate == Candidate("us", Destination("gameye", "mars"))


def test_a_session_of_another_image_is_never_adopted() -> None:
    end = adopt("gameye", Session("s-1", "h", (), "us", "another"), course(), POLICY, CANDIDATES)
    assert isinstance(end, Bad)
    assert (end.state, end.code) == (State.FAILED, Code.ID_CONFLICT)


def test_of_ten_reads_one_begins_with_the_low_stream() -> None:
    reads = [order_of(turn, low_waits=True)[0] for turn in range(1, 101)]
    assert all(reads[start : start + 10].count(Priority.LOW) >= 1 for start in range(0, 100, 10))
    assert reads.count(Priority.HIGH) >= 80
