"""The console at the admin address: who may see it, what it shows, and that nothing waits for Redis."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from allocator.contract.keys import Keys
from allocator.service.admin import AdminServer
from allocator.service.console import pages
from allocator.service.console.access import ASKS, FOREIGN, OFF
from allocator.service.console.pages import Console, admin_credential, build_console
from allocator.service.look import open_looker
from allocator.service.settings import load_settings
from tests.conftest import WaitUntil
from tests.crash.fleet import start
from tests.service.looking import announce, ended, fill

if TYPE_CHECKING:
    from tests.conftest import TestServer

HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
"""As browsers ask."""
OPTIONS = {"gameye.token": "t", "gameye.account": "studio", "regions": '{"europe": {"rate": 40}}'}
PATHS = ("/", "/console.json", "/console.css", "/console.js")
EVERYWHERE = ["192.0.2.1"]
"""An address that is none of loopback's, which the door takes itself to be served on; it is served on loopback."""
END_SECONDS = 30.0
FOLDER = Path(pages.__file__).parent


@dataclass
class Reply:
    status: int
    headers: Mapping[str, str]
    text: str


@dataclass
class Door:
    """An admin address with a console, and its console."""

    server: AdminServer
    console: Console

    async def ask(self, path: str, **headers: str) -> Reply:
        given = {"Accept": HTML, **headers}
        url = f"http://127.0.0.1:{self.server.port}{path}"
        async with aiohttp.ClientSession() as http, http.get(url, headers=given) as reply:
            return Reply(reply.status, reply.headers, await reply.text())

    async def json(self) -> dict[str, Any]:
        reply = await self.ask("/console.json")
        assert reply.status == 200, reply.text
        read: dict[str, Any] = json.loads(reply.text)
        return read


Served = Callable[..., AbstractAsyncContextManager[Door]]


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace)


@pytest.fixture
def served(redis_url: str, namespace: str) -> Served:
    """Serve one with these settings beside the usual ones."""

    @asynccontextmanager
    async def serve(url: str = redis_url, **settings: str) -> AsyncIterator[Door]:
        options = {**OPTIONS, "redis.url": url, "namespace": namespace}
        options |= {key.replace("__", "."): text for key, text in settings.items()}
        loaded = load_settings(None, options, {}, require=frozenset())
        console = build_console(lambda: loaded, admin_credential(loaded))
        async with AdminServer(
            "127.0.0.1", 0, registry=CollectorRegistry(), ready=lambda: None, alive=lambda: None, console=console
        ) as server:
            yield Door(server, console)

    return serve


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


async def test_on_loopback_it_needs_no_token(served: Served) -> None:
    async with served(admin__token="t0ken") as door:
        for path in PATHS:
            assert (await door.ask(path)).status == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:9464", "[::1]:9464", "[::1]", "localhost", "LocalHost:80"])
async def test_on_loopback_an_address_or_localhost_is_a_good_host(served: Served, host: str) -> None:
    async with served() as door:
        assert (await door.ask("/console.json", Host=host)).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9464", "localhost.evil.example", "127.0.0.1.evil.example", "a@127.0.0.1", ""]
)
async def test_on_loopback_the_page_of_another_site_is_refused_by_its_host(served: Served, host: str) -> None:
    async with served() as door:
        for path in PATHS:
            reply = await door.ask(path, Host=host)
            assert (reply.status, reply.text) == (403, f"{FOREIGN.says}\n")
        assert (await door.ask("/livez", Host=host)).status == 200


async def test_elsewhere_it_is_off_without_a_token_and_says_what_to_set(served: Served) -> None:
    async with served() as door:
        door.console.listen_on(EVERYWHERE)
        for path in PATHS:
            reply = await door.ask(path, Authorization="Bearer ")
            assert (reply.status, reply.text) == (403, f"{OFF.says}\n")
        assert "admin.token" in reply.text


@pytest.mark.parametrize("addresses", [EVERYWHERE, ["0.0.0.0"], ["::"], ["127.0.0.1", "192.0.2.1"], ["nonsense"], []])
@pytest.mark.parametrize(
    "given", [None, "", "Bearer", "Bearer other", "Bearer t0ken2", "Basic !", basic("t0ken", ""), basic("a", "T0KEN")]
)
async def test_elsewhere_who_has_not_the_token_is_asked_for_it(
    served: Served, addresses: list[str], given: str | None
) -> None:
    async with served(admin__token="t0ken") as door:
        door.console.listen_on(addresses)
        headers = {} if given is None else {"Authorization": given}
        for path in ("/", "/console.json"):
            reply = await door.ask(path, **headers)
            assert (reply.status, reply.text) == (401, f"{ASKS.says}\n")
            assert reply.headers["WWW-Authenticate"] == 'Basic realm="allocator", charset="UTF-8"'
            assert "t0ken" not in str(reply)


@pytest.mark.parametrize("given", ["Bearer t0ken", "bearer  t0ken ", basic("", "t0ken"), basic("anyone", "t0ken")])
async def test_elsewhere_the_token_opens_it_under_any_name(served: Served, given: str) -> None:
    async with served(admin__token="t0ken") as door:
        door.console.listen_on(EVERYWHERE)
        for path in PATHS:
            assert (await door.ask(path, Authorization=given, Host="allocator.example")).status == 200


async def test_a_token_file_is_read_again(served: Served, tmp_path: Path, wait_until: WaitUntil) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    async with served(admin__token_file=str(file)) as door:
        door.console.listen_on(EVERYWHERE)
        assert (await door.ask("/", Authorization="Bearer first")).status == 200
        file.write_text("second\n")

        async def renewed() -> bool:
            return (await door.ask("/", Authorization="Bearer second")).status == 200

        await wait_until(renewed)
        assert (await door.ask("/", Authorization="Bearer first")).status == 401


async def test_metrics_probes_and_the_plain_page_ask_for_no_token(served: Served) -> None:
    async with served(admin__token="t0ken") as door:
        door.console.listen_on(EVERYWHERE)
        for path in ("/metrics", "/livez", "/readyz"):
            assert (await door.ask(path)).status == 200
        for accept in ("*/*", "text/plain", ""):
            plain = await door.ask("/", Accept=accept)
            assert (plain.status, plain.headers["Vary"]) == (200, "Accept")
            assert plain.headers["Content-Type"] == "text/plain; charset=utf-8"
            assert all(path in plain.text for path in ("/metrics", "/livez", "/readyz", "/console.json"))


async def test_every_answer_forbids_what_the_page_does_not_need(served: Served) -> None:
    kinds = {"/": "text/html", "/console.json": "application/json", "/console.css": "text/css"}
    async with served() as door:
        for path in PATHS:
            reply = await door.ask(path)
            assert reply.headers["Content-Type"] == f"{kinds.get(path, 'text/javascript')}; charset=utf-8"
            policy = dict(each.split(" ", 1) for each in reply.headers["Content-Security-Policy"].split("; "))
            assert (policy["default-src"], policy["frame-ancestors"], policy["script-src"]) == (
                "'none'",
                "'none'",
                "'self'",
            )
            assert "unsafe" not in str(policy)
            assert reply.headers["X-Content-Type-Options"] == "nosniff"
            assert reply.headers["Cache-Control"] == "no-store"
            assert "Access-Control-Allow-Origin" not in reply.headers
        async with aiohttp.ClientSession() as http, http.post(f"{door.server.url}/console.json") as posted:
            assert posted.status == 405


def test_the_page_loads_nothing_of_others_and_puts_texts_in_as_texts() -> None:
    page, script, style = ((FOLDER / f"console.{kind}").read_text() for kind in ("html", "js", "css"))
    assert set(re.findall(r'(?:src|href)="([^"]+)"', page)) - {"console.css", "console.js"} == set(
        re.findall(r'"(data:image/[^"]+)"', page)
    )
    assert not re.search(r"<script(?! src)|<style|\sstyle=|\son\w+=|javascript:", page)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(|https?:", script)
    assert not re.search(r"@import|url\(", style)
    named = set(re.findall(r'(?:at|say)\("([a-z-]+)"', script))
    assert named <= set(re.findall(r'\sid="([a-z-]+)"', page))


async def test_it_shows_what_watch_shows_and_how_old_it_is(
    served: Served, redis_server: TestServer, keys: Keys, wait_until: WaitUntil
) -> None:
    fill(redis_server, keys, secret="s3cr3t")
    announce(redis_server, keys, [ended("m-1", region="</script><b>\x1b")])
    options = {**OPTIONS, "redis.url": redis_server.url, "namespace": keys.namespace}
    settings = load_settings(None, options, {}, require=frozenset())
    async with open_looker(lambda: settings, name="test") as looker:
        watched = (await looker.look()).to_data()
    async with served() as door:

        async def read() -> bool:
            return (await door.json())["age_seconds"] is not None

        await wait_until(read)
        shown = await door.json()
        assert shown.pop("age_seconds") >= 0
        moving = {"at": 0, "queue": 0, "ended": 0}
        assert shown | moving == watched | moving
        assert "s3cr3t" not in str(shown)


async def test_no_answer_waits_for_a_redis_that_hangs_and_what_comes_back_is_shown(
    served: Served, private_server: TestServer, wait_until: WaitUntil
) -> None:
    async with served(private_server.url) as door:
        private_server.pause()
        try:
            async with asyncio.timeout(4):  # under the 5 s that a reply of Redis is waited for
                for _ in range(5):
                    assert (await door.json())["age_seconds"] is None
                    assert (await door.ask("/")).status == 200
        finally:
            private_server.resume()

        async def is_told(name: str) -> bool:
            return name in await door.json()

        await wait_until(lambda: is_told("allocating"))
        private_server.kill()
        await wait_until(lambda: is_told("error"))
        away = await door.json()
        assert "cannot be reached" in away["error"]
        assert away["allocating"] == 0
        private_server.start()

        async def is_well() -> bool:
            return not await is_told("error")

        await wait_until(is_well)


async def test_nothing_is_asked_of_redis_before_somebody_looks_and_nothing_after_the_address_is_closed(
    served: Served, redis_server: TestServer, wait_until: WaitUntil
) -> None:
    def connections() -> int:
        return str(redis_server.command("CLIENT", "LIST")).count("allocator:console")

    async with served() as door:
        await door.ask("/", Accept="*/*")
        await door.ask("/metrics")
        await door.ask("/console.json", Host="evil.example")
        assert connections() == 0
        await door.json()
        await wait_until(lambda: connections() == 1)
    await wait_until(lambda: connections() == 0)


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_a_worker_serves_it_and_so_does_the_supervisor_of_several(
    redis_url: str, namespace: str, tmp_path: Path, wait_until: WaitUntil, processes: str
) -> None:
    options = {**OPTIONS, "redis.url": redis_url, "namespace": namespace, "deployment": namespace, "admin.port": "0"}
    words = [word for key, text in options.items() for word in ("--set", f"{key}={text}")]
    worker = await start("worker", tmp_path, "allocator", "worker", "--print-address", "--processes", processes, *words)
    try:
        url = await worker.first_line()
        async with aiohttp.ClientSession() as http:

            async def shown() -> bool:
                async with http.get(f"{url}/console.json") as reply:
                    return [each["region"] for each in (await reply.json()).get("regions", ())] == ["europe"]

            await wait_until(shown, timeout_seconds=END_SECONDS)
        worker.signal(signal.SIGTERM)
        assert await worker.ended(END_SECONDS) == 0
    finally:
        await worker.kill()


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_a_token_file_without_a_token_ends_a_worker_with_exit_2_and_one_line(
    namespace: str, tmp_path: Path, processes: str
) -> None:
    file = tmp_path / "token"
    file.write_text("\n")
    options = {**OPTIONS, "redis.url": "redis://127.0.0.1:1", "deployment": namespace, "admin.token_file": str(file)}
    words = [word for key, text in options.items() for word in ("--set", f"{key}={text}")]
    worker = await start("worker", tmp_path, "allocator", "worker", "--processes", processes, *words)
    assert await worker.ended(END_SECONDS) == 2
    assert worker.tail() == f"allocator: admin.token_file: {file} is empty; put the token there\n"
