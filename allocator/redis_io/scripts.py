"""A Lua script: a file of the package, run by its hash.

In: a `.lua` file with a header that says what it takes and gives. Out: its reply, raw. Promises: the source travels
only when the server does not hold it; a script is run at most once for each call, for `NOSCRIPT` means that nothing
ran and is the only answer that leads to a second sending. Keys, arguments and replies are the callers'.

The header, which `Script` checks when it is made:

    #!lua flags=allow-oom
    -- What it does, in one sentence.
    -- KEYS:   1 the stream; 2 ...
    -- ARGV:   1 now in ms; ...
    -- REPLY:  {'done'} or {'stale', state}
    -- MEMORY: runs when the server is full, for it only frees / refused when the server is full: nothing is written
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Self

from allocator.redis_io.connect import RedisConnection, Word
from allocator.redis_io.errors import NoScript

_HEADER = ("KEYS:", "ARGV:", "REPLY:", "MEMORY:")


@dataclass(frozen=True, slots=True)
class Script:
    """One atomic step at the server. `name` is its file's, for messages; `sha` the server's name for it."""

    name: str
    source: str = field(repr=False)
    sha: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        first, *rest = self.source.splitlines() or [""]
        if not first.startswith("#!lua"):
            raise ValueError(f"script {self.name}: begin it with '#!lua' or '#!lua flags=allow-oom'")
        header = []
        for line in rest:
            if not line.startswith("--"):
                break
            header.append(line.removeprefix("--").strip())
        missing = [mark for mark in _HEADER if not any(line.startswith(mark) for line in header)]
        if missing:
            raise ValueError(f"script {self.name}: its header lacks {', '.join(missing)}")
        digest = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest)

    @classmethod
    def load(cls, package: str, name: str) -> Self:
        """Read `<name>.lua` of this package, also out of a zip file."""
        return cls(name, resources.files(package).joinpath(f"{name}.lua").read_text(encoding="utf-8"))

    async def run(self, connection: RedisConnection, keys: Sequence[bytes | str], args: Sequence[Word] = ()) -> Any:
        """Run it once and return its reply."""
        try:
            return await connection.execute("EVALSHA", self.sha, len(keys), *keys, *args)
        except NoScript:
            return await connection.execute("EVAL", self.source, len(keys), *keys, *args)
