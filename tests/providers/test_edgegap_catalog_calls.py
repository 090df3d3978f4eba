"""What the catalogue's client does with answers that no catalogue should give, and with secrets."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from allocator.providers.edgegap.catalog.client import Catalog
from allocator.providers.edgegap.catalog.faults import Done, Refused, Unclear, Unreachable
from allocator.providers.edgegap.catalog.rows import Application, Variable, Version, shown
from allocator.providers.edgegap.catalog.sent import NewApplication, NewStorage, NewVersion, VersionChange
from allocator.providers.edgegap.catalog.wire import PAGES_MAX, TRIES

if TYPE_CHECKING:
    from tests.providers.conftest import Call, Fault, RawHost

    Reply = Callable[..., bytes]

TOKEN = "11111111-2222-3333-4444-555555555555"
APPLICATION = {"name": "my-game", "is_active": True, "image": "aGk=", "create_time": "x", "last_updated": "x"}
VERSION = {
    "name": "v1",
    "docker_repository": "docker.io",
    "docker_image": "org/my-game",
    "docker_tag": "1.0",
    "req_cpu": 1024,
    "req_memory": 2048,
}
NEW_VERSION = NewVersion(
    **VERSION,
    private_token=SecretStr("the-registry-token"),
    envs=(Variable(key="KEY", value=SecretStr("hidden-value"), is_hidden=True),),
)


class Pauses:
    """Remembers how long was paused, and lets no time pass."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
async def catalog(host: RawHost, pauses: Pauses) -> AsyncIterator[Catalog]:
    made = Catalog(host.base_url, lambda: TOKEN, pause=pauses, chance=random.Random(1))
    yield made
    await made.close()


def _page(number: int, pages: int, rows: list[dict[str, object]]) -> dict[str, object]:
    return {
        "applications": rows,
        "total_count": pages,
        "pagination": {
            "number": number,
            "next_page_number": number + 1 if number < pages else None,
            "previous_page_number": None,
            "paginator": {"num_pages": pages},
            "has_next": number < pages,
            "has_previous": number > 1,
        },
    }


async def test_every_call_bears_the_token_behind_the_word_token(host: RawHost, reply: Reply, catalog: Catalog) -> None:
    host.answer(reply(200, APPLICATION))
    await catalog.applications.get("my-game")
    assert host.calls[0].headers["Authorization"] == f"token {TOKEN}"


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_read_that_meets_trouble_is_tried_again_after_a_pause(
    host: RawHost, reply: Reply, catalog: Catalog, pauses: Pauses, status: int
) -> None:
    bad = reply(status, {"message": "not now"})
    host.answer(bad, bad, reply(200, APPLICATION))
    assert isinstance(await catalog.applications.get("my-game"), Application)
    assert len(pauses.seconds) == 2
    assert 0.25 <= pauses.seconds[0] <= 0.75
    assert 0.5 <= pauses.seconds[1] <= 1.5


async def test_a_read_whose_connection_broke_is_tried_again(
    host: RawHost, reply: Reply, hang_up: Fault, catalog: Catalog
) -> None:
    host.answer(hang_up, hang_up, hang_up, reply(200, APPLICATION))
    assert isinstance(await catalog.applications.get("my-game"), Application)


async def test_a_read_gives_up_after_a_few_tries_with_what_the_vendor_said(
    host: RawHost, reply: Reply, catalog: Catalog
) -> None:
    host.answer(reply(503, {"message": "maintenance"}))
    assert await catalog.applications.get("my-game") == Unclear("maintenance", 503)
    assert len(host.calls) == TRIES


@pytest.mark.parametrize("trouble", [500, 502, "hang_up", "nonsense"])
async def test_an_effect_whose_answer_is_unclear_is_never_sent_twice(
    host: RawHost, reply: Reply, hang_up: Fault, catalog: Catalog, trouble: Any
) -> None:
    answers: dict[Any, bytes | Fault] = {"hang_up": hang_up, "nonsense": reply(200, "<html>", content_type="text/html")}
    answers |= {status: reply(status, {"message": "oops"}) for status in (500, 502)}
    host.answer(answers[trouble])
    fault = await catalog.versions.create("my-game", NEW_VERSION)
    assert isinstance(fault, Unclear)
    assert len(host.calls) == 1


async def test_an_effect_that_was_throttled_is_sent_again_since_nothing_was_done(
    host: RawHost, reply: Reply, catalog: Catalog, pauses: Pauses
) -> None:
    host.answer(reply(429, {"message": "slower"}), reply(200, {"success": True, "version": VERSION}))
    assert isinstance(await catalog.versions.create("my-game", NEW_VERSION), Version)
    assert len(pauses.seconds) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 424, 429])
async def test_a_refusal_is_a_value_with_the_vendors_status_and_words(
    host: RawHost, reply: Reply, catalog: Catalog, status: int
) -> None:
    host.answer(reply(status, {"message": "the vendor's reason"}))
    fault = await catalog.versions.create("my-game", NEW_VERSION)
    assert fault == Refused(status, "the vendor's reason")


async def test_nobody_listening_is_told_apart_from_a_refusal(catalog: Catalog, pauses: Pauses) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        lonely = Catalog(f"http://127.0.0.1:{taken.getsockname()[1]}", lambda: TOKEN, pause=pauses)
        fault = await lonely.applications.create(NewApplication(name="a", image=""))
        await lonely.close()
    assert isinstance(fault, Unreachable)
    assert "edgegap.base_url" in str(fault)


async def test_a_redirect_is_not_followed_with_the_token(host: RawHost, reply: Reply, catalog: Catalog) -> None:
    host.answer(reply(302, headers={"Location": "http://127.0.0.1:1/elsewhere"}))
    fault = await catalog.applications.delete("my-game")
    assert isinstance(fault, Refused)
    assert "edgegap.base_url" in fault.message


async def test_a_reply_that_repeats_a_secret_has_it_blotted_out(host: RawHost, reply: Reply, catalog: Catalog) -> None:
    message = f"cannot log in with the-registry-token and hidden-value for {TOKEN}"
    host.answer(reply(424, {"message": message}))
    fault = await catalog.versions.create("my-game", NEW_VERSION)
    assert isinstance(fault, Refused)
    for secret in ("the-registry-token", "hidden-value", TOKEN):
        assert secret not in fault.message


def test_no_secret_is_in_any_repr_or_in_what_is_shown() -> None:
    new_storage = NewStorage(
        name="logs", access_key_id="k", secret_access_key=SecretStr("s3-secret"), endpoint="https://s3", bucket="b"
    )
    told = Version.model_validate(
        {
            **VERSION,
            "private_token": "the-registry-token",
            "envs": [
                {"key": "KEY", "value": "hidden-value", "is_hidden": True},
                {"key": "OLD", "value": "old-hidden", "is_secret": True},
                {"key": "MODE", "value": "ranked", "is_hidden": False},
            ],
        }
    )
    texts = [repr(NEW_VERSION), str(NEW_VERSION), repr(new_storage), repr(told), json.dumps(shown(told))]
    for secret in ("the-registry-token", "hidden-value", "old-hidden", "s3-secret"):
        assert not any(secret in text for text in texts)
    assert '"value": "ranked"' in json.dumps(shown(told))


async def test_a_listing_is_followed_to_its_end(host: RawHost, reply: Reply, catalog: Catalog) -> None:
    pages = {number: [{**APPLICATION, "name": f"game-{number}"}] for number in (1, 2, 3)}

    def respond(call: Call) -> bytes:
        number = int(call.path.partition("page=")[2].partition("&")[0])
        return reply(200, _page(number, 3, pages[number]))

    host.respond = respond
    listed = await catalog.applications.list()
    assert isinstance(listed, tuple)
    assert [each.name for each in listed] == ["game-1", "game-2", "game-3"]
    assert len(host.calls) == 3


async def test_a_listing_that_never_ends_is_left_at_a_bound(host: RawHost, reply: Reply, catalog: Catalog) -> None:
    def respond(call: Call) -> bytes:
        number = int(call.path.partition("page=")[2].partition("&")[0])
        return reply(200, _page(number, 10**6, [{**APPLICATION, "name": f"game-{number}"}]))

    host.respond = respond
    fault = await catalog.applications.list()
    assert isinstance(fault, Unclear)
    assert len(host.calls) == PAGES_MAX


async def test_a_listing_without_pages_is_read_once_or_until_it_repeats(
    host: RawHost, reply: Reply, catalog: Catalog
) -> None:
    host.answer(reply(200, {"data": [{"tag": f"{number}", "last_push_at": "x"} for number in range(50)]}))
    listed = await catalog.tags.list("org/my-game")
    assert isinstance(listed, tuple)
    assert len(listed) == 50
    assert len(host.calls) == 2


async def test_a_page_that_cannot_be_read_ends_a_listing_as_a_fault(
    host: RawHost, reply: Reply, catalog: Catalog, pauses: Pauses
) -> None:
    host.answer(reply(200, _page(1, 2, [APPLICATION])), reply(503, {"message": "away"}))
    assert await catalog.applications.list() == Unclear("away", 503)


async def test_an_answer_that_is_not_as_described_names_the_field_and_not_its_value(
    host: RawHost, reply: Reply, catalog: Catalog
) -> None:
    host.answer(reply(200, {**VERSION, "req_cpu": "a-secret-in-the-wrong-place"}))
    fault = await catalog.versions.get("my-game", "v1")
    assert isinstance(fault, Unclear)
    assert "req_cpu" in fault.message
    assert "a-secret" not in fault.message


async def test_an_image_keeps_its_slash_and_every_other_name_is_one_segment(
    host: RawHost, reply: Reply, catalog: Catalog
) -> None:
    host.answer(reply(200, {"deleted_tag": "a/b"}))
    await catalog.tags.delete("my org/my-game", "a/b")
    await catalog.versions.delete("a?b", "2024.01 #1")
    assert host.calls[0].path == "/v1/container-registry/images/my%20org/my-game/tags/a%2Fb"
    assert host.calls[1].path == "/v1/app/a%3Fb/version/2024.01%20%231"


@pytest.mark.parametrize("name", ["", ".", ".."])
async def test_a_name_that_would_lead_to_another_path_is_not_sent(host: RawHost, catalog: Catalog, name: str) -> None:
    assert isinstance(await catalog.applications.delete(name), Refused)
    assert host.calls == []


async def test_what_is_not_named_is_not_sent(host: RawHost, reply: Reply, catalog: Catalog) -> None:
    host.answer(reply(200, {"success": True}))
    assert await catalog.versions.update("my-game", "v1", VersionChange(is_active=False)) == Done()
    assert host.calls[0].json == {"is_active": False}
