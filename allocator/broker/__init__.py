"""Floor 2: the queue and the record of requests.

`broker` is the port, `streams` keeps it in Redis (each step one Lua script under `scripts/`), `memory` is its twin.
"""
