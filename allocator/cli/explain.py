"""`allocator explain`: the life of one match as a small timeline.

In: an id. Out: on stdout a line for each step, with the seconds since Redis took the request, drawn for a terminal and
plain otherwise; or with `--json` one object. Exit 0 when it was told, whatever the end, 1 for an id that nobody knows,
2 usage or settings, 3 Redis cannot be reached. Promises: no control character of anyone's text reaches the terminal; a
step that this version does not know is shown as it was written down.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from allocator.cli.asking import EXIT_FAILURE, ask_redis, complain, json_line, printable
from allocator.cli.options import ConfigOption, JsonOption, SetOption
from allocator.contract.allocation import FINAL, compact
from allocator.contract.events import timestamp

if TYPE_CHECKING:
    from allocator.service.life import Life, Step
    from allocator.service.settings import Settings

_GOOD = frozenset({"created", "adopted", "allocated"})
_BAD = frozenset({"failed", "expired", "rejected", "unavailable", "unknown", "unsuitable", "not_ready"})
_MIDDLING = frozenset({"throttled", "no_capacity", "parked", "taken_over", "cancelled", "now"})


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the timeline; a line that goes on from the one before has neither time nor name."""

    when: str
    name: str
    text: str


def explain(
    request_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Tell the life of one match. Order and reasons, waits, attempts, the end; exit 1 where nothing is known of it."""

    async def ask(settings: Settings) -> int:
        from allocator.client import not_known
        from allocator.client.outbox import checked_id
        from allocator.service.life import read_life

        life = await read_life(settings, checked_id(request_id))
        if life is None:
            if as_json:
                typer.echo("null")
            else:
                complain(not_known(request_id))
            return EXIT_FAILURE
        if as_json:
            typer.echo(json_line(_facts(life)))
        else:
            _draw(_title(life), list(_rows(life)))
        return 0

    ask_redis(ask, config, assignments)


def _facts(life: Life) -> dict[str, Any]:
    """The fields of the allocation, and beside them what only this command tells; `attempts` are among the steps."""
    standing = None if life.standing is None else _standing_facts(life)
    told = {
        "regions": list(life.regions) or None,
        "deadline_at": life.deadline_ms,
        "generation": life.generation,
        "takes": life.takes,
        "standing": standing,
    }
    since_ms = _since_ms(life)
    steps = [
        {"at": step.at_ms, "after_ms": step.at_ms - since_ms, "step": step.name, **step.facts} for step in life.steps
    ]
    kept = {name: value for name, value in life.allocation.to_data().items() if name != "attempts"}
    return kept | {name: value for name, value in told.items() if value is not None} | {"steps": steps}


def _standing_facts(life: Life) -> dict[str, Any]:
    from allocator.service.life import Held, Parked

    name = type(life.standing).__name__.lower()
    match life.standing:
        case Parked(lots, until_ms):
            return {"is": name, "for": list(lots), "until": until_ms}
        case Held(until_ms):
            return {"is": name, "until": until_ms}
        case _:
            return {"is": name}


def _since_ms(life: Life) -> int:
    """When it began, as far as is known."""
    if life.allocation.enqueued_at is not None:
        return life.allocation.enqueued_at
    return life.steps[0].at_ms if life.steps else life.now_ms


def _title(life: Life) -> str:
    allocation = life.allocation
    parts = [allocation.request_id, str(allocation.state)]
    if life.generation is not None and life.generation > 1:
        parts.append(f"generation {life.generation}")
    if life.takes is not None and life.takes > 1:
        parts.append(f"taken up {life.takes} times")
    return "  ".join(parts)


def _rows(life: Life) -> Iterator[Row]:
    since_ms = _since_ms(life)
    for step in life.steps:
        name = str(step.facts.get("outcome", step.name)) if step.name == "attempt" else step.name
        first, *more = _sentences(step, since_ms)
        yield Row(_after(step.at_ms, since_ms), name, first)
        yield from (Row("", "", text) for text in more)
    if life.standing is not None:
        first, *more = _now(life, since_ms)
        yield Row(_after(life.now_ms, since_ms), "now", first)
        yield from (Row("", "", text) for text in more)


def _sentences(step: Step, since_ms: int) -> list[str]:
    """What a step says to a person, a line each."""
    match step.name, step.facts:
        case "planned", {"order": [*order], **rest}:
            left_out = rest.get("left_out")
            return [_order(order), *_left_out(left_out if isinstance(left_out, list) else ())]
        case _:
            return [_sentence(step, since_ms)]


def _sentence(step: Step, since_ms: int) -> str:
    """Any other step; one that is not known, or whose facts are not as expected, is shown as it is."""
    match step.name, step.facts:
        case "taken", facts:
            return _taken(step.at_ms, facts, since_ms)
        case "attempt", facts:
            return _attempt(facts)
        case "parked", {"for": [*lots], "until": int(until_ms)}:
            return f"for {_awaited(lots)}; looked at again by {_after(until_ms, since_ms)}"
        case "called", {"from": str(lot)}:
            return f"from {_lot(lot)}"
        case "woken", facts if not facts:
            return "from its parking, to be looked at again"
        case "taken_over", {"uncertain": bool(uncertain)}:
            return "from another worker" + (", which may have made a call without an answer" if uncertain else "")
        case "not_ready", {"session": str(session_id), "reason": str(reason)}:
            return f"session {session_id}: {reason}"
        case "released", _:
            return "the server was stopped"
        case name, facts if name in FINAL:
            return _end(facts)
        case _, facts:
            return " ".join(
                f"{key}={value if isinstance(value, str) else compact(value)}" for key, value in facts.items()
            )


def _taken(at_ms: int, facts: Mapping[str, Any], since_ms: int) -> str:
    parts = [f"by Redis at {_moment(at_ms)}", f"priority {facts.get('priority')}"]
    if "regions" in facts:
        parts.append(f"asks for {_listed(facts['regions'])}")
    if "deadline_at" in facts:
        parts.append(f"expires at {_after(facts['deadline_at'], since_ms)}")
    return "; ".join(parts)


def _order(order: Sequence[Any]) -> str:
    return ", then ".join(str(each) for each in order) or "nothing can be called now"


def _left_out(left_out: Sequence[Any]) -> Iterator[str]:
    for each in left_out:
        match each:
            case {"region": str(region), "reason": str(reason), **rest}:
                destination = rest.get("destination")
                yield f"without {region}{f' ({destination})' if destination else ''}: {reason}"
            case _:
                yield f"without {compact(each)}"


def _attempt(facts: Mapping[str, Any]) -> str:
    status = facts["status"] if facts["status"] is not None else "no status"
    said = f"{facts['region']} {facts['provider']}/{facts['location']}: {status} after {_length(facts['duration_ms'])}"
    return f"{said}, having waited {_length(facts['waited_ms'])}" if facts["waited_ms"] else said


def _end(facts: Mapping[str, Any]) -> str:
    parts = []
    if "error_code" in facts or "error_message" in facts:
        parts.append(": ".join(facts[name] for name in ("error_code", "error_message") if name in facts))
    if "retry_after_ms" in facts:
        parts.append(f"try again in {_length(facts['retry_after_ms'])}")
    if "endpoint" in facts:
        parts.append(facts["endpoint"])
    if "region" in facts:
        parts.append(f"in {facts['region']} ({facts.get('provider', '?')}/{facts.get('location', '?')})")
    if "session_id" in facts:
        parts.append(f"session {facts['session_id']}")
    if "total_ms" in facts:
        parts.append(f"{_length(facts['total_ms'])} in all")
    return "; ".join(parts)


def _now(life: Life, since_ms: int) -> list[str]:
    from allocator.service.life import Held, Parked, Unheld

    match life.standing:
        case Parked(lots, until_ms):
            said = f"parked for {_awaited(lots)}; looked at again by {_after(until_ms, since_ms)}"
        case Held(until_ms):
            said = f"a worker has it, by a lease until {_after(until_ms, since_ms)}"
        case Unheld():
            said = "no worker has it; the next one that looks takes it over"
        case _:
            said = "no worker has taken it up"
    code, message = life.allocation.error_code, life.allocation.error_message
    so_far = ": ".join(part for part in (code, message) if part)
    return [said, f"so far {so_far}"] if so_far else [said]


def _listed(names: Sequence[Any]) -> str:
    return ", ".join(str(name) for name in names) or "nothing"


def _awaited(lots: Sequence[Any]) -> str:
    """Without a destination whose turn could come, it waits by the clock alone."""
    return _listed([_lot(str(lot)) for lot in lots]) if lots else "a looser latency cap"


def _lot(name: str) -> str:
    """A lot by its destination; guests are those who had rather gone to another region."""
    from allocator.engine.lot import GUESTS

    destination = name.removesuffix(GUESTS)
    return destination if destination == name else f"{destination} as a guest"


def _after(at_ms: int, since_ms: int) -> str:
    return f"{(at_ms - since_ms) / 1000:+.3f} s" if abs(at_ms - since_ms) < 2**53 else "?"


def _length(length_ms: float) -> str:
    return f"{length_ms:.0f} ms" if length_ms < 1000 else f"{length_ms / 1000:.3f} s"


def _moment(at_ms: int) -> str:
    try:
        return timestamp(at_ms)
    except (ValueError, OverflowError, OSError):  # an entry may bear any id that its sender chose
        return f"{at_ms} ms"


def _draw(title: str, rows: Sequence[Row]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        typer.echo(printable(title))
        for row in rows:
            typer.echo(printable(f"{row.when:>11}  {row.name:<11}  {row.text}".rstrip()))
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        # As Text: a bracket in a foreign text is no markup.
        table.add_row(
            Text(row.when, style="dim"), Text(printable(row.name), _style(row.name)), Text(printable(row.text))
        )
    console.print(Text(printable(title), style="bold"))
    console.print(table)


def _style(name: str) -> str:
    if name in _GOOD:
        return "green"
    return "red" if name in _BAD else "yellow" if name in _MIDDLING else ""
