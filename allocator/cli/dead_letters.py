"""`allocator dead-letters list`, `show`, `replay`: what could not be taken up, for a person to look at and send again.

In: the letters of the namespace. Out: on stdout the letters, escaped, or with `--raw` the exact bytes of one; on
stderr what went wrong. Exit 0 done, 1 there is no such letter or it cannot be replayed, 2 usage or settings, 3 Redis
cannot be reached. The bytes of a request are shown by `show` alone: they may hold secrets.
"""

from __future__ import annotations

import base64
import re
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from allocator.cli.asking import EXIT_FAILURE, EXIT_USAGE, ask_redis, complain, json_line, printable
from allocator.cli.options import ConfigOption, JsonOption, SetOption

if TYPE_CHECKING:
    from allocator.broker.letters import Letter, Opened, ReplayReply
    from allocator.service.settings import Settings

app = typer.Typer(help="What could not be taken up, kept with its bytes.", no_args_is_help=True, rich_markup_mode=None)

_ENTRY = re.compile(r"(?:\d{1,4}/)?\d{1,20}-\d{1,20}")
_MESSAGE_WIDTH = 100
EntryArgument = Annotated[str, typer.Argument(metavar="ENTRY", help="As `list` names it.")]


@app.command("list")
def list_(*, as_json: JsonOption = False, config: ConfigOption = None, assignments: SetOption = None) -> None:
    """List them, the newest last, and say how many there are."""

    async def ask(settings: Settings) -> int:
        from allocator.service.letters import open_letters

        count = 0
        async with open_letters(settings) as letters:
            async for letter in letters.every():
                count += 1
                typer.echo(json_line(_facts(letter)) if as_json else _line(letter))
        if not as_json:
            typer.echo("1 dead letter" if count == 1 else f"{count} dead letters")
        return 0

    ask_redis(ask, config, assignments)


@app.command()
def show(
    entry_id: EntryArgument,
    *,
    raw: Annotated[bool, typer.Option("--raw", help="Write the exact bytes, and nothing else.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Show one with its bytes, which may hold secrets of env and args."""
    _checked(entry_id)
    if raw and as_json:
        complain("give --raw or --json, not both")
        raise typer.Exit(EXIT_USAGE)

    async def ask(settings: Settings) -> int:
        from allocator.service.letters import open_letters

        async with open_letters(settings) as letters:
            opened = await letters.open(entry_id)
        if opened is None:
            return _nothing(entry_id)
        if raw:
            sys.stdout.buffer.write(opened.request)
            sys.stdout.buffer.flush()
        else:
            typer.echo(json_line(_facts(opened.letter) | _request(opened)) if as_json else _page(opened))
        return 0

    ask_redis(ask, config, assignments)


@app.command()
def replay(
    entry_id: EntryArgument, *, as_json: JsonOption = False, config: ConfigOption = None, assignments: SetOption = None
) -> None:
    """Send one again to where it came from. A failure of its id that has no session is cleared."""
    _checked(entry_id)

    async def ask(settings: Settings) -> int:
        from allocator.service.letters import open_letters

        async with open_letters(settings) as letters:
            opened = await letters.open(entry_id)
            if opened is None:
                return _nothing(entry_id)
            return _replayed(opened.letter, await letters.replay(opened.letter), as_json=as_json)

    ask_redis(ask, config, assignments)


def _replayed(letter: Letter, reply: ReplayReply, *, as_json: bool) -> int:
    from allocator.broker.letters import Empty, Gone, Homeless, Known, Replayed, Unsent

    match reply:
        case Replayed(entry_id):
            said = {"request_id": letter.request_id, "stream": letter.stream, "entry_id": entry_id}
            typer.echo(json_line(said) if as_json else printable(f"replayed as {entry_id} of {letter.stream}"))
            return 0
        case Gone():
            return _nothing(letter.entry_id)
        case Empty():
            complain(f"letter {letter.entry_id} holds no request: its entry had no field 'request'; send a new one")
        case Unsent():
            complain(f"letter {letter.entry_id} is a cancellation that names no request: use 'allocator cancel ID'")
        case Homeless(stream):
            complain(
                f"letter {letter.entry_id} came in on {stream or 'no stream'}, which takes no requests here; "
                "send its bytes yourself: 'allocator dead-letters show --raw'"
            )
        case Known(request_id, "queued" | "allocating" | "parked" as state):
            complain(f"{request_id} is under way ({state}): wait for its end, or cancel it")
        case Known(request_id, "allocated"):
            complain(f"{request_id} is allocated: ask for another server under a new id")
        case Known(request_id, state):
            complain(f"{request_id} has ended as {state}: send the request again under a new id")
    return EXIT_FAILURE


def _checked(entry_id: str) -> None:
    if not _ENTRY.fullmatch(entry_id):
        complain(f"ENTRY: {entry_id[:64]!r} is no entry of a stream; take one that 'allocator dead-letters list' names")
        raise typer.Exit(EXIT_USAGE)


def _nothing(entry_id: str) -> int:
    complain(f"there is no dead letter {entry_id}: replayed, or aged out; see 'allocator dead-letters list'")
    return EXIT_FAILURE


def _line(letter: Letter) -> str:
    message = letter.message if len(letter.message) <= _MESSAGE_WIDTH else letter.message[: _MESSAGE_WIDTH - 3] + "..."
    parts = (letter.entry_id, letter.code, letter.request_id or "-", _age(letter.age_seconds), message)
    return "  ".join(printable(part) for part in parts)


def _page(opened: Opened) -> str:
    letter = opened.letter
    rows = {
        "entry": letter.entry_id,
        "code": letter.code,
        "message": letter.message,
        "id": letter.request_id or "-",
        "age": _age(letter.age_seconds),
        "from": f"{letter.request_entry_id} of {letter.stream}",
        "bytes": str(letter.size_bytes),
        "request": opened.request.decode(errors="backslashreplace"),
    }
    return "\n".join(f"{name:8} {printable(value)}" for name, value in rows.items())


def _facts(letter: Letter) -> dict[str, Any]:
    return {
        "entry_id": letter.entry_id,
        "code": letter.code,
        "message": letter.message,
        "request_id": letter.request_id,
        "stream": letter.stream,
        "request_entry_id": letter.request_entry_id,
        "size_bytes": letter.size_bytes,
        "age_seconds": round(letter.age_seconds, 3),
    }


def _request(opened: Opened) -> dict[str, str | None]:
    """The bytes as text, where they are text, and in any case exactly."""
    try:
        text: str | None = opened.request.decode()
    except UnicodeDecodeError:
        text = None
    return {"request": text, "request_base64": base64.b64encode(opened.request).decode()}


def _age(seconds: float) -> str:
    for name, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {name}"
    return f"{seconds:.0f} s"
