"""Waiting where no event loop runs; where one does, the fixture `wait_until` waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest


def until(
    predicate: Callable[[], Any], seconds: float, *, every_seconds: float = 0.02, told: Callable[[], Any] = str
) -> Any:
    """Poll until it gives something true, and return that; fail after so long, with what `told` says then."""
    deadline = time.monotonic() + seconds
    while not (value := predicate()):
        if time.monotonic() > deadline:
            pytest.fail(f"not so within {seconds:g} s: {told()}")
        time.sleep(every_seconds)
    return value
