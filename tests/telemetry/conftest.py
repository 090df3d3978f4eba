"""Metrics on a registry of their own, on a clock that a test moves."""

import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

_ROOT = str(Path(__file__).resolve().parents[2])
if _ROOT not in sys.path:
    sys.path.insert(0, _ROOT)  # wherever pytest was started

from allocator.telemetry.metrics import Metrics  # noqa: E402 - below the path
from tests.telemetry.readings import EUROPE, Clock  # noqa: E402 - as above


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry, clock: Clock) -> Metrics:
    metrics = Metrics(registry, "1.2.3", clock=clock)
    metrics.expect([EUROPE], ["europe", "us-east"])
    return metrics
