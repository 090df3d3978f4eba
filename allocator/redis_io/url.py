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
SENTINEL_PORT = 26379
FORMS = (
    "redis://[user:password@]host[:port][/db], rediss:// likewise with TLS (?ssl_ca_certs=FILE&ssl_certfile=FILE"
    "&ssl_keyfile=FILE&ssl_cert_reqs=required|optional|none&ssl_check_hostname=true|false), "
    "unix://[user:password@]/path/to.sock[?db=0], redis+sentinel://[user:password@]host[:port],host[:port].../NAME[/db]"
    "[?sentinel_username=USER&sentinel_password=PASSWORD], redis+cluster://[user:password@]host[:port],host[:port]..., "
    "both with rediss+ for TLS, or embedded:DIR"
)
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS_CHOICES = {"ssl_cert_reqs": ("required", "optional", "none"), "ssl_check_hostname": ("true", "false")}
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


Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class ManyTarget:
    """Servers that are found by asking others. `seeds` are asked first; `options` lack host and port."""

    url: str = field(repr=False)
    seeds: tuple[Address, ...]
    connection_class: type[Connection]
    options: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClusterTarget(ManyTarget):
    """A Redis Cluster; `seeds` are some of its nodes."""


@dataclass(frozen=True, slots=True)
class SentinelTarget(ManyTarget):
    """The primary that the sentinels, which are the `seeds`, call `service`."""

    service: str = ""
    sentinel_options: dict[str, Any] = field(default_factory=dict, repr=False)


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
    end = "[,/?#]" if "+" in scheme else "[/?#]"
    if re.search(rf"://(?::|[^/?#\[]*:(?!\d*(?:{end}|$)))", text):  # no host, or no port: perhaps a password
        return f"{scheme}://***"
    return text


def url_secrets(url: str) -> set[str]:
    """The passwords of a URL, as written and as meant: what a log must mask; nothing where it cannot be read."""
    try:
        parts = urlsplit(url)
        found = {parts.password, *re.findall(r"(?:^|&)sentinel_password=([^&]*)", parts.query)}
    except ValueError:
        return set()
    return {each for written in found if written for each in (written, unquote(written))}


def parse_url(url: str) -> ServerTarget | ClusterTarget | SentinelTarget | EmbeddedTarget:
    """Read redis.url; RedisUrlError says what is wrong with it and what forms there are."""
    url = url.strip()
    scheme, _, rest = url.partition(":")
    match scheme.lower():
        case "embedded":
            pass
        case "redis+cluster" | "rediss+cluster":
            return _cluster_target(url)
        case "redis+sentinel" | "rediss+sentinel":
            return _sentinel_target(url)
        case _:
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
        case _:
            raise _wrong(url, "has no scheme that is known here")
    if parts.scheme == "rediss":
        options |= _tls(url, query)
    _used_up(url, query)
    return ServerTarget(url, _CONNECTIONS[parts.scheme], options | _credentials(parts))


def _cluster_target(url: str) -> ClusterTarget:
    parts, seeds = _split_many(url, DEFAULT_PORT)
    if parts.path.strip("/") not in {"", "0"}:
        raise _wrong(url, "names a database, and a cluster has but one")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    connection_class, options = _by_tls(url, parts, query)
    _used_up(url, query)
    return ClusterTarget(url, seeds, connection_class, options | _credentials(parts))


def _sentinel_target(url: str) -> SentinelTarget:
    parts, seeds = _split_many(url, SENTINEL_PORT)
    service, _, db = parts.path.strip("/").partition("/")
    if not service:
        raise _wrong(url, "names no primary after its sentinels, as in redis+sentinel://host:26379/mymaster")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    connection_class, shared = _by_tls(url, parts, query)
    own = {name: query.pop(f"sentinel_{name}", "") for name in ("username", "password")}
    _used_up(url, query)
    return SentinelTarget(
        url,
        seeds,
        connection_class,
        shared | _credentials(parts) | {"db": _db(url, db)},
        service=unquote(service),
        sentinel_options=shared | {name: text for name, text in own.items() if text},
    )


def _by_tls(url: str, parts: SplitResult, query: dict[str, str]) -> tuple[type[Connection], dict[str, Any]]:
    return (SSLConnection, _tls(url, query)) if parts.scheme.startswith("rediss") else (Connection, {})


def _credentials(parts: SplitResult) -> dict[str, str]:
    return {name: unquote(text) for name in ("username", "password") if (text := getattr(parts, name))}


def _used_up(url: str, query: dict[str, str]) -> None:
    if query:
        raise _wrong(url, f"has an option that is not known here: {min(query)}")


def _split_many(url: str, default_port: int) -> tuple[SplitResult, tuple[Address, ...]]:
    """The parts of a URL that may name several servers, and these; the first alone stands in the parts."""
    found = re.fullmatch(r"([a-z+]+://(?:[^/?#]*@)?)([^/?#@]*)(.*)", url, flags=re.IGNORECASE | re.DOTALL)
    if found is None:
        raise _wrong(url, _QUOTING)
    seeds: list[Address] = []
    for each in found[2].split(","):
        parts, port = _split(f"{found[1]}{each}{found[3]}", url)
        if not parts.hostname:
            raise _wrong(url, "names no host, or lacks one beside a comma")
        seeds.append((parts.hostname, port or default_port))
    return parts, tuple(seeds)


def _split(url: str, whole: str | None = None) -> tuple[SplitResult, int | None]:
    """The parts of the URL and its port; the text of urllib's own error may hold a piece of the password.

    `whole` is what a message shows, where the URL is but a part of what was given.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _wrong(whole or url, _QUOTING) from None
    if parts.fragment or "@" in parts.path + parts.query:
        raise _wrong(whole or url, _QUOTING)
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
