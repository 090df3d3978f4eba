"""The calls to Edgegap's API, one method each: a value for what the host says, `LookupFailed` where it does not.

In: ids, queries. Out: what the reply holds. Promised: a status is asked for with leave alone; the status of a
`LookupFailed` is the host's own word and no proxy's. Left to others: what a value means.
"""

from __future__ import annotations

from urllib.parse import quote

import aiohttp
from yarl import URL

from allocator.providers.asking import ask
from allocator.providers.credential import Credential
from allocator.providers.edgegap.pace import Kind, Pace
from allocator.providers.edgegap.wire import (
    Page,
    Status,
    Version,
    read_page,
    read_status,
    read_stopping,
    read_version,
)
from allocator.providers.exchange import Exchange, Lost, NotSent, Reply
from allocator.providers.provider import LookupFailed
from allocator.providers.reading import Unreadable
from allocator.providers.replies import error_message, is_spoken_by_host

_REPLY_BYTES_MAX = 1024 * 1024
_LIST_BYTES_MAX = 16 * 1024 * 1024


class Calls:
    """One organisation's connections; `timeout_seconds` bounds each call and may be set anew."""

    def __init__(
        self,
        base_url: str,
        credential: Credential,
        pace: Pace,
        *,
        timeout_seconds: float,
        connector: aiohttp.BaseConnector | None,
    ) -> None:
        self.base = base_url.rstrip("/")
        self.timeout_seconds = timeout_seconds
        self._credential = credential
        self._pace = pace
        self._start_url = URL(f"{self.base}/v2/deployments", encoded=True)
        self._exchange = Exchange(credential.token, connector, scheme="token")

    async def deploy(self, body: bytes, seconds_max: float) -> Reply | NotSent | Lost:
        """Send one `POST /v2/deployments`."""
        return await self._exchange.send(
            "POST",
            self._start_url,
            body=body,
            timeout_seconds=min(seconds_max, self.timeout_seconds),
            reply_bytes_max=_REPLY_BYTES_MAX,
        )

    async def version(self, application: str, version: str) -> Version | LookupFailed:
        """What the host knows of a version; a LookupFailed with 404 where there is none."""
        reply = await self._call("GET", "v1", "app", application, "version", version)
        match reply:
            case Reply(status=200, body=body):
                found = read_version(body)
                return found.failed() if isinstance(found, Unreadable) else found
            case Reply():
                return self._failed(reply)
            case LookupFailed():
                return reply

    async def stop(self, request_id: str) -> Status | LookupFailed | None:
        """Have one deployment stopped: how it stands, where the reply tells."""
        reply = await self._call("DELETE", "v1", "stop", request_id)
        match reply:
            case Reply(status=200 | 202, body=body):
                return read_stopping(body)
            case Reply():
                return self._failed(reply)
            case LookupFailed():
                return reply

    async def status(self, request_id: str, leave_seconds: float) -> Status | LookupFailed | None:
        """The status of one deployment; None where no leave to ask came."""
        if not await self._pace(Kind.STATUS, leave_seconds):
            return None
        reply = await self._call("GET", "v1", "status", request_id)
        match reply:
            case Reply(status=200, body=body):
                status = read_status(body)
                return status.failed() if isinstance(status, Unreadable) else status
            case Reply():
                return self._failed(reply)
            case LookupFailed():
                return reply

    async def page(self, query: str, number: int, limit: int) -> Page | LookupFailed:
        """One page of the list, for which leave was given."""
        words = f"query={quote(query, safe='')}&page={number}&limit={limit}"
        reply = await self._call("GET", "v1", "deployments", query=words)
        match reply:
            case Reply(status=200, body=body):
                page = read_page(body)
                return page.failed() if isinstance(page, Unreadable) else page
            case Reply():
                return self._failed(reply)
            case LookupFailed():
                return reply

    async def close(self) -> None:
        """Give the connections back."""
        await self._exchange.close()

    async def _call(self, method: str, *segments: str, query: str = "") -> Reply | LookupFailed:
        """Send a call without a body to a path of these segments."""
        return await ask(
            self._exchange,
            method,
            self.base,
            *segments,
            query=query,
            timeout_seconds=self.timeout_seconds,
            reply_bytes_max=_LIST_BYTES_MAX if query else _REPLY_BYTES_MAX,
        )

    def _failed(self, reply: Reply) -> LookupFailed:
        """Why; a proxy's 4xx says nothing of a deployment, so that its status is not told."""
        message = error_message(reply, (self._credential.token(),))
        return LookupFailed(message, reply.status if is_spoken_by_host(reply) else None)
