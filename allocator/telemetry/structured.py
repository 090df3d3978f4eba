"""structlog, imported without rich: 3 MB of every worker for a way to draw tracebacks that is not used here."""

from __future__ import annotations

import sys

_unknown = "rich" not in sys.modules
if _unknown:
    sys.modules["rich"] = None  # type: ignore[assignment]  # which is how Python is told that there is none
try:
    import structlog
finally:
    if _unknown:
        del sys.modules["rich"]

__all__ = ["structlog"]
