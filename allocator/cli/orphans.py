"""`allocator orphans`: the sessions at the provider that bear our mark and that no record here explains.

In: settings, ids of orphans to stop. Out: a line or an object for each orphan and for each id; exit 1 where an id was
not stopped, 3 where Redis or a provider could not be asked. It lists at the provider itself, now, and needs no worker.
Promises: only what is an orphan at this moment is stopped, after it was condemned, which Redis refuses for a session
that an allocated request names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from allocator.cli.asking import EXIT_FAILURE, EXIT_REDIS, EXIT_USAGE, complain, json_line, printable
from allocator.cli.options import ConfigOption, JsonOption, SetOption, load_or_exit
from allocator.contract.events import timestamp

if TYPE_CHECKING:
    from allocator.broker.aftermath import Aftermath
    from allocator.broker.census import Census, Orphan, Snapshot
    from allocator.providers.provider import Provider, Session
    from allocator.service.records import Records
    from allocator.service.settings import Settings

CALL_SECONDS = 10.0
REASON = "orphan"


@dataclass(frozen=True, slots=True)
class Stop:
    """What became of one id that was to be stopped: `stopped`, `gone`, `failed` or `refused`."""

    session_id: str
    result: str
    message: str = ""


def orphans(
    stop: Annotated[
        list[str] | None,
        typer.Option("--stop", metavar="ID", help="Stop this orphan, whoever plays on it; repeatable."),
    ] = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List sessions that no record explains. They bear our mark at the provider; those that are named are stopped.

    Where Redis has lost a record, a match may play on an orphan: look before you stop one.
    """
    from allocator.broker.broker import BrokerUnavailable
    from allocator.providers.credential import CredentialError
    from allocator.redis_io.errors import RedisFault, RedisUrlError
    from allocator.service.process import run_loop

    settings = load_or_exit(config, assignments)
    try:
        code = run_loop(_ask(settings, tuple(dict.fromkeys(stop or ())), as_json=as_json))
    except (CredentialError, RedisUrlError) as error:
        complain(str(error))
        code = EXIT_USAGE
    except (RedisFault, BrokerUnavailable) as error:
        complain(str(error))
        code = EXIT_REDIS
    raise typer.Exit(code)


async def _ask(settings: Settings, stop: Sequence[str], *, as_json: bool) -> int:
    from allocator.redis_io.connect import connect
    from allocator.service.hosts import build_providers
    from allocator.service.records import build_records, known_partitions

    providers = build_providers(settings, report=complain)
    try:
        async with await connect(settings.redis.url.get_secret_value(), name="orphans") as connection:
            partitions = await known_partitions(connection, settings)
            looks = []
            for records in build_records(settings, connection, partitions):
                before = await records.census.snapshot()
                if before.deployment not in {None, settings.deployment}:
                    complain(
                        f"namespace {settings.namespace!r} belongs to the deployment {before.deployment!r}: "
                        "set deployment to that, or name another namespace"
                    )
                    return EXIT_USAGE
                look = _Look(settings, providers, records, before)
                await look.run()
                looks.append(look)
            stops = [await _responsible(each, looks).stop(each) for each in stop]
    finally:
        for provider in providers.values():
            await provider.close()
    _print(looks, stops, as_json=as_json)
    if any(look.failures for look in looks):
        return EXIT_REDIS
    return EXIT_FAILURE if any(each.result in {"failed", "refused"} for each in stops) else 0


def _responsible(session_id: str, looks: Sequence[_Look]) -> _Look:
    """The partition whose records speak for a session; any, where it bears no mark of one."""
    return next((look for look in looks if look.is_ours(session_id)), looks[0])


class _Look:
    """One look at every provider, held against the records of one partition."""

    def __init__(
        self,
        settings: Settings,
        providers: Mapping[str, Provider],
        records: Records,
        before: Snapshot,
    ) -> None:
        self._settings = settings
        self._providers = providers
        self._namespace = records.keys.namespace
        self._census: Census = records.census
        self._aftermath: Aftermath = records.aftermath
        self.before = before
        self._seen: dict[str, tuple[Provider, Session]] = {}
        self.orphans: dict[str, Orphan] = {}
        self.failures: dict[str, str] = {}

    async def run(self) -> None:
        """List what bears our mark, and leave what the records do not explain."""
        from allocator.engine.reconciler import reckon
        from allocator.providers.provider import LookupFailed

        for name, provider in self._providers.items():
            sessions = await provider.list(self._settings.deployment, timeout_seconds=CALL_SECONDS)
            if isinstance(sessions, LookupFailed):
                self.failures[name] = sessions.message
                continue
            reckoning = await reckon(self._census, self.before, name, sessions, self._namespace)
            self._seen |= {session.public_id: (provider, session) for session in sessions}
            self.orphans |= {orphan.session_id: orphan for orphan in reckoning.orphans}

    def is_ours(self, session_id: str) -> bool:
        """Whether a session bears the mark of this partition."""
        return session_id in self._seen and self._seen[session_id][1].namespace == self._namespace

    async def stop(self, session_id: str) -> Stop:
        """Condemn and stop one, if it is an orphan."""
        from allocator.broker.broker import Condemned
        from allocator.providers.provider import StopFailed

        if (refusal := await self._refusal(session_id)) is not None:
            return Stop(session_id, "refused", refusal)
        orphan = self.orphans[session_id]
        provider = self._providers[orphan.provider]
        condemned = Condemned(orphan.provider, session_id, REASON)
        if not await self._aftermath.condemn(condemned, orphan.request_id or "", release=False):
            return Stop(session_id, "refused", _in_play(orphan.request_id))
        outcome = await provider.stop(session_id, timeout_seconds=CALL_SECONDS)
        if isinstance(outcome, StopFailed):
            return Stop(session_id, "failed", f"{outcome.message}; it is condemned, and the workers go on trying")
        return Stop(session_id, type(outcome).__name__.lower())

    async def _refusal(self, session_id: str) -> str | None:
        """Why it must not be stopped here, as of this moment; None for an orphan that a record could speak for."""
        from allocator.broker.census import Sighting, Standing
        from allocator.providers.provider import SessionState

        if session_id not in self._seen:
            return f"no session of this id bears the mark of the deployment {self._settings.deployment!r}"
        provider, session = self._seen[session_id]
        if session.state is SessionState.ENDED:
            return "it has ended"
        if session.namespace not in {None, self._namespace}:
            return f"it belongs to the namespace {session.namespace!r}: ask there"
        if session.request_id is None:
            return "no label says which request it serves, so nothing shows that it is not in play: see the provider"
        if self.before.deployment is None:
            return "this Redis holds nothing of the namespace: check redis.url and namespace, and start a worker first"
        seen = Sighting(provider.name, session.id, session.request_id, session.native_id)
        (standing,) = await self._census.standings([seen])
        match standing:
            case Standing.IN_PLAY:
                return _in_play(session.request_id)
            case Standing.UNDER_WAY:
                return f"its request {session.request_id} is under way and may hand it over"
            case Standing.CONDEMNED:
                return "it is condemned: the workers stop it, where reconciler.mode lets them"
        if session_id not in self.orphans:
            return "it is too young: its request may be on its way back; ask again 10 minutes after it was created"
        return None


def _in_play(request_id: str | None) -> str:
    return f"it is in play: the request {request_id} is allocated on it; 'allocator cancel {request_id}' releases it"


def _print(looks: Sequence[_Look], stops: Sequence[Stop], *, as_json: bool) -> None:
    # What bears no mark of a partition is an orphan where none of them explains it.
    everywhere = set.intersection(*(set(look.orphans) for look in looks))
    listed = {
        each: _described(orphan, look.before)
        for look in looks
        for each, orphan in look.orphans.items()
        if look.is_ours(each) or each in everywhere
    }
    found = list(listed.values())
    failures = {provider: message for look in looks for provider, message in look.failures.items()}
    loss_ms = max(look.before.loss_ms for look in looks)
    for provider, message in failures.items():
        complain(f"the sessions at {provider} cannot be listed: {message}")
    if as_json:
        stopped = [asdict(each) for each in stops]
        typer.echo(json_line({"orphans": found, "stops": stopped, "failures": failures}))
        return
    if loss_ms and any((each["created_at"] or 0) <= loss_ms for each in found):
        complain(f"Redis lost data at {timestamp(loss_ms)}: a match may play on what was created before")
    if not found and not failures:
        typer.echo("no orphans")
    for each in found:
        words = (each[name] for name in ("provider", "session_id", "location", "age", "request_id", "kind"))
        typer.echo("  ".join(printable(str(word if word is not None else "-")) for word in words))
    for stop in stops:
        typer.echo(printable(f"{stop.session_id}  {stop.result}{': ' if stop.message else ''}{stop.message}"))


def _described(orphan: Orphan, before: Snapshot) -> dict[str, Any]:
    created_at = orphan.created_at_ms
    age_seconds = None if created_at is None else max(0, before.now_ms - created_at) // 1000
    return {
        "provider": orphan.provider,
        "session_id": orphan.session_id,
        "location": orphan.location,
        "age": None if age_seconds is None else f"{age_seconds // 3600}h{age_seconds % 3600 // 60:02}m",
        "age_seconds": age_seconds,
        "request_id": orphan.request_id,
        "kind": orphan.kind.value,
        "created_at": created_at,
    }
