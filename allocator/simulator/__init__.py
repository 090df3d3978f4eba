"""The vendors' APIs over HTTP, for people and tests to run: nothing here calls a vendor, and no real server starts.

Each vendor has a room of its own (`gameye`, `edgegap`). In: the calls that vendor's API takes, and settings that say
how busy, slow or faulty it is. Out: answers in that vendor's shapes, and a ledger of all that was asked for and
started. What no vendor has to itself is beside them: faults and the dice that cast them, delivery, limits, addresses,
the parts and scripts of settings, serving, the control door, the process.
"""
