"""What Gameye's provider sends for a start, and what it makes of each status."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from allocator.contract.allocation import Port
from allocator.providers.credential import FixedToken
from allocator.providers.gameye.client import GameyeProvider
from allocator.providers.provider import (
    Conflict,
    Created,
    CredentialRefused,
    NoRoom,
    NotFound,
    Provider,
    Rejected,
    StartOutcome,
    StartSpec,
    Unknown,
)

if TYPE_CHECKING:
    from tests.providers.conftest import Call, RawHost

    Reply = Callable[..., bytes]

TOKEN = "token-of-the-account"
SECRET = "a very=secret/value"
SPEC = StartSpec(
    image="my-game",
    version="v2",
    env={"DB": SECRET, "MAX": "8"},
    args=("--key=s3cr3t-key",),
    labels={"allocator": "test", "mode": "duel"},
    restart=True,
    ttl="2h30m",
    port_names={"7777/udp": "game"},
)
STARTED = {"id": "s-1", "host": "10.0.0.1", "ports": [{"type": "udp", "container": 7777, "host": 20113}]}


def error(message: str = "No", details: str = "because", **more: Any) -> dict[str, Any]:
    return {"statusCode": 0, "code": "C", "message": message, "details": details, "identifier": "trace-8", **more}


async def start(provider: Provider, timeout_seconds: float = 5.0) -> StartOutcome:
    return await provider.start("s-1", "europe", SPEC, timeout_seconds=timeout_seconds)


async def test_the_provider_says_whose_rates_it_uses(gameye: GameyeProvider) -> None:
    provider: Provider = gameye
    assert (provider.name, provider.account) == ("gameye", "studio")


async def test_a_start_sends_what_was_asked_for_and_reads_the_address(
    gameye: GameyeProvider, host: RawHost, reply: Reply
) -> None:
    host.answer(reply(201, STARTED))
    outcome = await start(gameye)
    assert isinstance(outcome, Created)
    assert (outcome.session.id, outcome.session.host, outcome.session.location) == ("s-1", "10.0.0.1", "europe")
    assert outcome.session.ports == (Port("game", "udp", 7777, 20113),)
    (call,) = host.calls
    assert (call.method, call.path) == ("POST", "/session")
    assert call.headers["Authorization"] == f"Bearer {TOKEN}"
    assert call.headers["Content-Type"] == "application/json"
    assert call.json == {
        "id": "s-1",
        "location": "europe",
        "image": "my-game",
        "version": "v2",
        "env": {"DB": SECRET, "MAX": "8"},
        "args": ["--key=s3cr3t-key"],
        "labels": {"allocator": "test", "mode": "duel"},
        "restart": True,
        "ttl": "2h30m",
    }


async def test_a_start_names_no_key_that_was_not_asked_for(gameye: GameyeProvider, host: RawHost, reply: Reply) -> None:
    host.answer(reply(201, STARTED))
    await gameye.start("s-1", "europe", StartSpec(image="my-game"), timeout_seconds=5)
    assert host.calls[0].json == {"id": "s-1", "location": "europe", "image": "my-game"}


@pytest.mark.parametrize(("replied", "expected"), [(None, "s-1"), ("", "s-1"), ("pool-7", "pool-7")])
async def test_the_id_is_the_hosts_where_it_names_one_else_ours(
    gameye: GameyeProvider, host: RawHost, reply: Reply, replied: str | None, expected: str
) -> None:
    host.answer(reply(201, {**STARTED, "id": replied}))
    outcome = await start(gameye)
    assert isinstance(outcome, Created)
    assert outcome.session.id == expected


@pytest.mark.parametrize("status", [420, 429])
async def test_a_throttled_start_is_no_room_with_the_time_to_wait(
    gameye: GameyeProvider, host: RawHost, reply: Reply, status: int
) -> None:
    host.answer(reply(status, error(), {"Retry-After": "7"}))
    assert await start(gameye) == NoRoom(status, 7.0, "No: because (identifier trace-8)")


async def test_the_throttle_statuses_are_the_settings(host: RawHost, reply: Reply) -> None:
    provider = GameyeProvider(host.base_url, "studio", FixedToken(TOKEN), frozenset({418}))
    host.answer(reply(418, error()), reply(420, error()))
    assert isinstance(await start(provider), NoRoom)
    assert isinstance(await start(provider), Unknown)
    await provider.close()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Rejected),
        (422, Rejected),
        (401, CredentialRefused),
        (402, CredentialRefused),
        (403, CredentialRefused),
        (404, NotFound),
        (409, Conflict),
        (200, Unknown),
        (202, Unknown),
        (204, Unknown),
        (302, Unknown),
        (308, Unknown),
        (405, Unknown),
        (408, Unknown),
        (413, Unknown),
        (500, Unknown),
        (502, Unknown),
        (504, Unknown),
        (599, Unknown),
    ],
)
async def test_only_the_documented_refusals_are_definite(
    gameye: GameyeProvider, host: RawHost, reply: Reply, status: int, kind: type
) -> None:
    host.answer(reply(status, None if status == 204 else error(), {"Location": "/elsewhere"}))
    outcome = await start(gameye)
    assert isinstance(outcome, kind)
    assert getattr(outcome, "status", None) == status
    assert not getattr(outcome, "closes", False)
    assert [call.path for call in host.calls] == ["/session"], "a redirect was followed or a call repeated"


async def test_a_503_is_unknown_and_closes_the_destination(gameye: GameyeProvider, host: RawHost, reply: Reply) -> None:
    host.answer(reply(503, error(), {"Retry-After": "9"}))
    outcome = await start(gameye)
    assert isinstance(outcome, Unknown)
    assert (outcome.status, outcome.closes, outcome.retry_after_seconds) == (503, True, 9.0)


async def test_no_outcome_and_no_repr_shows_what_was_sent_in_env_args_or_token(
    gameye: GameyeProvider, host: RawHost, reply: Reply
) -> None:
    def echo(call: Call) -> bytes:
        return reply(422, error(details=f"got {call.body.decode()} with {call.headers['Authorization']}"))

    host.respond = echo
    outcome = await start(gameye)
    assert isinstance(outcome, Rejected)
    for text in (outcome.message, repr(outcome), repr(gameye), repr(SPEC), repr(FixedToken(TOKEN))):
        assert SECRET not in text
        assert "s3cr3t-key" not in text
        assert TOKEN not in text
    assert "my-game" in outcome.message


async def test_a_new_token_is_in_the_next_call(host: RawHost, reply: Reply) -> None:
    class Turning:
        current = "first"

        def token(self) -> str:
            return self.current

    credential = Turning()
    provider = GameyeProvider(host.base_url, "studio", credential)
    host.answer(reply(201, STARTED))
    await start(provider)
    credential.current = "second"
    await start(provider)
    assert [call.headers["Authorization"] for call in host.calls] == ["Bearer first", "Bearer second"]
    await provider.close()


@pytest.mark.parametrize("text", ["", "host", "ftp://host", "https://user:pw@host", "https://h?x=1", "http://["])
async def test_a_base_url_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"gameye\.base_url") as raised:
        GameyeProvider(text, "studio", FixedToken(TOKEN))
    assert "pw" not in str(raised.value)
