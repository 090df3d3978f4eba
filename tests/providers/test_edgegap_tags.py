"""What a deployment bears of ours is read back as it was written, in tags that the host takes."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.contract.request import MARK, NAMESPACE_MARK, REQUEST_MARK
from allocator.providers.edgegap.tags import TAG_LENGTH_MAX, Marks, is_ours, key_tag, mark_tag, read_tags, tags_of

ids = st.uuids().map(str)


def names(length_max: int) -> st.SearchStrategy[str]:
    alphabet = "abcXYZ019._:-"
    return st.text(alphabet, min_size=1, max_size=length_max)


@settings(max_examples=25)
@given(st.builds(Marks, ids, names(64), names(64), names(128), names(64)), st.randoms())
def test_every_mark_is_read_back_whatever_the_order_of_the_tags(marks: Marks, chance: random.Random) -> None:
    session_id, mark, location = marks.session_id or "", marks.mark or "", marks.location or ""
    labels = {
        MARK: mark,
        NAMESPACE_MARK: marks.namespace or "",
        REQUEST_MARK: marks.request_id or "",
        "mode": "duel",
    }
    tags = tags_of(session_id, location, labels)
    assert all(1 <= len(tag) <= TAG_LENGTH_MAX for tag in tags)
    assert len(set(tags)) == len(tags)
    assert key_tag(session_id) in tags
    assert mark_tag(mark) in tags
    chance.shuffle(tags)
    assert read_tags([*tags, "a tag of somebody else"]) == marks


@settings(max_examples=25)
@given(st.lists(st.text(max_size=40)))
def test_tags_of_somebody_else_say_nothing_and_harm_nothing(tags: list[str]) -> None:
    strange = [tag for tag in tags if tag[1:3] not in {f"{number}." for number in range(10)}]
    strange = [tag for tag in strange if not tag.startswith("alloc-")]
    assert read_tags(strange) == Marks()


def test_what_no_label_names_no_tag_does() -> None:
    assert read_tags(tags_of("0a1b2c3d-0000-5000-8000-000000000001", "ams", {})) == Marks(
        "0a1b2c3d-0000-5000-8000-000000000001", location="ams"
    )


def test_an_id_of_the_host_is_told_from_one_of_ours() -> None:
    assert is_ours("0a1b2c3d-0000-5000-8000-000000000001")
    assert not is_ours("f68e011bfb01")
    assert not is_ours("0a1b2c3d000050008000000000000001")
    assert not is_ours("")
