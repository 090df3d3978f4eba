"""Observers: they get each event of the engine and tell it to people; nothing of the core knows them.

`families` names every metric, `metrics` moves them by the events, `cells` keeps them cheap to count and to read,
`exposition` writes them as text, `logging` says in words what a person has to know.
"""
