"""Fuzz the reader of requests: `pip install atheris`, then `python tests/fuzz/fuzz_request.py -max_total_time=120`.

What it promises stands in `promises.request_promises`. The project must be installed (`pip install -e .`).
"""

from __future__ import annotations

from tests.fuzz.drive import fuzz

if __name__ == "__main__":
    fuzz("request_promises", "REQUESTS")
