"""The names of log events are constants of lowercase words, so that they can be searched for, counted and relied on."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import allocator

ROOT = Path(allocator.__file__).parent
METHODS = frozenset({"debug", "info", "warning", "error", "exception", "critical"})
OURS = ("telemetry/logging.py", "self._line")
NAME = re.compile(r"[a-z]+([;,:]? [a-z]+)*")
PASSED_ON = {("telemetry/logging.py", "name")}
"""Where the name is a parameter of a function whose every call is looked at as well."""


def calls() -> Iterator[tuple[str, ast.expr]]:
    """The file and the first word of every call that writes a line: by a logger, or through `Log._line`."""
    for path in sorted(ROOT.rglob("*.py")):
        where = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(value=owner, attr=method) as called, args=[first, *rest]):
                    is_logger = ast.unparse(owner) in {"log", "_log", "self._log"}
                    if is_logger and method in METHODS:
                        yield where, first
                    elif (is_logger and method == "log") or (where, ast.unparse(called)) == OURS:
                        yield where, rest[0]


def names() -> dict[str, str]:
    """Every name with the file it is in."""
    return {str(node.value): where for where, node in calls() if isinstance(node, ast.Constant)}


def test_every_log_event_has_a_constant_name_of_lowercase_words() -> None:
    wrong = [
        f"{where}:{node.lineno}: {ast.unparse(node)}"
        for where, node in calls()
        if (where, ast.unparse(node)) not in PASSED_ON
        and not (isinstance(node, ast.Constant) and NAME.fullmatch(str(node.value)))
    ]
    assert wrong == []


def test_the_search_finds_them() -> None:
    assert {"gate shut", "request finished", "worker started", "process ended", "levers changed"} <= set(names())


def test_nothing_is_printed_past_the_log_but_by_the_commands() -> None:
    printing = [
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    ]
    assert [each for each in printing if not each.startswith("cli/")] == []
