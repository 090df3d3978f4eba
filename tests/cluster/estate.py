"""Clusters and sentinels of real servers on this machine, for tests that end, move and promote them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from allocator.redis_io.slots import SLOTS, slot_of
from tests import polling
from tests.conftest import TestServer, _free_port

READY_SECONDS = 20.0
NODE_TIMEOUT_MS = 2000


def until(predicate: Callable[[], Any]) -> None:
    """Wait until the servers have come to this."""
    polling.until(predicate, READY_SECONDS)


class TestCluster:
    """Primaries that share the slots evenly, each with `replicas` replicas."""

    __test__ = False

    def __init__(self, kind: str, binary: Path, directory: Path, *, primaries: int = 3, replicas: int = 0) -> None:
        self.primaries = [_server(kind, binary, directory / f"node-{number}") for number in range(primaries)]
        self.replicas = [
            _server(kind, binary, directory / f"replica-{number}") for number in range(primaries * replicas)
        ]
        self._buses = {server.port: _free_port() for server in self.servers}

    @property
    def servers(self) -> list[TestServer]:
        return [*self.primaries, *self.replicas]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.primaries)

    def start(self) -> None:
        """Start every node and return once all agree."""
        for server in self.servers:
            server.start(*self.options(server))
        share = SLOTS // len(self.primaries)
        for number, server in enumerate(self.primaries):
            last = SLOTS - 1 if server is self.primaries[-1] else (number + 1) * share - 1
            server.command("CLUSTER", "ADDSLOTSRANGE", number * share, last)
            server.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server in self.servers[1:]:
            self.servers[0].command("CLUSTER", "MEET", "127.0.0.1", server.port, self._buses[server.port])
        until(lambda: all(self._is_well(server) for server in self.servers))
        for replica, primary in zip(self.replicas, itertools.cycle(self.primaries)):
            replica.command("CLUSTER", "REPLICATE", self.id_of(primary))
        until(lambda: all(_info(replica).get("master_link_status") == "up" for replica in self.replicas))

    def options(self, server: TestServer) -> Sequence[str]:
        return (
            *("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"),
            *("--cluster-port", str(self._buses[server.port]), "--cluster-node-timeout", str(NODE_TIMEOUT_MS)),
            *("--cluster-require-full-coverage", "no", "--repl-diskless-sync-delay", "0"),
        )

    def end(self) -> None:
        for server in self.servers:
            server.kill()

    def empty(self) -> None:
        for server in self.primaries:
            server.empty()

    def id_of(self, server: TestServer) -> bytes:
        identity: bytes = server.command("CLUSTER", "MYID")
        return identity

    def owner(self, key: str) -> TestServer:
        """The primary that has this key, as the first node that runs says."""
        slot = slot_of(("GET", key))
        assert slot is not None
        asked = next(server for server in self.servers if server.is_running)
        for first, last, (_, port, *_), *_ in asked.command("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(server for server in self.servers if server.port == port)
        pytest.fail(f"nobody has slot {slot}")

    def move_at_once(self, key: str, to: TestServer) -> None:
        """Move the slot of this key as one atomic step of Valkey 9, and return once it is there."""
        slot, source = slot_of(("GET", key)), self.owner(key)
        assert slot is not None
        source.command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", self.id_of(to))
        until(lambda: self.owner(key) is to)

    def move_by_keys(self, key: str, to: TestServer) -> None:
        """Move it key by key, as `redis-cli --cluster reshard` does, and return once it is there."""
        slot, source = slot_of(("GET", key)), self.owner(key)
        assert slot is not None
        to.command("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(to))
        while names := source.command("CLUSTER", "GETKEYSINSLOT", slot, 10):
            source.command("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *names)
        for server in (to, source, *self.servers):
            if server in self.primaries:
                server.command("CLUSTER", "SETSLOT", slot, "NODE", self.id_of(to))
        until(lambda: self.owner(key) is to)

    async def promoted(self, *, instead_of: TestServer) -> None:
        """Wait until the replica of a primary that was killed has taken its place."""
        number = self.primaries.index(instead_of)
        heir = self.replicas[number]
        async with asyncio.timeout(READY_SECONDS):
            while (await asyncio.to_thread(_info, heir))["role"] != "master":  # noqa: ASYNC110 - another process's state
                await asyncio.sleep(0.02)

    def _is_well(self, server: TestServer) -> bool:
        text: bytes = server.command("CLUSTER", "INFO")
        nodes = f"cluster_known_nodes:{len(self.servers)}".encode()
        return b"cluster_state:ok" in text and nodes in text and b"cluster_slots_ok:16384" in text


class SentinelServer(TestServer):
    """A sentinel that watches one primary."""

    def __init__(self, kind: str, binary: Path, directory: Path, primary: TestServer, quorum: int) -> None:
        directory.mkdir(parents=True)
        super().__init__(kind, binary, directory)
        self._binary = binary
        (directory / "sentinel.conf").write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir .\n"
            f"sentinel monitor main 127.0.0.1 {primary.port} {quorum}\n"
            "sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 5000\n"
        )

    def arguments(self, *options: str) -> list[str]:
        return [str(self._binary), "./sentinel.conf", "--sentinel", *options]


class TestPair:
    """A primary that waits for its replica with every write, and sentinels that watch them."""

    __test__ = False

    def __init__(self, kind: str, binary: Path, directory: Path, *, sentinels: int = 3) -> None:
        self.primary = _server(kind, binary, directory / "primary")
        self.replica = _server(kind, binary, directory / "replica")
        self.sentinels = [
            SentinelServer(kind, binary, directory / f"sentinel-{number}", self.primary, sentinels // 2 + 1)
            for number in range(sentinels)
        ]

    @property
    def url(self) -> str:
        seeds = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://{seeds}/main"

    def start(self) -> None:
        careful = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "2", "--repl-diskless-sync-delay", "0")
        self.primary.start(*careful)
        self.replica.start(*careful, "--replicaof", f"127.0.0.1 {self.primary.port}")
        until(lambda: _info(self.primary).get("min_slaves_good_slaves") == 1)
        for each in self.sentinels:
            each.start()
        until(lambda: all(self._knows_all(each) for each in self.sentinels))

    def is_promoted(self) -> bool:
        return bool(_info(self.replica)["role"] == "master")

    async def promoted(self) -> None:
        async with asyncio.timeout(READY_SECONDS):
            while not await asyncio.to_thread(self.is_promoted):  # noqa: ASYNC110 - another process's state
                await asyncio.sleep(0.02)

    def end(self) -> None:
        for server in (*self.sentinels, self.primary, self.replica):
            server.kill()

    def _knows_all(self, sentinel: TestServer) -> bool:
        words = sentinel.command("SENTINEL", "MASTER", "main")
        facts = dict(zip(words[::2], words[1::2], strict=True))
        return int(facts[b"num-slaves"]) == 1 and int(facts[b"num-other-sentinels"]) == len(self.sentinels) - 1


def _info(server: TestServer) -> dict[str, Any]:
    facts: dict[str, Any] = server.command("INFO", "replication")
    return facts


def _server(kind: str, binary: Path, directory: Path) -> TestServer:
    directory.mkdir(parents=True)
    return TestServer(kind, binary, directory)
