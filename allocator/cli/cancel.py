"""`allocator cancel`: no server is to be left for one id, whatever the stage.

In: an id. Out: that the order is with Redis, or with `--wait` the state that it led to. The workers carry it out;
an order that is with Redis is carried out even when this command has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from allocator.cli.asking import EXIT_FAILURE, ask_client, json_line, printable
from allocator.cli.options import ConfigOption, JsonOption, SetOption
from allocator.contract.allocation import State

if TYPE_CHECKING:
    from allocator.client import AllocatorClient

_NOTHING_LEFT = frozenset({State.CANCELLED, State.RELEASED})


def cancel(
    request_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until no server is left; exit 1 if it ended else.")
    ] = False,
    timeout_seconds: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", min=0, help="With --wait: give up after; exit 1.")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Cancel a request, or release its server. An id that is not known yet stays cancelled."""

    async def ask(client: AllocatorClient) -> int:
        entry_id = await client.cancel(request_id)
        if not wait:
            said = {"request_id": request_id, "entry_id": entry_id}
            typer.echo(json_line(said) if as_json else f"cancellation of {request_id} sent")
            return 0
        allocation = await client.gone(request_id, timeout_seconds)
        said_of_it = f"{allocation.request_id}  {allocation.state}"
        typer.echo(json_line(allocation.to_data()) if as_json else printable(said_of_it))
        return 0 if allocation.state in _NOTHING_LEFT else EXIT_FAILURE

    ask_client(ask, config, assignments)
