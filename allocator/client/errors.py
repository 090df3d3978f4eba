"""What goes wrong between a matchmaker and the allocator.

    ValueError
    └── InvalidRequestError    the request is bad: nothing was sent; the message names the key
    RefusedError               a worker refused the request: the same id names another one, or it came too late
    UnreadableAnswerError      the answer is of a later contract: upgrade this package

What Redis itself does wrong is a `RedisFault` (`redis_io.errors`); of these, `Unavailable` passes by itself. A wait
that ends by its own bound raises the builtin TimeoutError. A bad end of an allocation is no error but its state.
"""

from __future__ import annotations


def not_known(request_id: str) -> str:
    """What it means that nothing is known of an id."""
    return f"{request_id} is not known: not submitted, not taken up yet, refused as overloaded, or aged out"


class InvalidRequestError(ValueError):
    """The request is not what the contract asks for; nothing was sent. The message names the key, never a secret."""


class RefusedError(Exception):
    """The request was not taken up; the allocation of that id, if there is one, stays as it is.

    `code` is one of the contract's section 4, and may be one that this version does not know. `retry_after_ms` says
    when to send it again, where that helps.
    """

    def __init__(self, code: str, message: str, retry_after_ms: int | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retry_after_ms = retry_after_ms


class UnreadableAnswerError(Exception):
    """There is an answer, and this version cannot read it."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"the answer for {request_id} cannot be read here: upgrade the package allocator")
        self.request_id = request_id
