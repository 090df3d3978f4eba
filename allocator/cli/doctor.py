"""`allocator doctor`: is everything there that a worker needs, and if not, what to do."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from allocator.cli.options import ConfigOption, JsonOption, SetOption, load_or_exit

EXIT_BAD, EXIT_REDIS = 1, 3


def doctor(config: ConfigOption = None, assignments: SetOption = None, *, as_json: JsonOption = False) -> None:
    """Check Redis, the credential and the images. Says what to mend; images are those of [catalog]."""
    from allocator.service.checkup import check_up
    from allocator.service.checkup_redis import REDIS
    from allocator.service.process import run_loop

    settings = load_or_exit(config, assignments)

    async def main() -> int:
        findings = await check_up(settings)
        if as_json:
            typer.echo(json.dumps([asdict(finding) for finding in findings]))
        else:
            for finding in findings:
                typer.echo(f"{'ok  ' if finding.good else 'MEND'}  {finding.what}: {finding.says}")
        bad = {finding.what for finding in findings if not finding.good}
        return EXIT_REDIS if REDIS in bad else EXIT_BAD if bad else 0

    raise typer.Exit(run_loop(main()))
