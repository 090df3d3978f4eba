"""The credential of a provider as its table says, and another one while the worker runs.

In: the table. Out: a credential; where a changed table holds none that can be read, SettingsError and the old one
stays in use. Every token is told to `learn` before it is used, so that it can be masked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from allocator.providers.credential import Credential, CredentialError, FixedToken, RenewableCredential, TokenFile
from allocator.service.live_merge import Merged
from allocator.service.settings import Settings, SettingsError
from allocator.service.settings_tables import WithToken
from allocator.telemetry.structured import structlog

Table = Literal["gameye", "edgegap"]

_log = structlog.get_logger("allocator")


def report(problem: str) -> None:
    """Log that a token file cannot be read any more."""
    _log.warning("credential file", problem=problem)


def credentials_of(
    settings: Settings, *, report: Callable[[str], None], learn: Callable[[str], None]
) -> dict[Table, RenewableCredential]:
    """The credential of each provider whose table is there. Raises CredentialError."""
    return {
        name: credential_of(table, name, report=report, learn=learn)
        for name, table in provider_tables(settings).items()
    }


def credential_of(
    table: WithToken, name: str, *, report: Callable[[str], None], learn: Callable[[str], None]
) -> RenewableCredential:
    """The credential of one table; `report` hears of a token file that cannot be read any more."""
    return RenewableCredential(_credential(table, name, report, learn))


def renew(
    credentials: Mapping[Table, RenewableCredential],
    merged: Merged,
    *,
    report: Callable[[str], None],
    learn: Callable[[str], None],
) -> None:
    """Put the credentials of changed settings into use, where those are what changed; all of them or none."""
    found: dict[Table, Credential] = {}
    for name, table in provider_tables(merged.settings).items():
        if name in credentials and {f"{name}.token", f"{name}.token_file"} & set(merged.changed):
            try:
                found[name] = _credential(table, name, report, learn)
            except CredentialError as error:
                raise SettingsError((str(error),)) from None
    for name, credential in found.items():
        credentials[name].renew(credential)


def provider_tables(settings: Settings) -> dict[Table, WithToken]:
    """The tables of the providers that are on."""
    tables: dict[Table, WithToken | None] = {"gameye": settings.gameye, "edgegap": settings.edgegap}
    return {name: table for name, table in tables.items() if table is not None}


def _credential(table: WithToken, name: str, report: Callable[[str], None], learn: Callable[[str], None]) -> Credential:
    if table.token_file is not None:
        return TokenFile(table.token_file, name, report=report, learn=learn)
    token = table.token.get_secret_value() if table.token else ""
    learn(token)
    return FixedToken(token, name)
