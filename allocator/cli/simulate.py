"""`allocator simulate`: the vendors' APIs, simulated, as HTTP servers to develop and test against.

In: options, and a script that holds all that can be set. Out: on stdout one line with the base URL, or JSON; on stderr
what becomes of the script. Exit 0 on SIGTERM or Ctrl-C, 2 for a bad option or script, 3 for an address that is taken.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from allocator.simulator.process import Simulator
    from allocator.simulator.tables import Frozen

_S = TypeVar("_S", bound="Frozen")

PortOption = Annotated[int, typer.Option(min=0, max=65535, help="Port to serve on; 0 takes a free one.")]
HostOption = Annotated[str, typer.Option(help="Address to serve on.")]
ScriptOption = Annotated[Path | None, typer.Option(help="TOML file with all settings; read again whenever it changes.")]
UrlJsonOption = Annotated[bool, typer.Option("--json", help="Say the base URL as JSON.")]

app = typer.Typer(no_args_is_help=True)


@app.callback()
def simulate() -> None:
    """Serve a simulated provider over HTTP. To develop and test against."""


@app.command()
def gameye(
    *,
    port: PortOption = 0,
    host: HostOption = "127.0.0.1",
    token: Annotated[str | None, typer.Option(help="The only bearer token taken; else any.")] = None,
    region: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:KEY=VALUE,...",
            help="A region, repeatable: capacity, rate (starts a second), burst, window (sliding, fixed), "
            "latency_ms (50-150), closed (a status), throttle_status, host, warm (pool size), warm_image, own_ids.",
        ),
    ] = None,
    throttle_status: Annotated[int | None, typer.Option(help="What a full or too fast region answers.")] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND:KEY=VALUE,...",
            help="A fault, repeatable: status, dropped, lost_reply, late, slow, malformed, html, redirect, "
            "duplicated_ports, new_fields; with probability, times, seed, region (a+b), on (start+find), "
            "and by kind status, how (reset, hang), after_seconds, latency_ms.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of latencies and faults.")] = None,
    script: ScriptOption = None,
    as_json: UrlJsonOption = False,
) -> None:
    """Serve Gameye's session API from memory, as busy, slow and faulty as asked, until SIGTERM or Ctrl-C.

    Beside the vendor's paths, GET /_simulator/ledger shows all that was asked for and started, DELETE forgets it, and
    PUT /_simulator/settings takes new settings: JSON in the shape of the script.
    """
    # Imported here, so that `allocator --help` stays quick.
    from allocator.simulator.gameye import GameyeSimulator
    from allocator.simulator.gameye.script import Options, load

    options = Options(token=token, throttle_status=throttle_status, seed=seed, regions=region or (), faults=fault or ())
    _serve("Gameye", GameyeSimulator, partial(load, script, options), _Given(host, port, script, as_json))


@app.command()
def edgegap(
    *,
    port: PortOption = 0,
    host: HostOption = "127.0.0.1",
    token: Annotated[str | None, typer.Option(help="The only API token taken; else any.")] = None,
    location: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:KEY=VALUE,...",
            help="A location, repeatable: lat, lon (amsterdam, new-york and singapore are known), capacity, "
            "start_seconds, host, country, continent, timezone.",
        ),
    ] = None,
    start_seconds: Annotated[
        str | None, typer.Option(metavar="LOW-HIGH", help="From the POST to READY; 0.5-3 unless given.")
    ] = None,
    known_only: Annotated[
        bool, typer.Option("--known-only", help="Deploy only applications of the catalogue; else any.")
    ] = False,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND:KEY=VALUE,...",
            help="A fault, repeatable: status, dropped, lost_reply, late, slow, malformed, html, redirect, new_fields, "
            "unplaced, failed, never_ready, slow_start, doubled, lost_webhook, late_webhook; with probability, times, "
            "seed, location (a+b), on (deploy+status+list+stop+catalog_read+catalog_write), "
            "and by kind status, how (reset, hang), after_seconds, latency_ms, seconds (10-30), detail.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of start times and faults.")] = None,
    script: ScriptOption = None,
    as_json: UrlJsonOption = False,
) -> None:
    """Serve Edgegap's deployments and catalogue from memory, as busy and faulty as asked, until SIGTERM or Ctrl-C.

    Beside the vendor's paths, GET /_simulator/ledger shows all that was asked for and deployed, DELETE forgets it, and
    PUT /_simulator/settings takes new settings: JSON in the shape of the script.
    """
    from allocator.simulator.edgegap import EdgegapSimulator
    from allocator.simulator.edgegap.script import Options, load

    options = Options(
        token=token,
        start_seconds=start_seconds,
        any_application=False if known_only else None,
        seed=seed,
        locations=location or (),
        faults=fault or (),
    )
    _serve("Edgegap", EdgegapSimulator, partial(load, script, options), _Given(host, port, script, as_json))


@dataclass(frozen=True, slots=True)
class _Given:
    """What both verbs are given: where to serve, what is read again, how the base URL is said."""

    host: str
    port: int
    script: Path | None
    as_json: bool


def _serve(vendor: str, make: Callable[..., Simulator[_S]], load: Callable[[], _S], given: _Given) -> None:
    """Serve until told to end, and say in the command's words what goes wrong."""
    from allocator.simulator.process import run
    from allocator.simulator.script import ScriptError

    def ready(url: str) -> None:
        typer.echo(json.dumps({"url": url}) if given.as_json else f"Simulated {vendor} at {url}")

    def say(message: str) -> None:
        typer.echo(message, err=True)

    try:
        run(partial(make, host=given.host, port=given.port), load, script=given.script, ready=ready, say=say)
    except ScriptError as error:
        say(str(error))
        raise typer.Exit(2) from error
    except OSError as error:
        say(f"cannot serve on {given.host}:{given.port}: {error}; choose another --port or --host")
        raise typer.Exit(3) from error
