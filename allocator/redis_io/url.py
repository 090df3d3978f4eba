"""What `redis.url` may say, read strictly.

In: the text of the setting. Out: where to connect and how, or a `RedisUrlError` that names the setting and the forms
there are. Promises: no message and no `masked` text holds a password, however badly it is quoted in the URL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection

from allocator.redis_io.errors import RedisUrlError

DEFAULT_PORT = 6379
FORMS = (
    "redis://[user:password@]host[:port][/db], rediss:// likewise with TLS (?ssl_ca_certs=FILE&ssl_certfile=FILE"
    "&ssl_keyfile=FILE&ssl_cert_reqs=required|optional|none&ssl_check_hostname=true|false), "
    "unix://[user:password@]/path/to.sock[?db=0], or embedded:DIR"
)
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS_CHOICES = {"ssl_cert_reqs": ("required", "optional", "none"), "ssl_check_hostname": ("true", "false")}
_NOT_YET = ("redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
_CONNECTIONS: dict[str, type[AbstractConnection]] = {
    "redis": Connection,
    "rediss": SSLConnection,
    "unix": UnixDomainSocketConnection,
}
_QUOTING = "cannot be taken apart; write / : @ ? # in a password as %2F %3A %40 %3F %23"


@dataclass(frozen=True, slots=True)
class ServerTarget:
    """A server that stands alone. `options` are the keyword arguments of its `connection_class`."""

    url: str = field(repr=False)
    connection_class: type[AbstractConnection]
    options: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class EmbeddedTarget:
    """A server of our own, with its data in this directory."""

    directory: Path


def masked(url: str) -> str:
    """The URL without what may be secret in it, however badly that is quoted: fit for a message."""
    if url.lower().startswith("embedded:"):
        return url
    text = re.sub(r"([?&][^=&]*(?:pass|user)[^=&]*=)[^&]*", r"\1***", url, flags=re.IGNORECASE)
    head, at, tail = text.rpartition("@")
    scheme, separator, _ = text.partition("://")
    if at:
        return f"{scheme}://***@{tail}" if separator in head else f"***@{tail}"
    if re.search(r"://(?::|[^/?#\[]*:(?!\d*(?:[/?#]|$)))", text):  # no host, or no port: perhaps a password
        return f"{scheme}://***"
    return text


def url_secrets(url: str) -> set[str]:
    """The password of a URL, as written and as meant: what a log must mask; nothing where it cannot be read."""
    try:
        written = urlsplit(url).password
    except ValueError:
        return set()
    return {written, unquote(written)} if written else set()


def parse_url(url: str) -> ServerTarget | EmbeddedTarget:
    """Read redis.url; RedisUrlError says what is wrong with it and what forms there are."""
    url = url.strip()
    scheme, _, rest = url.partition(":")
    if scheme.lower() != "embedded":
        return server_target(url)
    if not rest:
        raise _wrong(url, "names no directory")
    return EmbeddedTarget(Path(rest).expanduser().absolute())


def server_target(url: str) -> ServerTarget:
    """Read the URL of a server that others run."""
    parts, port = _split(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    options: dict[str, Any] = {"port": port or DEFAULT_PORT}
    match parts.scheme:
        case "redis" | "rediss" if parts.hostname:
            options |= {"host": parts.hostname, "db": _db(url, query.pop("db", parts.path.strip("/")))}
        case "unix" if parts.path and not parts.hostname and port is None:
            options = {"path": unquote(parts.path), "db": _db(url, query.pop("db", ""))}
        case "redis" | "rediss":
            raise _wrong(url, "names no host")
        case "unix":
            raise _wrong(url, "names no socket file")
        case scheme if scheme in _NOT_YET:
            raise _wrong(url, f"is of a kind that is not supported yet: {scheme}")
        case _:
            raise _wrong(url, "has no scheme that is known here")
    if parts.scheme == "rediss":
        options |= _tls(url, query)
    if query:
        raise _wrong(url, f"has an option that is not known here: {min(query)}")
    options |= {name: unquote(text) for name in ("username", "password") if (text := getattr(parts, name))}
    return ServerTarget(url, _CONNECTIONS[parts.scheme], options)


def _split(url: str) -> tuple[SplitResult, int | None]:
    """The parts of the URL and its port; the text of urllib's own error may hold a piece of the password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _wrong(url, _QUOTING) from None
    if parts.fragment or "@" in parts.path + parts.query:
        raise _wrong(url, _QUOTING)
    return parts, port


def _db(url: str, text: str) -> int:
    if not re.fullmatch(r"\d{0,5}", text):
        raise _wrong(url, "names a database that is no number")
    return int(text or 0)


def _tls(url: str, query: dict[str, str]) -> dict[str, Any]:
    """Take the TLS options out of the query, checked now rather than at the first command."""
    options: dict[str, Any] = {}
    for name in _TLS_FILES:
        if name in query:
            options[name] = query.pop(name)
            if not Path(options[name]).is_file():
                raise _wrong(url, f"{name} is no file")
    for name, choices in _TLS_CHOICES.items():
        if name in query:
            value = query.pop(name).lower()
            if value not in choices:
                raise _wrong(url, f"{name} must be one of {', '.join(choices)}")
            options[name] = value == "true" if name == "ssl_check_hostname" else value
    if options.get("ssl_cert_reqs") == "none":
        options.setdefault("ssl_check_hostname", False)
    return options


def _wrong(url: str, what: str) -> RedisUrlError:
    return RedisUrlError(f"redis.url {masked(url)!r} {what}; it takes {FORMS}")
