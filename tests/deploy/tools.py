"""The programs that the tests of `deploy/` ask, and the files that they ask about."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def program(name: str, where_from: str) -> str:
    """Its path; `where_from` says how to install it. Absent, it skips the test, and fails it where all must run."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        why = f"no {name}: {where_from}"
        if os.environ.get("CI") or os.environ.get("TEST_SERVERS") == "both":
            pytest.fail(why)
        pytest.skip(why)
    return found


def said(*command: str) -> str:
    """What the command prints; fails the test with all of it where it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout
