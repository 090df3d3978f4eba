"""What redis.url may say, and what is never repeated of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection

from allocator.redis_io.errors import RedisUrlError
from allocator.redis_io.url import (
    ClusterTarget,
    EmbeddedTarget,
    SentinelTarget,
    ServerTarget,
    masked,
    parse_url,
    url_secrets,
)


def _server(url: str) -> ServerTarget:
    target = parse_url(url)
    assert isinstance(target, ServerTarget)
    return target


def test_a_plain_url_names_host_port_and_database() -> None:
    assert _server("redis://db.internal").options == {"host": "db.internal", "port": 6379, "db": 0}
    assert _server("redis://[::1]:7000/3").options == {"host": "::1", "port": 7000, "db": 3}
    assert _server("redis://h?db=4").options["db"] == 4
    assert _server("redis://h").connection_class is Connection


def test_name_and_password_are_unquoted() -> None:
    options = _server("redis://me:p%40ss%2Fword@h:1/0").options
    assert (options["username"], options["password"]) == ("me", "p@ss/word")
    assert "username" not in _server("redis://:only@h").options


def test_a_tls_url_takes_the_files_and_choices_of_tls(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.touch()
    target = _server(f"rediss://h?ssl_ca_certs={ca}&ssl_cert_reqs=required")
    assert target.connection_class is SSLConnection
    assert target.options["ssl_ca_certs"] == str(ca)
    assert target.options["ssl_cert_reqs"] == "required"
    assert _server("rediss://h?ssl_cert_reqs=none").options["ssl_check_hostname"] is False
    assert _server("rediss://h?ssl_check_hostname=false").options["ssl_check_hostname"] is False


def test_a_unix_url_names_a_socket_file() -> None:
    target = _server("unix://me:secret@/run/redis.sock?db=2")
    assert target.connection_class is UnixDomainSocketConnection
    assert target.options == {"path": "/run/redis.sock", "db": 2, "username": "me", "password": "secret"}


def test_a_cluster_url_names_some_of_its_nodes() -> None:
    target = parse_url("redis+cluster://me:p%40ss@a,b:7001,[::1]:7002")
    assert isinstance(target, ClusterTarget)
    assert target.seeds == (("a", 6379), ("b", 7001), ("::1", 7002))
    assert (target.connection_class, target.options) == (Connection, {"username": "me", "password": "p@ss"})
    secure = parse_url("rediss+cluster://a?ssl_cert_reqs=none")
    assert isinstance(secure, ClusterTarget)
    assert (secure.connection_class, secure.options["ssl_check_hostname"]) == (SSLConnection, False)


def test_a_sentinel_url_names_the_sentinels_and_what_they_call_the_primary() -> None:
    target = parse_url("redis+sentinel://me:pw@a,b:7001/main/2?sentinel_password=o%26ther")
    assert isinstance(target, SentinelTarget)
    assert (target.seeds, target.service) == ((("a", 26379), ("b", 7001)), "main")
    assert target.options == {"username": "me", "password": "pw", "db": 2}
    assert target.sentinel_options == {"password": "o&ther"}
    assert url_secrets(target.url) == {"pw", "o%26ther", "o&ther"}
    assert "other" not in masked(target.url).replace("sentinel", "")
    assert "pw" not in repr(target) + masked(target.url)


def test_an_embedded_url_names_a_directory() -> None:
    assert parse_url("embedded:/var/data") == EmbeddedTarget(Path("/var/data"))
    assert parse_url("embedded:data") == EmbeddedTarget(Path.cwd() / "data")
    assert parse_url("embedded:~/data") == EmbeddedTarget(Path.home() / "data")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://localhost",
        "redis://",
        "redis:///0",
        "redis://h/zero",
        "redis://h:port",
        "redis://h:70000",
        "redis://h?socket_timeout=0",
        "redis://h?ssl_cert_reqs=none",
        "redis://h#part",
        "rediss://h?ssl_cert_reqs=maybe",
        "rediss://h?ssl_ca_certs=/nowhere/ca.pem",
        "unix://",
        "embedded:",
        "redis+sentinel://h:26379",
        "redis+sentinel://h:26379/main/zero",
        "redis+sentinel://h,,g/main",
        "redis+sentinel://:26379/main",
        "redis+sentinel://h/main?password=x",
        "redis+cluster://",
        "redis+cluster://h:6379,g:port",
        "redis+cluster://h:6379/3",
        "redis+cluster://h?ssl_cert_reqs=none",
        "rediss+cluster://h?ssl_cert_reqs=maybe",
    ],
)
def test_what_cannot_be_understood_names_the_setting_and_the_forms(url: str) -> None:
    with pytest.raises(RedisUrlError, match=r"redis\.url .*redis://.*rediss://.*unix://.*embedded:DIR"):
        parse_url(url)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix", "redis+sentinel", "redis+cluster", "http"])
@pytest.mark.parametrize("secret", ["zebra", "ze/bra", "ze?bra=1", "ze#bra", "ze@bra", "1?zebra", "12/zebra", "[zebra"])
def test_no_message_repeats_a_password_however_it_is_quoted(scheme: str, secret: str) -> None:
    urls = [f"{scheme}://me:{secret}@host/0?odd=1", f"{scheme}://:{secret}@host:port"]
    if "@" not in secret:
        urls.append(f"{scheme}://:{secret}")  # the host forgotten
    for url in urls:
        with pytest.raises(RedisUrlError) as caught:
            parse_url(url)
        shown = f"{caught.value} {masked(url)} {caught.value.__cause__}"
        assert "bra" not in shown.replace(scheme, "")
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_target_does_not_show_its_password() -> None:
    target = _server("redis://me:zebra@h")
    assert "zebra" not in repr(target) + masked(target.url)


def test_a_masked_url_still_says_where() -> None:
    assert masked("redis://me:zebra@h:1/2") == "redis://***@h:1/2"
    assert masked("unix:///s.sock?password=ze@bra&db=1") == "unix:///s.sock?password=***&db=1"
    assert masked("redis://h:6379/0") == "redis://h:6379/0"
    assert masked("redis+cluster://h:1,g:2") == "redis+cluster://h:1,g:2"
    assert masked("redis+sentinel://h:1,g:2/main") == "redis+sentinel://h:1,g:2/main"
    assert masked("redis+sentinel://me:zebra@h:1,g:2/main") == "redis+sentinel://***@h:1,g:2/main"
    assert masked("embedded:/a@b") == "embedded:/a@b"
