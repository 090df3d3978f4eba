"""One wait by itself: what answers it."""

from __future__ import annotations

import asyncio

import pytest

from allocator.client import Priority, RefusedError
from allocator.client.outbox import Submitted
from allocator.client.waiter import Refusal, Waiter


async def test_a_refusal_that_comes_before_its_submission_is_answered_counts() -> None:
    waiter = Waiter("m-1", asyncio.get_running_loop().create_future(), in_doubt=True)
    waiter.refuse(Refusal("1-1", "id_conflict", "other", priority="high"))
    waiter.refuse(Refusal("2-1", "id_conflict", "of another stream", priority="normal"))
    waiter.refuse(Refusal("2-1", "id_conflict", "own", priority="high"))
    assert not waiter.answer.done()
    waiter.sent(Submitted("s", "2-1", known=False, priority=Priority.HIGH))
    with pytest.raises(RefusedError, match="own"):
        await waiter.answer
