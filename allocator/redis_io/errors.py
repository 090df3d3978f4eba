"""What can go wrong at the door to Redis.

In: an exception of `redis`. Out: one of ours, which says what to do next. The whole tree:

    RedisFault
    ├── Unavailable         the server or the wire, for now: try again later; what was sent may have run
    ├── OutOfMemory         the server is full: nothing ran, or the script stopped at its first write
    ├── NoGroup             the consumer group or its stream is not there: make it
    ├── NoScript            the server does not hold the script: nothing ran (`scripts` answers this one itself)
    ├── Refused             credentials or rights: a setting is wrong
    ├── CommandFault        the server says that the command is wrong: our bug
    │   └── ScriptFault     the same, from within a script, which may have written before it failed
    ├── UnfitServer         the server may not be used: exit 3
    │   └── Redirected      another node of a cluster holds the key: nothing ran (`cluster` answers this one itself)
    └── EmbeddedUnavailable the embedded server cannot run here: exit 3
    ValueError
    └── RedisUrlError       redis.url cannot be understood: exit 2

`kind` is the bounded label of the metric `redis_errors_total`. Whether to try again, and when, is left to the callers.
"""

from __future__ import annotations

from redis import exceptions as theirs


class RedisFault(Exception):  # noqa: N818 - a fault, in the words of this program
    """Anything that the door to Redis raises. `kind` is one word out of a few dozen, for a metric."""

    kind = "other"

    def __init__(self, message: str, *, kind: str | None = None) -> None:
        super().__init__(message)
        if kind is not None:
            self.kind = kind


class Unavailable(RedisFault):
    """The server cannot serve now; trying again later may help. What was sent may have run."""

    kind = "connection"


class OutOfMemory(RedisFault):
    """The server is at its `maxmemory` and refused a write."""

    kind = "out_of_memory"


class NoGroup(RedisFault):
    """The consumer group, or the stream it belongs to, does not exist."""

    kind = "no_group"


class NoScript(RedisFault):
    """The server does not hold this script; nothing ran."""

    kind = "no_script"


class Refused(RedisFault):
    """The server refuses these credentials, or gives them no right to this command."""

    kind = "refused"


class CommandFault(RedisFault):
    """The server calls the command itself wrong: a bug of ours."""

    kind = "command"


class ScriptFault(CommandFault):
    """A script failed while it ran: a bug of ours. What it wrote before stays written."""

    kind = "script"


class UnfitServer(RedisFault):
    """The server works but must not be used as it is; the message says what to change."""

    kind = "unfit"


class Redirected(UnfitServer):
    """Another node holds this key, or with `asks` may hold it while its slot moves; nothing ran.

    An empty host is the one that said so.
    """

    kind = "redirected"

    def __init__(self, message: str, slot: int, host: str, port: int, *, asks: bool) -> None:
        super().__init__(message)
        self.slot = slot
        self.host = host
        self.port = port
        self.asks = asks


class EmbeddedUnavailable(RedisFault):
    """The embedded server cannot run here; the message names the alternative."""

    kind = "embedded"


class RedisUrlError(ValueError):
    """The setting redis.url cannot be understood; the message never repeats a password."""


_LATER = {
    "LOADING": "is still loading its data",
    "READONLY": "is a read-only replica",
    "MASTERDOWN": "has lost its primary",
    "CLUSTERDOWN": "belongs to a cluster that is down",
    "TRYAGAIN": "is moving these keys",
    "BUSY": "is busy with a script",
    "UNKILLABLE": "is busy with a script",
    "MISCONF": "cannot write to its disk",
    "NOREPLICAS": "has too few replicas to accept a write",
    "NOGOODSLAVE": "is failing over",
}
_CONNECTING = "Timeout connecting"
"""What redis-py says where the way to the server is what took too long, a handshake of TLS included."""
_NO_DATABASE = "DB index is out of range"
"""What a server answers to SELECT, as a connection begins."""


def translate(error: Exception, server: str) -> RedisFault:
    """Give the fault that stands for this error; `server` is the masked URL that its message names."""
    code, text = _code_and_text(error)
    match error:
        case theirs.AuthenticationError() | theirs.AuthorizationError() | theirs.NoPermissionError():
            return _refused(server, text)
        case theirs.BusyLoadingError():
            return Unavailable(f"Redis at {server} {_LATER['LOADING']}; wait for it", kind="loading")
        case theirs.TimeoutError() | TimeoutError():
            way = "; correct redis.url: host, port, rediss:// only where it speaks TLS" if _CONNECTING in text else ""
            return Unavailable(f"Redis at {server} did not answer in time: {text}{way}", kind="timeout")
        case theirs.ConnectionError() | theirs.InvalidResponse() | OSError():
            return Unavailable(f"Redis at {server} cannot be reached: {text}; start it, or correct redis.url")
        case theirs.ResponseError():
            return _of_reply(code, text, server)
        case _:
            return CommandFault(f"{type(error).__name__}: {text}")


def _of_reply(code: str, text: str, server: str) -> RedisFault:
    whole = f"{code} {text}".strip()
    match code:
        case _ if code in _LATER:
            fault: RedisFault = Unavailable(
                f"Redis at {server} {_LATER[code]}; wait for it, or mend it there", kind=code.lower()
            )
        case "NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED":
            fault = _refused(server, text)
        case "MOVED" | "ASK":
            fault = _redirected(text, server, asks=code == "ASK")
        case "OOM":
            fault = OutOfMemory(f"Redis at {server} is full; raise its maxmemory, or let what is waiting be served")
        case "NOGROUP":
            fault = NoGroup(text)
        case "NOSCRIPT":
            fault = NoScript(text)
        case _ if _NO_DATABASE in text:
            fault = UnfitServer(f"{server}: has no database of this number; correct redis.url, which ends in it")
        case _ if " script: " in text or "@user_script" in text:
            fault = ScriptFault(whole)
        case _:
            fault = CommandFault(whole)
    return fault


def _redirected(text: str, server: str, *, asks: bool) -> RedisFault:
    slot, _, address = text.partition(" ")
    host, _, port = address.rpartition(":")
    if not (slot.isdigit() and port.isdigit()):
        return CommandFault(f"MOVED {text}")
    says = f"{server} is one node of a Redis Cluster; write its nodes as redis+cluster://host:port,... in redis.url"
    return Redirected(says, int(slot), host, int(port), asks=asks)


def _refused(server: str, text: str) -> Refused:
    return Refused(f"Redis at {server} refuses us: {text}; correct the name and password in redis.url, or its ACL")


def _code_and_text(error: Exception) -> tuple[str, str]:
    """Split `CODE message`; redis-py has cut the code off where it knows it and keeps it in `status_code`."""
    text = str(error).rstrip(". ") or type(error).__name__
    known = getattr(error, "status_code", None)
    if known:
        return known, text
    first, _, rest = text.partition(" ")
    return (first, rest) if first.isupper() else ("", text)
