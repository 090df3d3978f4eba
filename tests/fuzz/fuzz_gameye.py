"""Fuzz the readers of Gameye's replies.

`pip install atheris`, then `python tests/fuzz/fuzz_gameye.py -max_total_time=120`.

What it promises stands in `promises.gameye_promises`. The project must be installed (`pip install -e .`).
"""

from __future__ import annotations

from tests.fuzz.drive import fuzz

if __name__ == "__main__":
    fuzz("gameye_promises", "REPLIES")
