"""The credential of Gameye as its table says, and another one while the worker runs.

In: the table. Out: a credential; where a changed table holds none that can be read, SettingsError and the old one
stays in use. Every token is told to `learn` before it is used, so that it can be masked.
"""

from __future__ import annotations

from collections.abc import Callable

from allocator.providers.gameye.credential import (
    Credential,
    CredentialError,
    FixedToken,
    RenewableCredential,
    TokenFile,
)
from allocator.service.live_merge import Merged
from allocator.service.settings import SettingsError
from allocator.service.settings_tables import Gameye

TOKEN_SETTINGS = frozenset({"gameye.token", "gameye.token_file"})


def gameye_credential(
    gameye: Gameye, *, report: Callable[[str], None], learn: Callable[[str], None]
) -> RenewableCredential:
    """The credential of the table; `report` hears of a token file that cannot be read any more."""
    return RenewableCredential(_credential(gameye, report, learn))


def renew_gameye(
    credential: RenewableCredential, merged: Merged, *, report: Callable[[str], None], learn: Callable[[str], None]
) -> None:
    """Put the credential of changed settings into use, where that is what changed."""
    gameye = merged.settings.gameye
    if gameye is None or not TOKEN_SETTINGS & set(merged.changed):
        return
    try:
        credential.renew(_credential(gameye, report, learn))
    except CredentialError as error:
        raise SettingsError((str(error),)) from None


def _credential(gameye: Gameye, report: Callable[[str], None], learn: Callable[[str], None]) -> Credential:
    if gameye.token_file is not None:
        return TokenFile(gameye.token_file, report=report, learn=learn)
    token = gameye.token.get_secret_value() if gameye.token else ""
    learn(token)
    return FixedToken(token)
