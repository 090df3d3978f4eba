"""The composition root: settings in, a running worker with its admin address out.

`settings` reads and checks what a person configured; `wiring` builds every object from it, and nothing else does.
"""
