"""Floor 2: may this destination be called now.

`gate` is the port, `fleet` keeps it in Redis, `memory` is its twin, `local` caps what this one process may ever send.
`standing` is all that is known of one limit, `adaptive` how a rate that was too fast gives way and climbs back.
"""
