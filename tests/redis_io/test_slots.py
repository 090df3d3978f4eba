"""Which slot a command belongs to."""

from __future__ import annotations

from typing import Any

import pytest

from allocator.contract.partitions import Partitions
from allocator.contract.request import Priority
from allocator.redis_io.slots import SLOTS, slot_of

FOO = 12182
"""What CLUSTER KEYSLOT says of `foo`."""


@pytest.mark.parametrize(
    "command",
    [
        ("GET", "foo"),
        (b"get", b"foo"),
        ("XADD", "{foo}:s", "*", "f", "v"),
        ("EVALSHA", "0" * 40, 2, "{foo}:a", "{foo}:b", "x"),
        ("XREAD", "COUNT", 1, "BLOCK", 1, "STREAMS", "foo", "$"),
        ("XREADGROUP", "GROUP", "g", "c", "streams", b"x{foo}y{bar}", ">"),
        ("XGROUP", "CREATE", "foo", "g", "$"),
        ("XINFO", "STREAM", "foo"),
    ],
)
def test_the_first_key_says_it(command: tuple[Any, ...]) -> None:
    assert slot_of(command) == FOO


@pytest.mark.parametrize("command", [("INFO",), ("TIME",), ("SCRIPT", "LOAD", "x"), ("EVAL", "x", 0), ("MULTI",)])
def test_some_have_none(command: tuple[Any, ...]) -> None:
    assert slot_of(command) is None


def test_braces_without_anything_between_them_are_no_tag() -> None:
    assert slot_of(("GET", "foo{}{bar}")) != slot_of(("GET", "{bar}"))
    assert slot_of(("GET", "foo{{bar}}")) == slot_of(("GET", "x{{bar}y"))
    assert slot_of(("GET", "123456789")) == 0x31C3 % SLOTS  # the check value of this CRC


def test_all_keys_of_a_partition_share_a_slot_and_partitions_do_not() -> None:
    slots = set()
    for keys in Partitions("allocator", 8).every:
        names = {keys.meta, keys.results_for("mm"), keys.record("m-{1}"), keys.requests(Priority.LOW), *keys.lasting}
        (slot,) = {slot_of(("GET", name)) for name in names}
        slots.add(slot)
    assert len(slots) == 8
