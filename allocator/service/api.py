"""The HTTP door: a matchmaker that cannot speak to Redis asks here, and gets the answers of the contract's section 2.

    POST   /v1/allocations             the JSON of section 1; `?priority=high`
    GET    /v1/allocations/{id}        how it stands; `?wait=30` waits for its end
    DELETE /v1/allocations/{id}        cancel or release; `?wait=30` waits until no server is left

In: requests with a bearer token. Out: JSON with the fields of the allocation, or `error_code` and `error_message`. It
stands on the client alone, so that one way leads to the workers, and any door of the fleet answers for all of it.
Promises: a POST is answered once a worker has taken the match up, or it is safe in Redis; the same again never makes a
second server; nobody without the token learns or changes anything. TLS is left to who stands before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry

from allocator.client import (
    Allocation,
    AllocatorClient,
    InvalidRequestError,
    Priority,
    RedisFault,
    RefusedError,
    UnreadableAnswerError,
    not_known,
)
from allocator.contract.allocation import compact
from allocator.contract.codes import Code
from allocator.contract.openapi import ALLOCATIONS, WAIT_SECONDS_MAX
from allocator.contract.request import REQUEST_BYTES_MAX
from allocator.providers.credential import Credential
from allocator.service.authorization import bears
from allocator.service.door import Door, Handler, Seldom
from allocator.service.live_credential import credential_of, report
from allocator.service.settings import Settings
from allocator.telemetry.cells import CounterFamily
from allocator.telemetry.families import HTTP
from allocator.telemetry.labels import OTHER
from allocator.telemetry.structured import structlog

TAKE_UP_SECONDS = 2.0
"""A POST waits so long for a worker; what none has taken up by then is in Redis, and is not lost."""
RETRY_SECONDS = 1
"""When to come again while Redis is away."""
CONNECTIONS_MAX = 512
"""Kept open at once, of the 1,024 files that a process may have open by default: calls to providers need theirs."""

_METHODS = frozenset({"POST", "GET", "DELETE"})
_REFUSED_STATUS = {Code.OVERLOADED: 429, Code.INVALID_REQUEST: 400}

_log = structlog.get_logger("allocator")


class Answers:
    """What is asked for, answered over one client."""

    def __init__(self, client: AllocatorClient, credential: Credential, requests: CounterFamily) -> None:
        """`requests` counts by method and status."""
        self._client = client
        self._credential = credential
        self._requests = requests
        self._waits: set[asyncio.Timeout] = set()
        self._seldom = Seldom()

    def app(self) -> web.Application:
        """The application that a door serves."""
        app = web.Application(
            middlewares=[self._counted, self._faults, self._authorized], client_max_size=REQUEST_BYTES_MAX
        )
        app.router.add_post(ALLOCATIONS, self._allocate)
        app.router.add_get(f"{ALLOCATIONS}/{{id}}", self._get, allow_head=False)
        app.router.add_delete(f"{ALLOCATIONS}/{{id}}", self._cancel)
        return app

    def end_waits(self) -> None:
        """Let all who wait be told now how their match stands: who asks again finds another door."""
        for wait in self._waits:
            wait.reschedule(0.0)

    @web.middleware
    async def _counted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await handler(request)
        method = request.method if request.method in _METHODS else OTHER
        self._requests.at(method, str(answer.status)).value += 1
        return answer

    @web.middleware
    async def _authorized(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if bears(request.headers.get("Authorization"), self._credential):
            return await handler(request)
        mend = "send 'Authorization: Bearer' with the token of api.token or api.token_file"
        return _fault(401, mend, headers={"WWW-Authenticate": "Bearer"})

    @web.middleware
    async def _faults(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer every fault in JSON, with what to do about it."""
        try:
            return await handler(request)
        except InvalidRequestError as error:
            return _fault(400, str(error), Code.INVALID_REQUEST)
        except RefusedError as error:
            return _refused(error)
        except web.HTTPRequestEntityTooLarge:
            return _fault(413, f"request: at most {REQUEST_BYTES_MAX} bytes are taken", Code.INVALID_REQUEST)
        except web.HTTPError as error:
            allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
            known = f"known are {ALLOCATIONS} and {ALLOCATIONS}/{{id}}"
            return _fault(error.status, f"{error.reason}; {known}", headers=allow)
        except UnreadableAnswerError as error:
            return _fault(500, str(error))
        except (RedisFault, TimeoutError) as error:
            if self._seldom():
                _log.warning("http door cannot ask redis", problem=str(error))
            says = "the queue cannot be asked now; send the same again, which never makes a second server"
            return _fault(503, says, headers={"Retry-After": str(RETRY_SECONDS)})

    async def _allocate(self, request: web.Request) -> web.Response:
        priority = _priority(_query(request, "priority"))
        receipt = await self._client.take_up(await _body(request), priority, TAKE_UP_SECONDS)
        allocation = await self._client.get(receipt.request_id)
        status = 200 if receipt.known and receipt.taken else 202
        where = {"Location": f"{ALLOCATIONS}/{receipt.request_id}"}
        if allocation is None or (receipt.known and not receipt.taken):
            # What is known may be another body's, which nobody has compared yet.
            return _json({"request_id": receipt.request_id, "state": "queued"}, status, where)
        return _json(allocation.to_data(), status, where)

    async def _get(self, request: web.Request) -> web.Response:
        request_id, seconds = request.match_info["id"], _seconds(_query(request, "wait"))
        allocation = await self._client.get(request_id)
        if seconds and not (allocation and allocation.final):
            end = await self._within(seconds, self._client.wait(request_id))
            allocation = end or await self._client.get(request_id)
        if allocation is None:
            return _fault(404, not_known(request_id))
        return _json(allocation.to_data())

    async def _cancel(self, request: web.Request) -> web.Response:
        request_id, seconds = request.match_info["id"], _seconds(_query(request, "wait"))
        await self._client.cancel(request_id)
        gone = await self._within(seconds, self._client.gone(request_id)) if seconds else None
        if gone is not None:
            return _json(gone.to_data())
        return _json({"request_id": request_id}, 202, {"Location": f"{ALLOCATIONS}/{request_id}"})

    async def _within(self, seconds: float, end: Awaitable[Allocation]) -> Allocation | None:
        """Wait for an end; None where it takes longer, or the door is being closed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds) as wait:
                self._waits.add(wait)
                try:
                    return await end
                finally:
                    self._waits.discard(wait)
        return None


@contextlib.asynccontextmanager
async def open_api(
    settings: Settings, registry: CollectorRegistry, *, learn: Callable[[str], None]
) -> AsyncIterator[Door | None]:
    """Serve the door that the settings ask for while this lasts; None where they ask for none.

    `learn` hears of the token, so that it can be masked. Raises AddressError, CredentialError, RedisUrlError.
    """
    if settings.api is None:
        yield None
        return
    credential = credential_of(settings.api, "api", report=report, learn=learn)
    url = settings.redis.url.get_secret_value()
    async with AllocatorClient(url, settings.namespace, settings.partitions) as client:
        answers = Answers(client, credential, CounterFamily(*HTTP, registry=registry))
        door = Door(
            answers.app(),
            settings.api.host,
            settings.api.port,
            table="api",
            connections_max=CONNECTIONS_MAX,
            answer_seconds=TAKE_UP_SECONDS + 0.5,
        )
        async with door:
            _log.info("http door opened", api_port=door.port)
            try:
                yield door
            finally:
                answers.end_waits()


async def _body(request: web.Request) -> bytes:
    try:
        return await request.read()
    except (ConnectionError, web.RequestPayloadError):
        raise InvalidRequestError("request: the body did not come whole") from None


def _refused(error: RefusedError) -> web.Response:
    status = _REFUSED_STATUS.get(Code(error.code), 409) if error.code in set(Code) else 409
    if error.retry_after_ms is None:
        return _fault(status, error.message, error.code)
    retry = {"retry_after_ms": error.retry_after_ms}
    return _fault(
        status, error.message, error.code, retry, {"Retry-After": str(math.ceil(error.retry_after_ms / 1000))}
    )


def _fault(
    status: int,
    message: str,
    code: str | None = None,
    more: Mapping[str, Any] = MappingProxyType({}),
    headers: Mapping[str, str] = MappingProxyType({}),
) -> web.Response:
    coded = {} if code is None else {"error_code": str(code)}
    return _json({**coded, "error_message": message, **more}, status, headers)


def _json(
    data: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] = MappingProxyType({})
) -> web.Response:
    text, unkept = f"{compact(data)}\n", {"Cache-Control": "no-store", **headers}
    return web.Response(text=text, status=status, headers=unkept, content_type="application/json")


def _query(request: web.Request, known: str | None = None) -> str | None:
    """The value of the one key that may be asked with; InvalidRequestError for any other."""
    for key in request.query:
        if key != known:
            raise InvalidRequestError(f"query: unknown key {key[:64]!r}" + (f"; {known!r} is known" if known else ""))
    return request.query.get(known) if known else None


def _priority(text: str | None) -> Priority:
    try:
        return Priority.NORMAL if text is None else Priority(text)
    except ValueError:
        raise InvalidRequestError(f"query priority: must be one of {', '.join(Priority)}") from None


def _seconds(text: str | None) -> float:
    try:
        seconds = 0.0 if text is None else float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= WAIT_SECONDS_MAX:
        raise InvalidRequestError(f"query wait: must be 0 to {WAIT_SECONDS_MAX:g} seconds")
    return seconds
