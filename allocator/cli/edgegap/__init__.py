"""`allocator edgegap`: the catalogue at Edgegap: what should be in it by a file, and the plain verbs.

`planning` is the file's: plan, apply, export. `apps`, `versions`, `storages`, `profiles`, `tags` have a verb for each
operation. `asking` and `fields` is what they share.
"""

from __future__ import annotations

import typer

from allocator.cli.edgegap import apps, planning, profiles, storages, tags, versions
from allocator.cli.edgegap.asking import verb

app = typer.Typer(
    help="Edgegap's catalogue: applications, versions, image tags, storages, pull profiles.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
verb(app)(planning.plan)
verb(app)(planning.apply)
verb(app)(planning.export)
app.add_typer(apps.app, name="apps")
app.add_typer(versions.app, name="versions")
app.add_typer(storages.app, name="storages")
app.add_typer(profiles.app, name="profiles")
app.add_typer(tags.app, name="tags")
