"""Which fault stands for which answer of the server, as redis-py reads it off the wire."""

from __future__ import annotations

import pytest
from redis import exceptions as theirs
from redis._parsers.base import BaseParser

from allocator.redis_io.errors import (
    CommandFault,
    NoGroup,
    NoScript,
    OutOfMemory,
    Redirected,
    RedisFault,
    Refused,
    ScriptFault,
    Unavailable,
    UnfitServer,
    translate,
)


@pytest.mark.parametrize(
    ("reply", "fault", "kind"),
    [
        ("LOADING Redis is loading the dataset in memory", Unavailable, "loading"),
        ("READONLY You can't write against a read only replica.", Unavailable, "readonly"),
        ("MASTERDOWN Link with MASTER is down", Unavailable, "masterdown"),
        ("CLUSTERDOWN The cluster is down", Unavailable, "clusterdown"),
        ("TRYAGAIN Multiple keys request during rehashing of slot", Unavailable, "tryagain"),
        ("BUSY Redis is busy running a script.", Unavailable, "busy"),
        ("MISCONF Errors writing to the AOF file", Unavailable, "misconf"),
        ("NOREPLICAS Not enough good replicas to write.", Unavailable, "noreplicas"),
        ("ERR max number of clients reached", Unavailable, "connection"),
        ("OOM command not allowed when used memory > 'maxmemory'.", OutOfMemory, "out_of_memory"),
        ("NOGROUP No such key 's' or consumer group 'g'", NoGroup, "no_group"),
        ("NOSCRIPT No matching script.", NoScript, "no_script"),
        ("NOAUTH Authentication required.", Refused, "refused"),
        ("WRONGPASS invalid username-password pair", Refused, "refused"),
        ("NOPERM this user has no permissions", Refused, "refused"),
        ("MOVED 3999 127.0.0.1:6381", Redirected, "redirected"),
        ("WRONGTYPE Operation against a key", CommandFault, "command"),
        ("BUSYGROUP Consumer Group name already exists", CommandFault, "command"),
        ("ERR syntax error", CommandFault, "command"),
        ("ERR DB index is out of range", UnfitServer, "unfit"),
        ("ERR boom script: 6b1b, on @user_script:1.", ScriptFault, "script"),
    ],
)
def test_each_answer_of_the_server_has_its_fault(reply: str, fault: type[RedisFault], kind: str) -> None:
    error = BaseParser.parse_error(reply)  # type: ignore[no-untyped-call]  # redis-py's gap
    found = translate(error, "redis://h")
    assert (type(found), found.kind) == (fault, kind)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (theirs.ConnectionError("Error 111 connecting"), "connection"),
        (theirs.TimeoutError("Timeout reading"), "timeout"),
        (TimeoutError(), "timeout"),
        (theirs.InvalidResponse("Protocol error"), "connection"),
        (OSError("no route"), "connection"),
    ],
)
def test_a_fault_of_the_wire_is_unavailable(error: Exception, kind: str) -> None:
    found = translate(error, "redis://h")
    assert isinstance(found, Unavailable)
    assert found.kind == kind
    assert "redis://h" in str(found)


def test_a_group_that_exists_can_be_told_by_its_code() -> None:
    found = translate(theirs.ResponseError("BUSYGROUP Consumer Group name already exists"), "redis://h")
    assert str(found).startswith("BUSYGROUP")
