"""What should be in Edgegap's catalogue, and how it gets there.

In: a TOML file that declares applications, versions, storages, pull profiles and links (`declared`), and what is there
(`snapshot`). Out: a plan of steps (`plan`), the steps done in an order that can be repeated and interrupted (`apply`),
and the file that says what is there (`export`). Promised: nothing is deleted unless asked; the image of an active
version changes only where that is asked for by name; no secret is in the file, in a plan or in an export, only where it
is to be found (`references`). Left to others: the calls (`allocator.providers.edgegap.catalog`), what a terminal shows.
"""
