"""A Redis Cluster: each command goes to the node that holds its slot.

In: commands. Out: their replies, as if one server had given them. Promises: a command is sent again only where a node
said that another holds the key (MOVED, ASK) or that the keys are on their way (TRYAGAIN), for then nothing ran; those
of one node travel together and in order; the map of slots is read anew after a redirection or a fault, and every second
besides. A batch over several nodes is no transaction: where the wire to one fails, the whole batch is `Unavailable`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from allocator.redis_io.asking import Watch, ask
from allocator.redis_io.batching import Batcher
from allocator.redis_io.errors import CommandFault, Redirected, Unavailable, UnfitServer
from allocator.redis_io.slots import SLOTS, slot_of
from allocator.redis_io.url import Address
from allocator.redis_io.wire import Command, Terms, Wire

REDIRECTIONS_MAX = 8
TRY_AGAIN_MAX = 20
TRY_AGAIN_SECONDS = 0.05
MAP_SECONDS_MIN = 0.1
"""How long a map is good at least: faults come in crowds."""
_ASKING: Command = ("ASKING",)


class Cluster:
    """The way to the primaries of one cluster; `seeds` are asked for the others. `server` as in `Wire`."""

    def __init__(self, seeds: Sequence[Address], terms: Terms, server: str) -> None:
        self.server = server
        self._terms = terms
        self._seeds = tuple(seeds)
        self._wires: dict[Address, Wire] = {}
        self._owners: list[Address | None] = [None] * SLOTS
        self._members: frozenset[Address] = frozenset()
        self._mapped_at = float("-inf")
        self._is_stale = True
        self._mapping: Batcher[None, None] = Batcher(self._map, items_max=2**31, in_flight_max=1)
        self._watch = Watch(self._read_map)

    async def roundtrip(self, commands: Sequence[Command], *, blocks: bool = False) -> list[Any]:
        """See `Route.roundtrip`."""
        self._watch.begin()
        await self._freshen()
        slots = _slots(commands)
        replies: list[Any] = [None] * len(commands)
        asking: dict[int, Address] = {}
        left: list[int] = list(range(len(commands)))
        redirections = waits = 0
        while left:
            nodes: dict[Address, list[int]] = defaultdict(list)
            for place in left:
                nodes[asking.get(place) or self._owner(slots[place])].append(place)
            for place, reply in await self._send(nodes, commands, asking, blocks=blocks):
                replies[place] = reply
            asking.clear()
            again = [place for place in left if self._is_for_another(replies[place], asking, place)]
            waiting = [place for place in left if _is_on_its_way(replies[place])]
            redirections, waits = redirections + bool(again), waits + bool(waiting)
            if redirections > REDIRECTIONS_MAX or waits > TRY_AGAIN_MAX:
                break
            if waiting:
                await asyncio.sleep(TRY_AGAIN_SECONDS)
            left = sorted({*again, *waiting})
        return [_unsettled(reply, self.server) for reply in replies]

    async def servers(self) -> tuple[Wire, ...]:
        """See `Route.servers`."""
        await self._read_map()
        return tuple(self._wire(address) for address in dict.fromkeys(self._owners) if address is not None)

    async def server_of(self, key: str) -> Wire:
        """See `Route.server_of`."""
        await self._freshen()
        return self._wire(self._owner(slot_of(("EXISTS", key))))

    async def aclose(self) -> None:
        """See `Route.aclose`."""
        await self._watch.end()
        for wire in self._wires.values():
            await wire.aclose()

    async def _freshen(self) -> None:
        if self._is_stale and asyncio.get_running_loop().time() - self._mapped_at > MAP_SECONDS_MIN:
            await self._read_map()

    def _owner(self, slot: int | None) -> Address:
        owner = next(filter(None, self._owners), None) if slot is None else self._owners[slot]
        if owner is None:
            self._is_stale = True
            raise Unavailable(f"no node of {self.server} serves slot {slot}; give it to one", kind="clusterdown")
        return owner

    async def _send(
        self, nodes: dict[Address, list[int]], commands: Sequence[Command], asking: dict[int, Address], *, blocks: bool
    ) -> list[tuple[int, Any]]:
        """Send each node its own; every reply with the place of its command."""

        async def send(address: Address, places: list[int]) -> list[tuple[int, Any]]:
            words = [each for place in places for each in _words(commands[place], asks=place in asking)]
            replies = await self._wire(address).roundtrip(words, blocks=blocks)
            own = [reply for reply, word in zip(replies, words, strict=True) if word is not _ASKING]
            return list(zip(places, own, strict=True))

        try:
            if len(nodes) == 1:
                return await send(*next(iter(nodes.items())))
            found = await asyncio.gather(*(send(*each) for each in nodes.items()), return_exceptions=True)
        except Unavailable:
            self._is_stale = True
            raise
        for each in found:
            if isinstance(each, BaseException):
                self._is_stale = True
                raise each
        return [pair for each in found if not isinstance(each, BaseException) for pair in each]

    def _is_for_another(self, reply: Any, asking: dict[int, Address], place: int) -> bool:
        if not isinstance(reply, Redirected):
            return False
        address = (reply.host, reply.port)
        if reply.asks:
            asking[place] = address
        else:
            self._owners[reply.slot] = address
            self._is_stale = True
        return True

    def _wire(self, address: Address) -> Wire:
        wire = self._wires.get(address)
        if wire is None:
            host, port = address
            terms = replace(self._terms, options={**self._terms.options, "host": host, "port": port})
            wire = self._wires[address] = Wire(terms, f"{host}:{port}")
        return wire

    async def _read_map(self) -> None:
        await self._mapping.submit(None)

    async def _map(self, asked: list[None]) -> list[None]:
        """Ask every member and seed which slots each has; the first that answers is believed, MOVED corrects it.

        Nobody else: the address of a node that left may be anybody's by now.
        """
        nodes = {self._wire(address): address for address in dict.fromkeys((*self._members, *self._seeds))}
        try:
            (wire, table), *_ = await ask(nodes, ("CLUSTER", "SLOTS"), others_seconds=0)
        except CommandFault as fault:
            raise UnfitServer(
                f"{self.server} is no Redis Cluster ({fault}); write redis://host:port in redis.url"
            ) from fault
        host_asked, _ = nodes[wire]
        owners: list[Address | None] = [None] * SLOTS
        members: set[Address] = set()
        for first, last, *nodes_of_it in table:
            addresses = [((node[0] or b"").decode() or host_asked, int(node[1])) for node in nodes_of_it]
            owners[first : last + 1] = [addresses[0]] * (last + 1 - first)
            members.update(addresses)
        gone, self._members = self._members - members, frozenset(members)
        self._owners = owners
        self._is_stale = False
        self._mapped_at = asyncio.get_running_loop().time()
        for address in gone & set(self._wires):
            # It died, hangs, or serves nothing any more: nobody is to wait for it.
            self._wires.pop(address).hang_up()
        return asked


def _slots(commands: Sequence[Command]) -> list[int | None]:
    """The slot of each; one without a key goes with the first that has one."""
    slots = [slot_of(command) for command in commands]
    if None not in slots:
        return slots
    first = next((slot for slot in slots if slot is not None), None)
    return [first if slot is None else slot for slot in slots]


def _words(command: Command, *, asks: bool) -> Iterator[Command]:
    if asks:
        yield _ASKING
    yield command


def _is_on_its_way(reply: Any) -> bool:
    return isinstance(reply, Unavailable) and reply.kind == "tryagain"


def _unsettled(reply: Any, server: str) -> Any:
    """A redirection that led nowhere is a cluster that does not agree with itself for the moment."""
    if isinstance(reply, Redirected):
        return Unavailable(f"the nodes of {server} send each other slot {reply.slot}; wait for it", kind="moved")
    return reply
