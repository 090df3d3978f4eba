"""Draws the rows of the dashboard without Grafana: `python -m tests.deploy.pictures URL DIRECTORY`.

In: the URL of a Prometheus that scrapes a fleet, and its minutes to show. Out: a page of SVG for each row of the
dashboard, with the data of its panels. It is no Grafana: colours, axes and fonts differ, titles and expressions do not.
"""

from __future__ import annotations

import argparse
import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from tests.deploy.observed import Prometheus, dashboard

CELL_X, CELL_Y, GAP = 52, 30, 8
COLOURS = ("#5794f2", "#ff9830", "#73bf69", "#f2495c", "#b877d9", "#fade2a", "#56a64b", "#8ab8ff", "#c0d8ff", "#ffb357")
DARK, PANEL, TEXT, FAINT = "#111217", "#181b1f", "#d8d9da", "#6e7078"
STEPS = 120
LEGEND_MAX = 6
Points = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Window:
    """From when to when, in Unix seconds, for which job."""

    start: float
    end: float
    job: str

    def filled(self, text: str) -> str:
        """An expression without Grafana's variables."""
        return text.replace("$__rate_interval", "20s").replace("$job", self.job)


@dataclass(frozen=True, slots=True)
class Box:
    """Where a panel lies, in pixels."""

    x: float
    y: float
    width: float
    height: float


def series(prometheus: Prometheus, panel: dict[str, Any], window: Window) -> list[tuple[str, Points]]:
    """The lines of a panel, each with its legend."""
    found = []
    step = max(1.0, (window.end - window.start) / STEPS)
    for target in panel["targets"]:
        parameters = {"start": f"{window.start:.3f}", "end": f"{window.end:.3f}", "step": f"{step:.3f}"}
        answer = prometheus.ask("query_range", query=window.filled(target["expr"]), **parameters)
        for each in answer["result"]:
            name = target["legendFormat"]
            for label, value in each["metric"].items():
                name = name.replace(f"{{{{{label}}}}}", value)
            name = re.sub(r"\{\{\w+\}\}", "", name).strip()
            points = [(float(at), float(value)) for at, value in each["values"]]
            found.append((name, [(at, value) for at, value in points if math.isfinite(value)]))
    with_points = [(name, points) for name, points in found if points]
    return sorted(with_points, key=lambda line: -max(value for _, value in line[1]))


def said(value: float, unit: str) -> str:
    """A number as a person reads it."""
    if unit == "percentunit":
        return f"{value * 100:.4g} %" if abs(value) < 10 else f"{value * 100:.0f} %"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if abs(value) < 1 else f"{value:.3g} s"
    if unit == "bytes":
        return f"{value / 2**20:.3g} MiB"
    return f"{value:.3g}" + {"reqps": "/s", "ops": "/s"}.get(unit, "")


def drawn(panel: dict[str, Any], lines: Sequence[tuple[str, Points]], box: Box, window: Window) -> Iterator[str]:
    """One panel."""
    yield f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="3" fill="{PANEL}"/>'
    yield _text(box.x + 10, box.y + 19, panel["title"], size=13, weight="600")
    if not lines:
        yield _text(
            box.x + box.width / 2,
            box.y + box.height / 2,
            panel["fieldConfig"]["defaults"].get("noValue", "no data"),
            fill=FAINT,
            anchor="middle",
        )
    elif panel["type"] == "stat":
        defaults = panel["fieldConfig"]["defaults"]
        value = lines[0][1][-1][1]
        steps = [step for step in defaults["thresholds"]["steps"] if step["value"] is None or value >= step["value"]]
        middle = box.x + box.width / 2
        yield _text(
            middle, box.y + box.height * 0.68, said(value, defaults["unit"]), size=34, anchor="middle",
            fill={"red": "#f2495c", "orange": "#ff9830", "green": "#73bf69"}.get(steps[-1]["color"], "#5794f2"),
        )  # fmt: skip
    elif panel["type"] == "state-timeline":
        yield from _timeline(lines, box, window)
    else:
        yield from _graph(panel, lines, box, window)


def _graph(panel: dict[str, Any], lines: Sequence[tuple[str, Points]], box: Box, window: Window) -> Iterator[str]:
    defaults = panel["fieldConfig"]["defaults"]
    is_stacked = defaults["custom"]["stacking"]["mode"] == "normal"
    ground: dict[float, float] = {}
    shapes: list[tuple[Points, Points]] = []
    for _, points in lines:
        below = [(at, ground.get(round(at), 0.0) if is_stacked else 0.0) for at, _ in points]
        top = [(at, value + under) for (at, value), (_, under) in zip(points, below, strict=True)]
        ground |= {round(at): value for at, value in top}
        shapes.append((top, below))
    highest = max((value for top, _ in shapes for _, value in top), default=0.0) * 1.08 or 1.0
    left, right, top_y, bottom = box.x + 58, box.x + box.width - 10, box.y + 34, box.y + box.height - 54

    def place(at: float, value: float) -> str:
        across = left + (right - left) * (at - window.start) / (window.end - window.start)
        return f"{across:.1f},{bottom - (bottom - top_y) * value / highest:.1f}"

    for part in range(5):
        y = bottom - (bottom - top_y) * part / 4
        yield f'<line x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#2c3235"/>'
        yield _text(left - 6, y + 4, said(highest * part / 4, defaults["unit"]), size=10, fill=FAINT, anchor="end")
    for part in range(3):
        at = time.strftime("%H:%M:%S", time.gmtime(window.start + (window.end - window.start) * part / 2))
        anchor = ("start", "middle", "end")[part]
        yield _text(left + (right - left) * part / 2, bottom + 14, at, size=10, fill=FAINT, anchor=anchor)
    for number, (top, below) in enumerate(shapes):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(place(*point) for point in top)
        if is_stacked:
            around = f"{path} {' '.join(place(*point) for point in reversed(below))}"
            yield f'<polygon points="{around}" fill="{colour}" fill-opacity="0.35"/>'
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.4"/>'
    for step in defaults.get("thresholds", {}).get("steps", []):
        if step["value"] is not None and step["value"] <= highest:
            _, y_text = place(window.start, step["value"]).split(",")
            dashes = f'stroke="{step["color"]}" stroke-dasharray="6 4"'
            yield f'<line x1="{left}" y1="{y_text}" x2="{right}" y2="{y_text}" {dashes}/>'
    yield from _legend([name for name, _ in lines], box, bottom + 26)


def _timeline(lines: Sequence[tuple[str, Points]], box: Box, window: Window) -> Iterator[str]:
    left, right = box.x + 130, box.x + box.width - 10
    height = (box.height - 60) / len(lines)
    for number, (name, points) in enumerate(lines):
        y = box.y + 36 + number * height
        yield _text(left - 6, y + height / 2, name, size=10, anchor="end")
        width = (right - left) / max(1, STEPS)
        for at, value in points:
            x = left + (right - left) * (at - window.start) / (window.end - window.start)
            colour = "#f2495c" if value else "#56a64b"
            size = f'width="{width + 0.6:.1f}" height="{height * 0.8:.1f}"'
            yield f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="{colour}"/>'


def _legend(names: Sequence[str], box: Box, y: float) -> Iterator[str]:
    x = box.x + 14
    for number, name in enumerate(names[:LEGEND_MAX]):
        width = 22 + 5.6 * len(name)
        if x + width > box.x + box.width and x > box.x + 14:
            x, y = box.x + 14, y + 14
        yield f'<rect x="{x}" y="{y - 6}" width="10" height="3" fill="{COLOURS[number % len(COLOURS)]}"/>'
        yield _text(x + 14, y, name, size=10)
        x += width
    if len(names) > LEGEND_MAX:
        yield _text(x + 4, y, f"and {len(names) - LEGEND_MAX} more", size=10, fill=FAINT)


def _text(
    x: float, y: float, words: str, *, size: int = 12, fill: str = TEXT, anchor: str = "start", weight: str = "400"
) -> str:
    style = f'font-family="sans-serif" font-size="{size}" font-weight="{weight}" fill="{fill}" text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'


def rows(prometheus: Prometheus, window: Window) -> Iterator[tuple[str, str]]:
    """The name of each row, and its picture."""
    every = dashboard()["panels"]
    starts = [number for number, panel in enumerate(every) if panel["type"] == "row"]
    for start, end in zip(starts, [*starts[1:], len(every)], strict=True):
        row, panels = every[start], every[start + 1 : end]
        first = row["gridPos"]["y"] + 1
        height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) - first
        shapes = [_text(GAP, 24, row["title"], size=17, weight="700")]
        for panel in panels:
            grid = panel["gridPos"]
            x, y = grid["x"] * CELL_X, 36 + (grid["y"] - first) * CELL_Y
            box = Box(x + GAP / 2, y, grid["w"] * CELL_X - GAP, grid["h"] * CELL_Y - GAP)
            shapes += drawn(panel, series(prometheus, panel, window), box, window)
        size = f'width="{24 * CELL_X}" height="{height * CELL_Y + 40}"'
        ground = f'<rect width="100%" height="100%" fill="{DARK}"/>'
        picture = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{ground}{"".join(shapes)}</svg>\n'
        yield row["title"].partition(":")[0].lower(), picture


def main() -> None:
    """Write them."""
    parser = argparse.ArgumentParser(description="Draw the rows of the dashboard.")
    parser.add_argument("url")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--job", default="allocator", help="the scrape job of the fleet")
    parser.add_argument("--minutes", type=float, default=5.0, help="so many of the last")
    asked = parser.parse_args()
    asked.directory.mkdir(parents=True, exist_ok=True)
    end = time.time()
    for name, picture in rows(Prometheus(asked.url), Window(end - asked.minutes * 60, end, asked.job)):
        (asked.directory / f"{name}.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
