"""What the commands that ask Redis have in common: an exit code for each way to end, texts that do a terminal no harm.

In: a question, settings. Out: the exit code that the answer gives, 1 for an answer that never came or cannot be read,
2 for usage or settings, 3 for a Redis that cannot be reached. Promises: one line on stderr for what went wrong; no
control character of anyone's text reaches the terminal.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from allocator.cli.options import load_or_exit
from allocator.contract.allocation import compact

if TYPE_CHECKING:
    from allocator.client import AllocatorClient
    from allocator.service.settings import Settings

EXIT_FAILURE, EXIT_USAGE, EXIT_REDIS = 1, 2, 3


def ask_client(
    ask: Callable[[AllocatorClient], Coroutine[Any, Any, int]], config: Path | None, assignments: Sequence[str] | None
) -> None:
    """Ask over a client that the settings describe, and exit with what that gives."""
    from allocator.client import AllocatorClient

    async def asked(settings: Settings) -> int:
        async with AllocatorClient(
            settings.redis.url.get_secret_value(), settings.namespace, settings.partitions
        ) as client:
            return await ask(client)

    ask_redis(asked, config, assignments)


def ask_redis(
    ask: Callable[[Settings], Coroutine[Any, Any, int]], config: Path | None, assignments: Sequence[str] | None
) -> None:
    """Ask the Redis that the settings name, and exit with what that gives."""
    from allocator.client import InvalidRequestError, RedisFault, UnreadableAnswerError
    from allocator.redis_io.errors import RedisUrlError

    settings = load_or_exit(config, assignments, require=frozenset({"redis.url"}))
    try:
        code = asyncio.run(ask(settings))
    except (TimeoutError, UnreadableAnswerError) as error:
        complain(str(error))
        code = EXIT_FAILURE
    except (RedisUrlError, InvalidRequestError) as error:
        complain(str(error))
        code = EXIT_USAGE
    except RedisFault as error:
        complain(str(error))
        code = EXIT_REDIS
    if code:
        raise typer.Exit(code)


def json_line(value: Any) -> str:
    """JSON on one line, in characters that do nothing to a terminal."""
    return json.dumps(json.loads(compact(value))).replace("\x7f", "\\u007f")


def printable(text: str) -> str:
    """The text with every character escaped that a terminal might obey."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def complain(message: str) -> None:
    """Say on stderr what went wrong."""
    typer.echo(printable(message), err=True)
