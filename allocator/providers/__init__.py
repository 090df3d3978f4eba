"""Game-server hosts: start, find, stop and list a session, and say where there is room.

In: a session id that this deployment alone can make, a location, what to run. Out: a value of the unions in
`provider`, which is the port that everything above knows. `gameye/` is the first host; `memory` is its twin inside
the process, for simulations and for a first try without an account.

Promised: a start is sent once, never a second time behind the caller's back; no value of `env` or `args` and no
token in any repr, message or exception. Left to others: rates, retries, and what an outcome means for a match.
"""
