"""One worker process: takes requests up, keeps their leases, takes over from the dead, and leaves in good order.

In: the engine's parts. Out: requests on their way, each its own `Allocation`. Promises: no more is held than the
backlog allows; what is held is renewed while this process lives; a loop that meets a fault goes on.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from itertools import count

from allocator.broker.broker import BATCH_MAX, SUSPECT_TAKES, BrokerUnavailable, Hold
from allocator.contract.request import AllocationRequest
from allocator.engine.allocation import Allocation
from allocator.engine.callin import CallIn
from allocator.engine.canceller import carry_out
from allocator.engine.intake import Intake
from allocator.engine.observer import Crashed, LeaseLost, Left, Leg
from allocator.engine.parts import Parts
from allocator.engine.reconciler import RECONCILE_SECONDS, Reconciler
from allocator.engine.stopper import stop_condemned
from allocator.engine.suspects import Suspects
from allocator.engine.takeover import take_over

TICK_SECONDS = 1.0
LAST_READ_SECONDS = 2.5
"""A read that has begun may bring entries until its block ends; broken off, they would be strays."""
LAST_WORDS_SECONDS = 2.0
"""What is left after the grace, to hand back what had to be broken off."""
CANCEL_AGAIN_SECONDS = 0.5
BEGUN_MAX = 8 * BATCH_MAX
AHEAD_MAX = 64
"""How many are held beyond the calls that may be out, while nobody waits for anything but this process: more would
only cost memory, and another worker may have calls to spare for them."""
Step = Callable[[], Awaitable[None]]


class Worker:
    """The loops of one process over what it holds."""

    def __init__(
        self, parts: Parts, reconciler: Reconciler | None = None, beside: Sequence[tuple[float, str, Step]] = ()
    ) -> None:
        """Without a `reconciler` nobody here counts orphans. `beside`: what else to do, every so many seconds."""
        self._parts = parts
        self._reconciler = reconciler
        self._beside = beside
        self._call_in = CallIn(parts, room=self._room_to_call, begin=self._begin)
        self._held: dict[str, tuple[Allocation, asyncio.Task[None]]] = {}
        self._held_bytes = 0
        self._begun = OrderedDict[str, None]()
        """Fences that were begun: one entry that came two ways (read, and as a stray) is one request."""
        self._suspects = Suspects(parts.broker, parts.insist)
        self._draining = asyncio.Event()
        self._intake = Intake(parts, room=self._room_to_take, begin=self._begin, draining=self._draining)
        self._arrivals = count()
        self._prepared = False
        self._loops: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
        """Whether requests can be taken up: not while the broker is away."""
        return self._prepared and not self._draining.is_set() and not self._parts.insist.is_away

    @property
    def moving(self) -> bool:
        """Whether the take-up loop moves; a broker that is away does not stop it, nor does a full backlog."""
        return self._intake.moving

    @property
    def held(self) -> int:
        """How many requests are on their way here."""
        return len(self._held)

    async def run(self) -> None:
        """Serve until `drain` has ended. Raises NamespaceTaken, and what says that the server may not be used."""
        loop = asyncio.get_running_loop()
        self._intake.moved()
        prepared = loop.create_task(self._parts.insist("prepare", self._prepare))
        if not await self._before_drain(prepared):
            return
        beside = [
            self._every(TICK_SECONDS, "reclaim", self._take_over),
            self._every(TICK_SECONDS, "strays", self._strays),
            self._every(self._parts.policy.lease_seconds / 3, "renew", self._renew),
            self._every(TICK_SECONDS, "stop", self._stop),
            self._every(self._parts.policy.lease_seconds / 2, "cancel", self._stray_orders),
            self._always("cancel", self._orders),
            self._always("cancel", self._let_go),
            self._always("call in", self._call_in.turn),
            *(self._every(*each) for each in self._beside),
        ]
        if self._reconciler is not None:
            beside.append(self._every(RECONCILE_SECONDS, "reconcile", self._reconciler.look))
        self._loops = [loop.create_task(each) for each in beside]
        taking = loop.create_task(self._intake.run())
        try:
            await self._draining.wait()
            await asyncio.wait([taking], timeout=LAST_READ_SECONDS)
            await _ended([taking])
            await self._leave()
        finally:
            await _ended(self._loops)

    def drain(self) -> None:
        """Take nothing more; `run` ends once what is held has ended or was handed back."""
        self._draining.set()
        self._intake.room_changed.set()

    async def _before_drain(self, step: asyncio.Task[None]) -> bool:
        """Wait for a step, unless the drain comes first."""
        told = asyncio.get_running_loop().create_task(self._draining.wait())
        try:
            await asyncio.wait([step, told], return_when=asyncio.FIRST_COMPLETED)
            if step.done():
                await step
                return True
            return False
        finally:
            told.cancel()
            step.cancel()

    async def _prepare(self) -> None:
        self._intake.moved()
        self._parts.contact.begin()
        await self._parts.broker.prepare()
        await self._parts.broker.look_back()
        for _, _, act in self._beside:
            await act()
        self._prepared = True

    async def _take_over(self) -> None:
        """Adopt what others let lapse: entries that were read and never reserved, requests whose lease ended."""
        if self._draining.is_set():
            return
        parts = self._parts
        await parts.broker.look_back()
        while (room := self._room_to_call()) > 0:
            if await take_over(room, parts, self._begin) < room:
                return
            await asyncio.sleep(0)

    async def _strays(self) -> None:
        parts = self._parts
        if not self._draining.is_set() and not parts.paused and (room := self._room_to_call()) > 0:
            await self._intake.take_up(await parts.broker.strays(room, round(parts.policy.lease_seconds * 1000)))

    def _begin(self, hold: Hold, request: AllocationRequest, since: float, called_to: str | None = None) -> Leg | None:
        if hold.fence in self._begun:
            return None
        self._begun[hold.fence] = None
        if len(self._begun) > BEGUN_MAX:
            self._begun.popitem(last=False)
        if (old := self._held.get(hold.request_id)) is not None and not old[0].leaving:
            old[1].cancel()  # one that leaves finds its fence stale, and no session of a pool's stays behind
        lease_until = since + self._parts.policy.lease_seconds
        allocation = Allocation(
            hold,
            request,
            self._parts,
            arrival=next(self._arrivals),
            lease_until=lease_until,
            called_to=called_to,
        )
        task = self._parts.loop.create_task(self._run(allocation))
        self._held[hold.request_id] = (allocation, task)
        self._held_bytes += len(hold.raw)
        return allocation.leg

    async def _run(self, allocation: Allocation) -> None:
        hold, ended = allocation.hold, False
        try:
            if hold.takes > SUSPECT_TAKES:
                async with self._suspects.turn(hold) as ours:
                    ended = await allocation.run() if ours else self._lost(hold)
            else:
                ended = await allocation.run()
        except asyncio.CancelledError:
            if not self._draining.is_set():
                raise
        except Exception as error:  # noqa: BLE001 - its lease ends and it is taken over; the others go on
            self._parts.observe(Crashed(f"request {hold.request_id}", error))
            ended, allocation.left = True, "fault"
        finally:
            try:
                if not ended and self._draining.is_set():
                    allocation.left = "handed_back"
                    back = [(hold, allocation.clean)]
                    await self._parts.insist("hand_back", lambda: self._parts.broker.hand_back(back))
            finally:
                if allocation.left is not None:
                    lasted = self._parts.loop.time() - allocation.began_at
                    self._parts.observe(Left(allocation.leg, allocation.left, lasted))
                self._held_bytes -= len(hold.raw)
                if (now := self._held.get(hold.request_id)) is not None and now[0] is allocation:
                    del self._held[hold.request_id]
                self._intake.room_changed.set()

    def _lost(self, hold: Hold) -> bool:
        self._parts.observe(LeaseLost(hold.request_id))
        return True

    async def _renew(self) -> None:
        since = asyncio.get_running_loop().time()
        held = list(self._held.values())
        kept = await self._parts.broker.renew([allocation.hold for allocation, _ in held])
        self._parts.contact.renewed(len(held))
        for (allocation, task), ours in zip(held, kept, strict=True):
            if ours:
                allocation.renewed(since + self._parts.policy.lease_seconds)
            elif not allocation.leaving and self._held.get(allocation.hold.request_id) == (allocation, task):
                task.cancel()
                if allocation.left == "lost":
                    self._parts.observe(LeaseLost(allocation.hold.request_id))

    async def _stop(self) -> None:
        await self._parts.broker.look_back()
        await stop_condemned(self._parts)

    async def _orders(self) -> None:
        """Carry out what matchmakers want cancelled or released."""
        orders = await self._parts.aftermath.orders(BATCH_MAX)
        await asyncio.gather(*(carry_out(order, self._parts) for order in orders))

    async def _stray_orders(self) -> None:
        idle_ms = round(self._parts.policy.lease_seconds * 1000)
        orders = await self._parts.aftermath.stray_orders(BATCH_MAX, idle_ms)
        await asyncio.gather(*(carry_out(order, self._parts) for order in orders))

    async def _let_go(self) -> None:
        """Drop what was seized to be cancelled; a call that is out finishes, and finds its fence stale."""
        for request_id in await self._parts.aftermath.seized():
            if (held := self._held.get(request_id)) is None:
                continue
            held[0].left = "cancelled"
            if held[0].waiting:
                held[1].cancel()

    async def _leave(self) -> None:
        """Finish what is being called, hand back what waits, within the grace."""
        loop = asyncio.get_running_loop()
        grace_ends = loop.time() + self._parts.policy.drain_seconds
        for allocation, task in list(self._held.values()):
            allocation.draining = True
            if allocation.waiting:
                task.cancel()
        while self._held and (left := grace_ends - loop.time()) > 0:
            await asyncio.wait([task for _, task in self._held.values()], timeout=left)
        for _, task in list(self._held.values()):
            task.cancel()
        if self._held:
            await asyncio.wait([task for _, task in self._held.values()], timeout=LAST_WORDS_SECONDS)

    def _room_to_call(self) -> int:
        return 0 if self._draining.is_set() else self._room_left()

    def _room_left(self) -> int:
        policy = self._parts.policy
        if self._held_bytes >= policy.backlog_bytes:
            return 0
        return min(policy.backlog - len(self._held) - self._intake.coming, BATCH_MAX)

    def _room_to_take(self) -> int:
        """For who comes anew: room to spare is for those who have waited before."""
        room = self._room_left()
        if any(lane.held_back for lane in self._parts.lanes):
            return room
        return min(room, self._parts.policy.concurrency + AHEAD_MAX - len(self._held) - self._intake.coming)

    async def _always(self, step: str, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await act()
            except BrokerUnavailable as trouble:
                self._parts.insist.away(step, trouble)
                await asyncio.sleep(TICK_SECONDS * (0.25 + 0.5 * self._parts.chance.random()))
            except Exception as error:  # noqa: BLE001 - the next turn may fare better
                self._parts.observe(Crashed(step, error))
                await asyncio.sleep(TICK_SECONDS)

    async def _every(self, seconds: float, step: str, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(seconds * (0.75 + 0.5 * self._parts.chance.random()))
            try:
                await act()
            except BrokerUnavailable as trouble:
                self._parts.insist.away(step, trouble)
            except Exception as error:  # noqa: BLE001 - the next turn may fare better
                self._parts.observe(Crashed(step, error))


async def _ended(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel until all have ended: a library may swallow a cancellation."""
    pending: Collection[asyncio.Task[None]] = tasks
    while pending:
        for each in pending:
            each.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_SECONDS)
