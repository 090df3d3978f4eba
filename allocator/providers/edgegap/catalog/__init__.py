"""Edgegap's catalogue: applications and their versions, image tags, endpoint storages, pull profiles and their links.

In: a credential and what is to be there. Out: rows of `rows`, or a value of `faults.Fault` that bears the vendor's
status and words. `client` has every operation; `wire` makes the calls. Promised: what has an effect is sent once, a
second time only where the vendor said that nothing was done (429); no secret in any repr, message or exception. Left to
others: what should be there, and in which order it is made (`allocator.service.edgegap`).
"""
