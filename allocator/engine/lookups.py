"""Asking a provider what is there: every look-up, list and stop goes through here, each under a permit of its own lane.

In: a question to one provider. Out: its answer, or `LookupFailed` where no permit came in time or the provider broke:
both say nothing about any session. What an answer means is left to who asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from allocator.engine.lanes import Lanes
from allocator.engine.observer import Crashed, Observer
from allocator.providers.provider import FindOutcome, LookupFailed, Offered, Provider, Session

T = TypeVar("T")


class LookUps:
    """The look-ups of one process."""

    def __init__(self, lanes: Lanes, providers: Mapping[str, Provider], observe: Observer) -> None:
        self._lanes = lanes
        self._providers = providers
        self._observe = observe

    async def find(
        self, provider: str, session_id: str, *, permit_seconds: float, timeout_seconds: float
    ) -> FindOutcome:
        """Find one session; `permit_seconds` is how long a permit is waited for."""
        return await self.ask(
            provider, permit_seconds, lambda asked: asked.find(session_id, timeout_seconds=timeout_seconds)
        )

    async def list(
        self, provider: str, deployment: str, *, permit_seconds: float, timeout_seconds: float
    ) -> tuple[Session, ...] | LookupFailed:
        """List the sessions of a deployment."""
        return await self.ask(
            provider, permit_seconds, lambda asked: asked.list(deployment, timeout_seconds=timeout_seconds)
        )

    async def offers(
        self, provider: str, image: str, *, permit_seconds: float, timeout_seconds: float
    ) -> Offered | LookupFailed:
        """Ask where there is room for an image."""
        return await self.ask(
            provider, permit_seconds, lambda asked: asked.offers(image, timeout_seconds=timeout_seconds)
        )

    async def ask(
        self, provider: str, permit_seconds: float, call: Callable[[Provider], Awaitable[T]]
    ) -> T | LookupFailed:
        """Make one call under a permit."""
        permit = await self._lanes.look_up(provider, permit_seconds) if permit_seconds > 0 else None
        if permit is None:
            return LookupFailed(f"no leave to ask within {permit_seconds:.3g} s: other look-ups come first")
        try:
            return await call(self._providers[provider])
        except Exception as error:  # noqa: BLE001 - a provider's own fault says nothing about its sessions
            self._observe(Crashed(f"provider {provider}", error))
            return LookupFailed(type(error).__name__)
        finally:
            permit.lane.finish(served=True)
