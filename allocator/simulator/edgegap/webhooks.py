"""The webhooks: tell whoever asked for it what has become of a deployment.

In: deployments and what there is to tell of them. Out: one POST each, with the JSON of the deployment's status, not
repeated. It promises the vendor's manners: an answer's content counts for nothing; one that is not there within the
time limit ends all further notices of that deployment.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import aiohttp

from allocator.simulator.clock import Clock
from allocator.simulator.edgegap.deployment import Deployment, Event
from allocator.simulator.edgegap.faults import LateWebhook, LostWebhook, Operation
from allocator.simulator.edgegap.fleet import Fleet
from allocator.simulator.edgegap.ledger import Notice


class Webhooks:
    """Sends what is due, each in a task of its own, while it is open."""

    def __init__(self, fleet: Callable[[], Fleet], clock: Clock, describe: Callable[[Deployment], Any]) -> None:
        self._fleet = fleet
        self._clock = clock
        self._describe = describe
        self._http: aiohttp.ClientSession | None = None
        self._sending: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Send from now on."""
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def close(self) -> None:
        """Send no more; what is under way is dropped."""
        for sending in self._sending:
            sending.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        if self._http is not None:
            await self._http.close()
            self._http = None

    def tell(self, deployment: Deployment, event: Event) -> None:
        """Send the webhook of this event, if one was asked for and its fate is not another."""
        url = deployment.webhooks.get(event)
        if url is None or self._http is None:
            return
        fleet = self._fleet()
        notice = Notice(deployment.request_id, event, url, self._clock.monotonic())
        fleet.ledger.add_notice(notice)
        fate = fleet.dice.cast(Operation.WEBHOOK, deployment.location)
        if deployment.silenced:
            notice.outcome = "silenced"
        elif fate.struck_by(LostWebhook) is not None:
            notice.outcome = "lost"
        else:
            late = fate.struck_by(LateWebhook)
            after_seconds = 0.0 if late is None else fleet.drawn(late.seconds)
            # What a webhook brings is how things stand when it is due, not when it arrives.
            body = self._describe(deployment)
            timeout_seconds = fleet.settings.webhook_timeout_seconds
            sending = asyncio.get_running_loop().create_task(
                self._send(deployment, notice, body, after_seconds=after_seconds, timeout_seconds=timeout_seconds)
            )
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)

    async def _send(
        self, deployment: Deployment, notice: Notice, body: Any, *, after_seconds: float, timeout_seconds: float
    ) -> None:
        if after_seconds:
            await self._clock.sleep(after_seconds)
        http = self._http
        if http is None:
            return
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, ValueError):
            async with asyncio.timeout(timeout_seconds), http.post(notice.url, json=body, allow_redirects=False):
                notice.outcome = "answered"
                return
        notice.outcome = "missed"
        deployment.silenced = True
