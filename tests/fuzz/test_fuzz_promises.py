"""The promises of both decoders, over the bodies that the fuzzers begin with and some hundred that hypothesis bends."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.contract.request import InvalidRequest
from tests.fuzz import promises


def _bent(seeds: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """A body with a piece of it replaced by other bytes."""
    piece = st.one_of(st.binary(max_size=12), st.sampled_from([b'"', b"null", b"1e999", b"{}", b"[]", b'"\\ud800"']))
    whole = st.sampled_from(seeds)
    return st.builds(
        lambda body, start, length, new: body[: start % len(body)] + new + body[start % len(body) + length :],
        whole,
        st.integers(0, 1000),
        st.integers(0, 20),
        piece,
    )


@pytest.mark.parametrize("raw", promises.REQUESTS)
def test_a_request_of_the_corpus_is_read_as_promised(raw: bytes) -> None:
    promises.request_promises(raw)


@pytest.mark.parametrize("raw", promises.REPLIES)
def test_a_reply_of_the_corpus_is_read_as_promised(raw: bytes) -> None:
    promises.gameye_promises(raw)


@given(raw=_bent(promises.REQUESTS))
@settings(max_examples=300, deadline=None)
def test_a_bent_request_is_a_request_or_a_printable_sentence(raw: bytes) -> None:
    promises.request_promises(raw)


@given(raw=_bent(promises.REPLIES))
@settings(max_examples=150, deadline=None)
def test_a_bent_reply_is_an_answer_or_the_name_of_a_fault(raw: bytes) -> None:
    promises.gameye_promises(raw)


def test_a_promise_that_is_broken_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promises, "decode_request", lambda _: InvalidRequest("\x1b[2J"))
    with pytest.raises(promises.BrokenPromiseError, match="not printable"):
        promises.request_promises(b"{}")
