"""Runs one promise under atheris, the coverage-guided fuzzer for Python, with the bodies to begin with.

In: the names of a promise and of its seeds; the words of the command line, which are libFuzzer's. Out: nothing, for
libFuzzer ends the process: with 0 where nothing was found, otherwise with the bytes in a file of their own.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

INSTALL = "atheris is not installed, and is no dependency of the tests: pip install atheris\n"
WORDS = (
    *("id", "image", "version", "regions", "players", "latency_ms", "latency_caps", "max_ms", "after_seconds", "env"),
    *("args", "labels", "restart", "ttl", "timeout_seconds", "context", "reply_to", "traceparent", "ip", "lat", "lon"),
    *("host", "port", "ports", "type", "container", "sessions", "location", "locations", "created", "status", "tags"),
    *("running", "exited", "draining", "server_unreachable", "allocator", "allocator_request", "exists", "message"),
    *("details", "violations", "field", "description", "identifier", "7777/udp", "2h30m"),
)
SLOW_SECONDS = 5
"""A body that takes longer to read is a finding too."""
SYMBOLS = (
    "null",
    "true",
    "NaN",
    "-Infinity",
    "1e999",
    "\\\\ud800",
    "\\\\u001b",
    "[[[[[[[[",
    "0.0",
    "65536",
    "1700000000000",
)


def fuzz(promise_name: str, seeds_name: str) -> None:
    """Feed a function of `promises` until libFuzzer's options say that it is enough."""
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        sys.stderr.write(INSTALL)
        sys.exit(2)
    with atheris.instrument_imports(include=["allocator", "json"]):
        promises = importlib.import_module("tests.fuzz.promises")
    promise: Callable[[bytes], None] = getattr(promises, promise_name)
    seeds: Sequence[bytes] = getattr(promises, seeds_name)
    corpus = Path(tempfile.mkdtemp(prefix="fuzz-"))
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    dictionary = corpus.with_suffix(".dict")
    entries = [f'"\\"{word}\\":"' for word in WORDS] + [f'"\\"{word}\\""' for word in WORDS]
    dictionary.write_text("\n".join([*entries, *(f'"{symbol}"' for symbol in SYMBOLS)]) + "\n", encoding="utf-8")
    words = [f"-dict={dictionary}", f"-artifact_prefix={corpus}/", "-max_len=70000", f"-timeout={SLOW_SECONDS}"]
    atheris.Setup([sys.argv[0], *words, *sys.argv[1:], str(corpus)], promise)
    atheris.Fuzz()
