"""Whether a request bears a token: what the console and the HTTP door ask of one.

In: an `Authorization` header, a credential. Out: yes or no. Promises: tokens are compared in a time that tells nothing
of them, and nothing is written down.
"""

from __future__ import annotations

import base64
import binascii
import hmac

from allocator.providers.credential import Credential


def bears(authorization: str | None, credential: Credential, *, as_password: bool = False) -> bool:
    """Whether this is the token of the credential: a bearer's or, where so asked, what any user gives as a password."""
    given = _given(authorization or "", as_password=as_password)
    return hmac.compare_digest(given, credential.token().encode())


def _given(authorization: str, *, as_password: bool) -> bytes:
    scheme, _, rest = authorization.strip().partition(" ")
    text = rest.strip().encode("utf-8", "surrogateescape")
    match scheme.lower():
        case "bearer":
            return text
        case "basic" if as_password:
            try:
                return base64.b64decode(text, validate=True).partition(b":")[2]
            except binascii.Error:
                return b""
        case _:
            return b""
