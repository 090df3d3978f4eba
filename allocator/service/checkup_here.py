"""What `allocator doctor` looks at on this machine: open files, and its clock beside a provider's.

In: settings. Out: findings. The limit of files is this process's: run it where, and as whom, a worker runs. A
provider's clock is the header `Date` of any answer of its address; no credential is sent for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

import aiohttp

from allocator.service.api import CONNECTIONS_MAX
from allocator.service.checkup_redis import clock_finding
from allocator.service.finding import Finding
from allocator.service.settings import Settings

FILES_BESIDE = 128
"""Of a worker's open files, those that are no calls: Redis, the admin address and its readers, the interpreter."""
CALL_SECONDS = 10.0


def check_files(settings: Settings) -> Finding:
    """Whether a worker may open as many connections as it may make calls."""
    what = "open files"
    needed = settings.worker.concurrency + FILES_BESIDE + (CONNECTIONS_MAX if settings.api else 0)
    limit = _limit()
    if limit is None:
        return Finding(what, good=True, says="this system sets no limit")
    says = f"limit {limit}; a process needs {needed} for worker.concurrency {settings.worker.concurrency}"
    says += f" and {CONNECTIONS_MAX} who ask by HTTP" if settings.api else ""
    if limit >= needed:
        return Finding(what, good=True, says=says)
    return Finding(what, good=False, says=f"{says}; raise it (ulimit -n, LimitNOFILE=) or lower worker.concurrency")


def _limit() -> int | None:
    try:
        import resource  # noqa: PLC0415 - there is none on Windows
    except ImportError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


async def check_provider_clock(provider: str, base_url: str, *, now: Callable[[], float] = time.time) -> Finding:
    """How far the provider's clock is from ours, to a second or so."""
    what = f"{provider} clock"
    try:
        timeout = aiohttp.ClientTimeout(total=CALL_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            sent_at = now()
            async with session.head(base_url, allow_redirects=False) as answer:
                date = answer.headers.get("Date", "")
            midpoint = (sent_at + now()) / 2
        theirs = parsedate_to_datetime(date).timestamp() + 0.5  # it is cut to the second
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        says = f"{base_url} cannot be reached ({type(error).__name__}); check {provider}.base_url and the way out"
        return Finding(what, good=False, says=says)
    except ValueError:
        return Finding(what, good=True, says="not told: the answer has no Date")
    return clock_finding(what, theirs - midpoint, "the provider's")
