"""Ports of a session, alike for every provider: merged, ordered, named.

In: ports as a reply listed them. Out: one tuple that reads the same whichever call it came from. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from allocator.contract.allocation import Port


def port_key(protocol: str, container_port: int) -> str:
    """`7777/udp`: how a catalog speaks of a port, and its name where nobody gave one."""
    return f"{container_port}/{protocol}"


def merged(ports: Iterable[Port]) -> tuple[Port, ...]:
    """One entry for each container port and protocol, the first that was listed, ordered by both."""
    listed = tuple(ports)
    if len(listed) == 1:
        return listed
    first: dict[tuple[int, str], Port] = {}
    for port in listed:
        first.setdefault((port.container_port, port.protocol), port)
    return tuple(first[key] for key in sorted(first))


def named(ports: Iterable[Port], port_names: Mapping[str, str]) -> tuple[Port, ...]:
    """The ports with the catalog's names (`7777/udp` to `game`); one that the catalog leaves out keeps its name."""
    if not port_names:
        return tuple(ports)
    return tuple(
        replace(port, name=port_names.get(port_key(port.protocol, port.container_port), port.name)) for port in ports
    )
