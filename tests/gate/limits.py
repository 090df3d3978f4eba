"""The limits that promises of a gate are held at, and one ask for their permits."""

from __future__ import annotations

from dataclasses import replace

from allocator.gate.gate import Ask, Gate, Grant, Limit

EUROPE = Limit("gameye", "studio", "europe", 60.0)
US = replace(EUROPE, scope="us-east")
ACCOUNT = Limit("gameye", "studio", "*", None)


async def once(gate: Gate, *limits: Limit, count: int = 1, last_resort: bool = False) -> Grant:
    return await gate.permits(Ask(limits, count, last_resort))
