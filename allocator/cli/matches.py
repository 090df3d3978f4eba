"""`allocator submit`, `get`, `wait`: a matchmaker's verbs, for people and scripts.

In: options, a JSON file, or a JSON object a line on stdin. Out: on stdout what became of the request, for a person or
with `--json` one object a line; on stderr what went wrong. Exit 0 done, 1 the answer is a failure or a line was bad,
2 usage or settings, 3 Redis cannot be reached. Promises: no control character of anyone's text reaches the terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sys
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from allocator.cli.asking import EXIT_FAILURE, EXIT_USAGE, ask_client, complain, json_line, printable
from allocator.cli.options import ConfigOption, JsonOption, SetOption
from allocator.contract.allocation import Allocation, State
from allocator.contract.request import REQUEST_BYTES_MAX, Priority

if TYPE_CHECKING:
    from allocator.client import AllocatorClient

LINES_AHEAD_MAX = 10_000
"""Lines that are being submitted or waited for at once."""
PIECES_AHEAD_MAX = 4
"""Reads of stdin that lie ready, of 64 KiB at most each."""
_BRIEF = ("endpoint", "region", "took", "error")
_BAD_ENDS = frozenset({State.FAILED, State.EXPIRED, State.CANCELLED})


def submit(
    source: Annotated[
        str | None, typer.Argument(metavar="[FILE|-]", help="A JSON file, or - for a JSON object a line on stdin.")
    ] = None,
    *,
    request_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Names the allocation. Default: a random one.")
    ] = None,
    image: Annotated[str | None, typer.Option(metavar="NAME", help="What to start.")] = None,
    region: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Where to try, best first; repeatable.")
    ] = None,
    version: Annotated[str | None, typer.Option(metavar="TAG", help="Image tag.")] = None,
    env: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="For the container; repeatable.")] = None,
    arg: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="For the container; repeatable.")] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Metadata; repeatable.")] = None,
    ttl: Annotated[
        str | None, typer.Option(metavar="DURATION", help="The session ends after this long, such as 2h30m.")
    ] = None,
    timeout_seconds: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", help="The request expires after this long.")
    ] = None,
    priority: Annotated[Priority, typer.Option(help="Which stream it goes to.")] = Priority.NORMAL,
    context: Annotated[str | None, typer.Option(metavar="JSON", help="Handed back with the answer.")] = None,
    reply_to: Annotated[
        str | None, typer.Option(metavar="NAME", help="Also answer on the stream of this name.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the answer and print it.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Ask for a server. By options, by a JSON file, or by many JSON objects, a line each, on stdin."""
    given: dict[str, Any] = {
        "id": request_id,
        "image": image,
        "regions": region,
        "version": version,
        "env": _pairs("--env", env),
        "args": arg,
        "labels": _pairs("--label", label),
        "ttl": ttl,
        "timeout_seconds": timeout_seconds,
        "context": _context(context),
        "reply_to": reply_to,
    }
    body = {key: value for key, value in given.items() if value is not None}
    if source is not None and body:
        raise _usage("give the request by options or by FILE, not by both")
    lines = _stdin() if source == "-" else None
    request = b"" if lines else _file(source) if source else _from_options(body)

    async def ask(client: AllocatorClient) -> int:
        submission = _Submission(client, priority, wait=wait, as_json=as_json, brief=lines is not None)
        return await (submission.many(lines()) if lines else submission.one(request))

    ask_client(ask, config, assignments)


def get(
    request_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Show what is known of one allocation. Exit 1 where that is nothing, or a failure."""

    async def ask(client: AllocatorClient) -> int:
        from allocator.client import not_known

        allocation = await client.get(request_id)
        if allocation is not None:
            return _show(allocation, as_json=as_json)
        if as_json:
            typer.echo("null")
        else:
            complain(not_known(request_id))
        return EXIT_FAILURE

    ask_client(ask, config, assignments)


def wait(
    request_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    timeout_seconds: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", min=0, help="Give up after this long; exit 1.")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Wait for the end of one allocation. Shows it, whoever asked for it."""

    async def ask(client: AllocatorClient) -> int:
        # The wait itself is patient with a Redis that is away; who types this wants to know.
        await client.get(request_id)
        return _show(await client.wait(request_id, timeout_seconds), as_json=as_json)

    ask_client(ask, config, assignments)


@dataclass(frozen=True, slots=True)
class _Submission:
    """Sends requests and says what became of them; each method returns the exit code."""

    client: AllocatorClient
    priority: Priority
    wait: bool
    as_json: bool
    brief: bool
    """A line for each answer, since there are many."""

    async def one(self, request: bytes) -> int:
        from allocator.client import InvalidRequestError

        try:
            return await self._send(request)
        except InvalidRequestError as error:
            complain(str(error))
            return EXIT_USAGE

    async def many(self, lines: AsyncIterator[tuple[int, bytes]]) -> int:
        """Send each line; a bad one is named and costs the others nothing."""
        codes, room = {0}, asyncio.Semaphore(LINES_AHEAD_MAX)

        async def line(number: int, text: bytes) -> None:
            codes.add(await self._line(number, text))
            room.release()

        try:
            async with asyncio.TaskGroup() as group:
                async for number, text in lines:
                    await room.acquire()
                    group.create_task(line(number, text))
        except ExceptionGroup as faults:
            raise faults.exceptions[0] from None
        return max(codes)

    async def _line(self, number: int, line: bytes) -> int:
        from allocator.client import InvalidRequestError, RedisFault, UnreadableAnswerError

        try:
            return await self._send(line)
        except (InvalidRequestError, UnreadableAnswerError) as error:
            complain(f"line {number}: {error}")
            return EXIT_FAILURE
        except RedisFault as error:
            raise type(error)(f"line {number}: {error}", kind=error.kind) from error

    async def _send(self, request: bytes) -> int:
        from allocator.client import RefusedError

        if not self.wait:
            entry_id = await self.client.submit(request, self.priority)
            request_id = json.loads(request)["id"]
            said = {"request_id": request_id, "entry_id": entry_id}
            typer.echo(json_line(said) if self.as_json else f"submitted {request_id}")
            return 0
        try:
            allocation = await self.client.allocate(request, self.priority)
            return _show(allocation, as_json=self.as_json, brief=self.brief)
        except RefusedError as error:
            said = {"request_id": json.loads(request)["id"], "state": "refused"}
            said |= {"error_code": error.code, "error_message": error.message}
            typer.echo(json_line(said) if self.as_json else printable(f"{said['request_id']}  refused  {error}"))
            return EXIT_FAILURE


def _from_options(body: dict[str, Any]) -> bytes:
    if "image" not in body:
        raise _usage("say what to start with --image, or give a JSON file, or - to read lines from stdin")
    return json.dumps({"id": f"m-{secrets.token_hex(8)}", **body}).encode()


def _file(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(REQUEST_BYTES_MAX + 1)
    except OSError as error:
        raise _usage(f"{path} cannot be read: {error.strerror}") from error


def _pairs(option: str, texts: list[str] | None) -> dict[str, str] | None:
    """Read KEY=VALUE texts; one without `=` may be a secret and is not repeated."""
    pairs = {}
    for number, text in enumerate(texts or (), 1):
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise _usage(f"{option} (number {number}): must be KEY=VALUE")
        pairs[key] = value
    return pairs or None


def _context(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _usage(f"--context: not JSON: {error}; a text is written '\"like this\"'") from error


def _usage(message: str) -> typer.Exit:
    complain(message)
    return typer.Exit(EXIT_USAGE)


def _stdin() -> Callable[[], AsyncIterator[tuple[int, bytes]]]:
    """The lines of stdin as they come, each with its number; blank ones are passed over.

    A thread of its own reads, one that dies with the process: Ctrl-C must not wait for the next line. Of a line that
    no request can be as long as, only enough is kept to be refused.
    """
    # Not through the buffer: whoever ends while a thread is in there ends with a fatal error of the interpreter.
    stream = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)

    async def lines() -> AsyncIterator[tuple[int, bytes]]:
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[list[bytes] | OSError | None] = asyncio.Queue()
        room = threading.Semaphore(PIECES_AHEAD_MAX)

        def put(piece: list[bytes] | OSError | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody wants it any more
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        def read() -> None:
            rest = b""
            try:
                while piece := stream.read(64 * 1024):
                    *whole, rest = (rest + piece).split(b"\n")
                    rest = rest[: REQUEST_BYTES_MAX + 1]
                    put(whole)
                    room.acquire()
            except OSError as error:
                put(error)
            except ValueError:
                pass  # closed while this read: the command is at its end
            put([rest])
            put(None)

        threading.Thread(target=read, name="stdin", daemon=True).start()
        number = 0
        while (piece := await pieces.get()) is not None:
            if isinstance(piece, OSError):
                raise _usage(f"stdin cannot be read: {piece.strerror}")
            for line in piece:
                number += 1
                if line.strip():
                    yield number, line
            room.release()

    return lines


def _show(allocation: Allocation, *, as_json: bool, brief: bool = False) -> int:
    """Print an allocation; return the exit code that it stands for."""
    if as_json:
        typer.echo(json_line(allocation.to_data()))
    elif brief:
        rows = dict(_rows(allocation))
        parts = (allocation.request_id, *(rows.get(name) for name in (allocation.request_id, *_BRIEF)))
        typer.echo(printable("  ".join(part for part in parts if part)))
    else:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for name, value in _rows(allocation):
            # As Text: a bracket in a foreign text is no markup.
            table.add_row(Text(name, style="dim"), Text(printable(value), overflow="fold"))
        Console(highlight=False).print(table)
    return EXIT_FAILURE if allocation.state in _BAD_ENDS else 0


def _rows(allocation: Allocation) -> list[tuple[str, str]]:
    ended_at = allocation.allocated_at or (allocation.updated_at if allocation.final else None)
    took = ended_at - allocation.enqueued_at if ended_at and allocation.enqueued_at else None
    error = ": ".join(part for part in (allocation.error_code, allocation.error_message) if part)
    rows = {
        allocation.request_id: allocation.state,
        "endpoint": allocation.endpoint,
        "ports": ", ".join(f"{port.name} {port.port}/{port.protocol}" for port in allocation.ports),
        "region": allocation.region,
        "location": " ".join(part for part in (allocation.provider, allocation.location) if part),
        "session": allocation.session_id,
        "tried": ", ".join(f"{each.region} {each.outcome}" for each in allocation.attempts),
        "took": None if took is None else f"{took / 1000:.3f} s",
        "error": error,
        "context": None if allocation.context is None else json.dumps(allocation.context, ensure_ascii=False),
    }
    return [(printable(name), value) for name, value in rows.items() if value]
