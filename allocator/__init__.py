"""The placement broker between any matchmaker and any game-server host.

A match goes in through Redis, an address to play on comes out through Redis::

    XADD {N}:requests -> take -> reserve -> plan -> gate -> provider -> commit -> HGETALL / XREAD

Rooms, bottom up: `contract` (the words users see), `redis_io` (the only door to Redis), `broker`, `gate`,
`placement`, `providers` and `client` (which do not know each other), `engine` (the way of one request),
`telemetry` (listens), `simulator`, `service` (puts it together), `cli`.
"""

__version__ = "0.1.0"
