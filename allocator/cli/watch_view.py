"""What `allocator watch` shows of one look: the levers, a few lines of counts, the regions, the latest results.

In: a look, or why there is none, and how many lines there is room for. Out: something rich can draw. Promises: every
text of anyone's is `printable` and no markup; where there is little room, regions that are open and older results are
left out first, and how many is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from allocator.broker.broker import Depth
from allocator.cli.asking import printable
from allocator.cli.levers import lever_lines
from allocator.cli.regions import COLUMNS, cells
from allocator.contract.events import timestamp
from allocator.service.live_regions import OPEN, RegionRow
from allocator.service.look import Look
from allocator.service.look_results import Result

_GOOD, _BAD = frozenset({"allocated"}), frozenset({"failed", "expired", "refused"})
_FIXED_LINES = 10
"""The title, what is amiss, four lines of counts, two tables' heads, what is left out, the cursor."""
_RESULTS_MIN, _REGIONS_MIN = 3, 2


@dataclass(frozen=True, slots=True)
class Sight:
    """What there is to show: the last look, if any, and where Redis could not be asked since, why and for how long."""

    look: Look | None
    amiss: str | None = None
    stale_seconds: float = 0.0


def picture(sight: Sight, lines_max: int | None = None) -> RenderableType:
    """Draw it, in so many lines where that is given."""
    parts: list[RenderableType] = []
    if sight.amiss is not None:
        old = f"; what follows is {sight.stale_seconds:.0f} s old" if sight.look is not None else ""
        parts.append(_text(f"{sight.amiss}{old}", "bold red"))
    if sight.look is not None:
        parts += _looked(sight.look, lines_max)
    return Group(*parts)


def _looked(look: Look, lines_max: int | None) -> Iterator[RenderableType]:
    levers = lever_lines(look.levers)
    yield _text(f"{look.namespace}  {_moment(look.at_ms)}", "bold")
    for line in levers:
        yield _text(line, "yellow")
    yield _counts(look)
    rows: Sequence[RegionRow] = look.regions
    results: Sequence[Result] = look.results
    if lines_max is not None:
        rows, results = _fitting(rows, results, max(0, lines_max - _FIXED_LINES - len(levers)))
    if rows:
        yield _table(COLUMNS, [(cells(row), "" if row.state == OPEN else "yellow") for row in rows])
    if left_out := len(look.regions) - len(rows):
        yield _text(f"and {left_out} more: allocator regions", "dim")
    if results:
        columns = ("ended", "match", "state", "took", "where or why")
        yield _table(columns, [(_result(each), _style(each.state)) for each in results])


def _counts(look: Look) -> RenderableType:
    orphans = ", ".join(f"{kind} {number}" for kind, number in (look.orphans or {}).items() if number)
    under_way = f"allocating {look.survey.held}   parked {look.survey.parked}   cancellations {look.cancellations}"
    left = f"condemned {look.survey.condemned}   orphans {orphans or 0}   dead letters {look.dead_letters}"
    grid = Table.grid(padding=(0, 2))
    grid.add_row(_text("queue", "dim"), _text("   ".join(_depths(look))))
    grid.add_row(_text("now", "dim"), _text(under_way))
    grid.add_row(_text("left", "dim"), _text(left))
    grid.add_row(_text("ended", "dim"), _text(_ended(look)))
    return grid


def _depths(look: Look) -> Iterator[str]:
    for priority, depth in look.survey.depths.items():
        yield f"{priority} {depth.untaken}{_oldest(depth)}"


def _oldest(depth: Depth) -> str:
    pending = f", {depth.pending} being taken" if depth.pending else ""
    return f" (oldest {depth.oldest_seconds:.1f} s{pending})" if depth.untaken else pending


def _ended(look: Look) -> str:
    if look.ended is None:
        return "-"
    about = "" if look.ended.is_exact else "about "
    rates = [f"{state} {about}{rate:.1f}/s" for state, rate in look.ended.per_second.items()]
    return "   ".join(rates) or "0/s"


def _fitting(
    rows: Sequence[RegionRow], results: Sequence[Result], room: int
) -> tuple[Sequence[RegionRow], Sequence[Result]]:
    """As many as there is room for: regions first, those that are not open before others, in their order."""
    for_regions = min(len(rows), max(_REGIONS_MIN, room - min(len(results), max(_RESULTS_MIN, room // 2))))
    if for_regions < len(rows):
        chosen = sorted(range(len(rows)), key=lambda at: (rows[at].state == OPEN, at))[:for_regions]
        rows = [rows[at] for at in sorted(chosen)]
    return rows, results[: max(_RESULTS_MIN, room - for_regions)]


def _result(each: Result) -> tuple[str, ...]:
    took = "-" if each.took_ms is None else f"{each.took_ms / 1000:.3f} s"
    where = (each.region, each.endpoint, each.error_code)
    return _moment(each.at_ms)[11:23], each.request_id, each.state, took, " ".join(part for part in where if part)


def _style(state: str) -> str:
    return "green" if state in _GOOD else "red" if state in _BAD else ""


def _table(columns: Sequence[str], rows: Sequence[tuple[Sequence[str], str]]) -> Table:
    table = Table(*columns, box=None, pad_edge=False, header_style="dim")
    for texts, style in rows:
        table.add_row(*(_text(text, style) for text in texts))
    return table


def _text(text: str, style: str = "") -> Text:
    """As Text: brackets in a name must not be read as markup. What does not fit is cut, so that no line becomes two."""
    return Text(printable(text), style, no_wrap=True, overflow="ellipsis")


def _moment(at_ms: int) -> str:
    try:
        return timestamp(at_ms)
    except (ValueError, OverflowError, OSError):  # an entry may bear any id that its sender chose
        return f"{at_ms:>23}"
