"""Which slot of a Redis Cluster a command belongs to.

In: a command as words. Out: the slot of its first key, or None where it has none (INFO, TIME). Pure. All keys of one
namespace share a slot by their braces, so the first key speaks for the others; the server refuses what crosses slots.
"""

from __future__ import annotations

from binascii import crc_hqx

from allocator.redis_io.wire import Command

SLOTS = 16384
_KEYLESS = frozenset(
    (
        *("ACL", "ASKING", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "DBSIZE", "DISCARD", "ECHO", "EXEC", "FLUSHALL"),
        *("HELLO", "INFO", "KEYS", "LATENCY", "MULTI", "PING", "ROLE", "SCAN", "SCRIPT", "TIME", "WAIT", "WAITAOF"),
    )
)
_KEY_COUNTED = frozenset(("EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO"))
_KEY_AFTER_STREAMS = frozenset(("XREAD", "XREADGROUP"))
_KEY_AFTER_VERB = frozenset(("MEMORY", "OBJECT", "XGROUP", "XINFO"))


def slot_of(command: Command) -> int | None:
    """The slot of this command's first key."""
    key = _first_key(command)
    return None if key is None else crc_hqx(_tag(key), 0) % SLOTS


def _first_key(command: Command) -> bytes | None:
    name = _text(command[0]).upper()
    place = 1
    if name in _KEYLESS:
        return None
    if name in _KEY_COUNTED:
        if int(command[2]) == 0:
            return None
        place = 3
    elif name in _KEY_AFTER_STREAMS:
        words = [_text(word).upper() if isinstance(word, str | bytes) else "" for word in command]
        place = words.index("STREAMS") + 1
    elif name in _KEY_AFTER_VERB:
        place = 2
    if place >= len(command):
        return None
    key = command[place]
    return key if isinstance(key, bytes) else str(key).encode()


def _text(word: object) -> str:
    return word.decode(errors="replace") if isinstance(word, bytes) else str(word)


def _tag(key: bytes) -> bytes:
    """What of a key is hashed: what stands in its first braces, where that is anything."""
    start = key.find(b"{")
    end = key.find(b"}", start + 1) if start >= 0 else -1
    return key[start + 1 : end] if end > start + 1 else key
