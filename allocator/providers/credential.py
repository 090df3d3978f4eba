"""The token of a provider: a value from the settings, or a file that is read again when it changes.

In: `token` or `token_file` of a provider's table. Out: the token of this moment, as the same object until it changes,
so that a caller can hold what it built from it. Promised: no repr shows it; a file that vanishes, empties or cannot be
read leaves the last good token in force and says so once through `report`; each new token is told to `learn`, so that
it can be masked; who pastes a whole `Authorization` header (`token ...`) has its token taken. No thread, at most one
look at the file a second. Left to others: what to do when the host refuses the token.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

CHECK_SECONDS = 1.0
_FILE_BYTES_MAX = 16 * 1024
_TOKEN = re.compile(r"[\x21-\x7e]+")
_SCHEME = re.compile(r"token\s+", re.IGNORECASE)

_Signature = tuple[int, int, int, int, int]


class CredentialError(ValueError):
    """There is no token to begin with; the message names the setting and says what to do."""


class Credential(Protocol):
    """Whatever knows the token of this moment."""

    def token(self) -> str:
        """The token; the same object as long as it has not changed."""
        ...


class FixedToken:
    """A token from the settings; it never changes. `table` is the one that it stands in, for messages."""

    def __init__(self, token: str, table: str = "gameye") -> None:
        self._token = _checked(token, f"{table}.token")

    def token(self) -> str:
        """The token."""
        return self._token

    def __repr__(self) -> str:
        return "FixedToken(...)"


class RenewableCredential:
    """A credential that can be exchanged for another while calls are made with it."""

    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    def token(self) -> str:
        """The token of the credential in use."""
        return self._credential.token()

    def renew(self, credential: Credential) -> None:
        """Use another one from the next call on."""
        self._credential = credential

    def __repr__(self) -> str:
        return f"RenewableCredential({self._credential!r})"


class TokenFile:
    """A token in a file, such as a mounted secret; raises CredentialError where there is none at the start."""

    def __init__(
        self,
        path: Path,
        table: str = "gameye",
        *,
        report: Callable[[str], None] = lambda _message: None,
        learn: Callable[[str], None] = lambda _token: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._table = table
        self._report = report
        self._learn = learn
        self._monotonic = monotonic
        self._reported: str | None = None
        self._checked_at = monotonic()
        try:
            self._token, self._signature = self._read()
        except OSError as error:
            raise CredentialError(
                f"{table}.token_file: {path} cannot be read ({error.strerror}); "
                f"put the token there or set {table}.token"
            ) from error
        learn(self._token)

    def token(self) -> str:
        """The token of the file, at most a second old; the last good one where the file has none."""
        now = self._monotonic()
        if now - self._checked_at >= CHECK_SECONDS:
            self._checked_at = now
            self._look()
        return self._token

    def __repr__(self) -> str:
        return f"TokenFile({str(self._path)!r})"

    def _look(self) -> None:
        try:
            # The path, not an open file: a mounted secret is replaced by a rename.
            if _signature(self._path.stat()) == self._signature:
                self._reported = None
                return
            token, self._signature = self._read()
        except OSError as error:
            self._say(
                f"{self._table}.token_file: {self._path} cannot be read ({error.strerror}); the last token stays in use"
            )
        except CredentialError as error:
            self._say(f"{error}; the last token stays in use")
        else:
            self._reported = None
            if token != self._token:
                self._token = token
                self._learn(token)

    def _read(self) -> tuple[str, _Signature]:
        with self._path.open("rb") as file:
            # Taken before the bytes: a write in between is seen as a change at the next look.
            signature = _signature(os.fstat(file.fileno()))
            raw = file.read(_FILE_BYTES_MAX + 1)
        if len(raw) > _FILE_BYTES_MAX:
            raise CredentialError(
                f"{self._table}.token_file: {self._path} is over {_FILE_BYTES_MAX} bytes, which is no token"
            )
        return _checked(raw.decode("ascii", "replace"), f"{self._table}.token_file: {self._path}"), signature

    def _say(self, message: str) -> None:
        if message != self._reported:
            self._reported = message
            self._report(message)


def _signature(found: os.stat_result) -> _Signature:
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev


def bare_token(text: str) -> str:
    """The token without blanks around it and without the word `token` that a dashboard shows before it."""
    text = text.strip()
    scheme = _SCHEME.match(text)
    return text[scheme.end() :] if scheme else text


def _checked(text: str, source: str) -> str:
    token = bare_token(text)
    if not token:
        raise CredentialError(f"{source} is empty; put the token there")
    if not _TOKEN.fullmatch(token):
        raise CredentialError(
            f"{source} holds blanks or characters that a header cannot carry; put the bare token there"
        )
    return token
