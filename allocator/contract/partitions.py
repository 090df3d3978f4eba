"""How one namespace is split, so that more than one Redis Cluster slot serves it.

In: a namespace, how many partitions it has, request ids. Out: the keys of each partition. Pure. With one partition its
keys are the namespace's own; with more, partition i is the namespace `<namespace>:i`, and a request belongs to the
CRC-32 (IEEE) of its id modulo their number. What is one for all of them (how many there are, the levers) stands under
the namespace's own name; the limits of an account have their place in `keys.gate_key`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from zlib import crc32

from allocator.contract.keys import Keys

PARTITIONS_MAX = 64


@dataclass(frozen=True, slots=True)
class Partitions:
    """The partitions of one namespace."""

    namespace: str
    count: int = 1
    every: tuple[Keys, ...] = field(init=False, repr=False)
    """The keys of each, by number."""

    def __post_init__(self) -> None:
        names = [self.namespace] if self.count == 1 else [f"{self.namespace}:{each}" for each in range(self.count)]
        object.__setattr__(self, "every", tuple(map(Keys, names)))

    @property
    def whole(self) -> Keys:
        """The namespace's own keys: its `meta` says how many partitions there are."""
        return Keys(self.namespace)

    def number(self, request_id: str) -> int:
        """Which partition a request belongs to."""
        return crc32(request_id.encode()) % self.count

    def of(self, request_id: str) -> Keys:
        """The keys of the partition that a request belongs to."""
        return self.every[self.number(request_id)]
