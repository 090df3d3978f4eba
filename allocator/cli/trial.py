"""`allocator try`: one real session at the configured provider, from start to stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from typing import Annotated, Any

import typer

from allocator.cli.options import ConfigOption, JsonOption, SetOption, load_or_exit
from allocator.contract.allocation import Port, endpoint
from allocator.contract.identity import session_id
from allocator.contract.request import MARK
from allocator.providers.provider import Created, Provider, StartSpec, StopFailed, StopOutcome
from allocator.service.settings import Settings

TTL = "5m"
"""Should the stop fail as well, the provider ends the session after this long."""
PORT_TIMEOUT_SECONDS = 3.0
STOP_PAUSE_SECONDS = 1.0
EXIT_BAD, EXIT_SETTINGS = 1, 2


def trial(
    image: Annotated[str, typer.Argument(help="As requests call it.")],
    region: Annotated[str, typer.Argument(help="A region of the settings.")],
    version: Annotated[str | None, typer.Option(help="The image's tag.")] = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Start one real session and stop it again. Says what its ports answered; exit 1 where one refused."""
    from allocator.service.process import run_loop

    settings = load_or_exit(config, assignments, require=frozenset({"deployment", "provider"}))
    places = settings.resolve(region)
    if not places:
        typer.echo(
            f"region {region!r} is not known: add [regions.{region}] or name one of {list(settings.regions)}", err=True
        )
        raise typer.Exit(EXIT_SETTINGS)
    report: dict[str, Any] = {"region": region, "destination": str(places[0].destination)}

    async def main() -> int:
        from allocator.service.hosts import build_providers, call_timeouts

        providers = build_providers(settings, report=lambda message: typer.echo(message, err=True))
        at = places[0].destination
        try:
            spec = _spec(settings, at.provider, image, version)
            seconds = call_timeouts(settings)[at.provider]
            provider, deployment = providers[at.provider], settings.deployment
            return await _try(provider, at.location, spec, deployment=deployment, seconds=seconds, report=report)
        finally:
            for each in providers.values():
                await each.close()

    code = run_loop(main())
    typer.echo(json.dumps(report) if as_json else "\n".join(f"{name:12} {value}" for name, value in report.items()))
    raise typer.Exit(code)


def _spec(settings: Settings, provider: str, image: str, version: str | None) -> StartSpec:
    from allocator.service.hosts import names_at

    catalog = settings.catalog.get(image)
    name, its_version = names_at(settings).get(provider, {}).get(image, (image, None))
    return StartSpec(
        image=name,
        version=version or its_version,
        labels={MARK: settings.deployment},
        ttl=TTL,
        port_names=catalog.port_names if catalog else {},
    )


async def _try(
    provider: Provider, location: str, spec: StartSpec, *, deployment: str, seconds: float, report: dict[str, Any]
) -> int:
    name = session_id(deployment, f"try-{secrets.token_hex(8)}", 1)
    loop = asyncio.get_running_loop()
    since = loop.time()
    outcome = await provider.start(name, location, spec, timeout_seconds=seconds)
    report["start_ms"] = round((loop.time() - since) * 1000)
    good = isinstance(outcome, Created)
    if isinstance(outcome, Created):
        session = outcome.session
        report |= {"session_id": session.public_id, "endpoint": endpoint(session.host, session.ports)}
        for port in session.ports:
            report[port.name] = await _check(session.host, port)
            good = good and report[port.name] != "refused"
        name = session.id
    else:
        report["answer"] = f"{type(outcome).__name__} {getattr(outcome, 'status', '') or ''}".strip()
        report["message"] = outcome.message
    # Whatever the answer was, nothing may be left: an unknown one may have started it.
    stopped = await _stop(provider, name, seconds)
    report["stop"] = f"failed: {stopped.message}" if isinstance(stopped, StopFailed) else type(stopped).__name__.lower()
    return 0 if good and not isinstance(stopped, StopFailed) else EXIT_BAD


async def _stop(provider: Provider, name: str, seconds: float) -> StopOutcome:
    """Stop it, again and again for as long as a start may take: a host may put it off until the session runs."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while True:
        stopped = await provider.stop(name, timeout_seconds=seconds)
        if not isinstance(stopped, StopFailed) or loop.time() > until:
            return stopped
        await asyncio.sleep(STOP_PAUSE_SECONDS)


async def _check(host: str, port: Port) -> str:
    """`open`, `refused` or `no answer`; for UDP silence says nothing against it."""
    if port.protocol == "udp":
        return await _check_udp(host, port.port)
    try:
        async with asyncio.timeout(PORT_TIMEOUT_SECONDS):
            _, writer = await asyncio.open_connection(host, port.port)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    except ConnectionRefusedError:
        return "refused"
    except (TimeoutError, OSError):
        return "no answer"
    return "open"


async def _check_udp(host: str, port: int) -> str:
    """A closed UDP port is told by ICMP; silence is what an open one gives to a datagram it does not know."""
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    class Probe(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:  # noqa: ARG002 - any will do
            if not answer.done():
                answer.set_result("open")

        def error_received(self, exc: Exception) -> None:
            if not answer.done():
                answer.set_result("refused" if isinstance(exc, ConnectionRefusedError) else "no answer")

    try:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Probe, remote_addr=(host, port))
    except OSError:
        return "no answer"
    try:
        transport.sendto(b"allocator try")
        async with asyncio.timeout(PORT_TIMEOUT_SECONDS / 3):
            return await answer
    except TimeoutError:
        return "sent, no refusal"
    finally:
        transport.close()
