"""A cluster and a watched pair, started once for the tests of this folder that leave them as they were."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.estate import TestCluster, TestPair
from tests.conftest import _binary


@pytest.fixture(scope="session")
def shared_cluster(server_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCluster]:
    yield from _cluster(server_kind, tmp_path_factory, replicas=0)


@pytest.fixture
def replicated(server_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCluster]:
    """Three primaries with a replica each, for this test alone."""
    yield from _cluster(server_kind, tmp_path_factory, replicas=1)


@pytest.fixture
def cluster(shared_cluster: TestCluster) -> TestCluster:
    """Three primaries, emptied for this test."""
    shared_cluster.empty()
    return shared_cluster


@pytest.fixture(scope="session")
def shared_pair(server_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestPair]:
    """A primary, a replica and three sentinels, for tests that leave them as they are."""
    yield from _pair(server_kind, tmp_path_factory)


@pytest.fixture
def pair(server_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestPair]:
    """The same for this test alone."""
    yield from _pair(server_kind, tmp_path_factory)


def _cluster(kind: str, tmp_path_factory: pytest.TempPathFactory, *, replicas: int) -> Iterator[TestCluster]:
    binary = _binary(kind)
    assert binary is not None
    cluster = TestCluster(kind, binary, tmp_path_factory.mktemp("cluster"), replicas=replicas)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.end()


def _pair(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestPair]:
    binary = _binary(kind)
    assert binary is not None
    pair = TestPair(kind, binary, tmp_path_factory.mktemp("pair"))
    try:
        pair.start()
        yield pair
    finally:
        pair.end()
