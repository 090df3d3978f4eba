"""Acme, a made-up game-server host over HTTP, for the example provider: what it holds, and what may go wrong at it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any, Literal, Self

from aiohttp import web

KEY = "acme-key"
Trouble = Literal["lost", "dropped", "late", "401", "rejected", "503", "other_id", "500"]


class AcmeHost:
    """Serves `/servers` and `/rooms` while it is entered; `troubles` strike the next calls of their kind."""

    def __init__(self) -> None:
        self.servers: dict[str, dict[str, Any]] = {}
        self.limits: dict[str, tuple[int | None, int | None]] = {"europe": (None, None), "us-east": (None, None)}
        self.troubles: deque[tuple[str, Trouble]] = deque()
        self.base_url = ""
        self._starts: dict[str, list[float]] = {}
        self._late: list[asyncio.TimerHandle] = []
        self._over = asyncio.Event()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes(
            [
                web.post("/servers", self._start),
                web.get("/servers", self._list),
                web.get("/servers/{key}", self._find),
                web.delete("/servers/{key}", self._stop),
                web.get("/rooms/{image}", self._rooms),
            ]
        )
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        for timer in self._late:
            timer.cancel()
        await self._runner.cleanup()

    async def _start(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        trouble = self._trouble("start")
        if trouble == "dropped":
            return await self._silence()
        if trouble in ("401", "503"):
            return _refused(int(trouble), "as you wished")
        if trouble == "rejected":
            return _refused(400, "as you wished")
        if request.headers.get("Authorization") != f"Key {KEY}":
            return _refused(401, "who is there?")
        if (refusal := self._refusal(body)) is not None:
            return refusal
        if trouble == "late":
            self._late.append(asyncio.get_running_loop().call_later(0.25, self._make, body))
            return _refused(504, "slow today")
        if trouble == "other_id":
            body["key"] = "of-the-pool"
        server = self._make(body)
        return await self._silence() if trouble == "lost" else web.json_response(server, status=201)

    def _refusal(self, body: dict[str, Any]) -> web.StreamResponse | None:
        site = body["site"]
        if site not in self.limits:
            return _refused(404, f"no site {site}")
        if body["key"] in self.servers:
            return _refused(409, "that key is taken")
        room, rate = self.limits[site]
        if room is not None and self._up(site) >= room:
            return _refused(429, "full")
        recent = [at for at in self._starts.get(site, []) if at > time.monotonic() - 1]
        if rate is not None and len(recent) >= rate:
            return _refused(429, "not so fast")
        self._starts[site] = [*recent, time.monotonic()]
        return None

    def _make(self, body: dict[str, Any]) -> dict[str, Any]:
        ports = [{"protocol": "udp", "inner": 7777, "outer": 20_000 + len(self.servers)}]
        kept = {name: body[name] for name in ("key", "site", "image", "labels")}
        server = {**kept, "address": "127.0.0.1", "ports": ports, "state": "up", "since": time.time()}
        self.servers[body["key"]] = server
        return server

    async def _find(self, request: web.Request) -> web.StreamResponse:
        if self._trouble("find") is not None:
            return _refused(500, "as you wished")
        server = self.servers.get(request.match_info["key"])
        return _refused(404, "no such key") if server is None else web.json_response(server)

    async def _stop(self, request: web.Request) -> web.StreamResponse:
        trouble = self._trouble("stop")
        if trouble == "500":
            return _refused(500, "as you wished")
        server = self.servers.get(request.match_info["key"])
        if server is None or server["state"] == "down":
            return _refused(404, "no such key")
        server["state"] = "down"
        return await self._silence() if trouble == "lost" else web.Response(status=204)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        if self._trouble("list") is not None:
            return _refused(500, "as you wished")
        owner = request.query["owner"]
        servers = [each for each in self.servers.values() if each["labels"].get("allocator") == owner]
        return web.json_response({"servers": [each for each in servers if each["state"] != "down"]})

    async def _rooms(self, _request: web.Request) -> web.StreamResponse:
        if self._trouble("offers") is not None:
            return _refused(500, "as you wished")
        sites = [site for site, (room, _) in self.limits.items() if room is None or self._up(site) < room]
        return web.json_response({"sites": sites})

    def _up(self, site: str) -> int:
        return sum(each["site"] == site and each["state"] == "up" for each in self.servers.values())

    def _trouble(self, call: str) -> Trouble | None:
        return self.troubles.popleft()[1] if self.troubles and self.troubles[0][0] == call else None

    async def _silence(self) -> web.StreamResponse:
        """Answer nothing until the host closes."""
        await self._over.wait()
        return web.Response(status=500)


def _refused(status: int, message: str) -> web.StreamResponse:
    return web.json_response({"message": message}, status=status)
