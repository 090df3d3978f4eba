"""All that is known of one limit, and how it changes: the fields of the hash that the scripts keep in Redis.

In: what happened, and the moment of it in seconds of one clock. Out: what holds from then on. Pure but for its own
fields: the twin lives by it, and what is read of Redis for a person to look at is put into it. When it is asked, and
by whom, is the gates'.
"""

from __future__ import annotations

from dataclasses import dataclass

from allocator.gate.adaptive import climbed, lowered
from allocator.gate.gate import (
    ASIDE_FIRST_SECONDS,
    ASIDE_LAST_SECONDS,
    ASIDE_SECONDS_MAX,
    DOUBTS_MAX,
    FIRST_COOLDOWN_SECONDS,
    JITTER,
    JUDGING_SECONDS,
    LAST_COOLDOWN_SECONDS,
    REPEATS_A_SECOND,
    REPEATS_MAX,
    REPEATS_SHARE,
    SHUT_SECONDS_MAX,
    VERDICT_SECONDS,
    VERDICT_SECONDS_MAX,
    Cause,
    Limit,
    LimitState,
    Verdict,
    bounded,
)

LEVEL_MAX = 30


@dataclass(slots=True)
class Standing:
    """One limit. Named as in Redis; moments are seconds of the caller's clock."""

    tat: float = float("-inf")
    until: float | None = None
    cause: Cause | None = None
    level: int = 0
    aside: float | None = None
    asides: int = 0
    probe: float = 0.0
    doubts: int = 0
    ceiling: float | None = None
    slowed: float = 0.0
    verdict: Verdict | None = None
    verdict_until: float = 0.0
    repeats: float = REPEATS_MAX
    repeats_at: float | None = None

    def rate(self, limit: Limit, now: float) -> float | None:
        """What the limit gives a second now."""
        if not limit.rate or self.ceiling is None or self.slowed > now:
            return limit.rate or None
        return min(limit.rate, climbed(self.ceiling, now - self.slowed))

    def closing(
        self, now: float, probe_seconds_max: float, *, last_resort: bool = False
    ) -> tuple[float, Cause | None, bool]:
        """How long it gives nothing, why, and whether it takes a probe to open it; a probe is out for so long."""
        until, aside = _until(self.until, now, SHUT_SECONDS_MAX), _until(self.aside, now, ASIDE_SECONDS_MAX)
        ends, why = until, self.cause
        if self.aside is not None and aside > until and not (last_resort and until > now):
            ends, why = until if last_resort else aside, Cause.SET_ASIDE
        if ends > now or (self.until is None and self.aside is None):
            return max(0.0, ends - now), why, False
        return max(0.0, _until(self.probe, now, probe_seconds_max) - now), why, True

    def shut(self, cause: Cause, retry_after_seconds: float | None, chance: float, now: float) -> float:
        """Shut it; the seconds until its probe."""
        asked = None if retry_after_seconds is None else now + bounded(retry_after_seconds)
        until, aside = _until(self.until, now, SHUT_SECONDS_MAX), _until(self.aside, now, ASIDE_SECONDS_MAX)
        if until > now:
            self.until = max(until, until if asked is None else asked)
        else:
            self.level = min(self.level + 1, LEVEL_MAX)
            cooldown = min(FIRST_COOLDOWN_SECONDS * 2.0 ** (self.level - 1), LAST_COOLDOWN_SECONDS)
            self.until = now + cooldown * (1 + JITTER * chance) if asked is None else asked
        self.cause, self.probe = cause, 0.0
        if cause.answered and aside <= now:
            self._trust()
        return max(self.until, aside) - now

    def open(self, now: float) -> None:
        """A call got through."""
        self._trust()
        if _until(self.until, now, SHUT_SECONDS_MAX) <= now:
            self.until, self.cause, self.level, self.probe = None, None, 0, 0.0

    def doubt(self, chance: float, now: float, *, probe: bool) -> float:
        """Count an unknown outcome; the seconds for which it is set aside."""
        if probe:
            self.probe = 0.0
        if (aside := _until(self.aside, now, ASIDE_SECONDS_MAX)) > now:
            return aside - now
        self.doubts += 1
        if not self.asides and self.doubts < DOUBTS_MAX:
            return 0.0
        self.asides = min(self.asides + 1, LEVEL_MAX)
        rest = min(ASIDE_FIRST_SECONDS * 2.0 ** (self.asides - 1), ASIDE_LAST_SECONDS) * (1 + JITTER * chance)
        self.aside, self.probe = now + rest, 0.0
        return rest

    def slow(self, limit: Limit, begun: float, now: float) -> float:
        """A call begun at that moment came too fast; the rate from now on."""
        rate = self.rate(limit, now)
        if limit.rate is None or rate is None:
            return float("inf")
        if begun < self.slowed <= now and self.ceiling is not None:
            return rate
        self.ceiling, self.slowed = rate, now
        return lowered(rate, limit.rate)

    def find_out(self, now: float) -> Verdict:
        """What a push-back means, or that the caller finds out."""
        if self.verdict is not None and _until(self.verdict_until, now, VERDICT_SECONDS_MAX) > now:
            return self.verdict
        self.verdict, self.verdict_until = Verdict.ASKING, now + JUDGING_SECONDS
        return Verdict.ASK

    def judge(self, verdict: Verdict, now: float) -> None:
        """What was found out."""
        self.verdict, self.verdict_until = verdict, now + VERDICT_SECONDS

    def may_repeat(self, first_attempts: int, now: float) -> bool:
        """Take one repeat out of the budget."""
        seconds = 0.0 if self.repeats_at is None else max(0.0, now - self.repeats_at)
        brought = first_attempts * REPEATS_SHARE + seconds * REPEATS_A_SECOND
        self.repeats, self.repeats_at = min(self.repeats + brought, REPEATS_MAX), now
        if self.repeats < 1:
            return False
        self.repeats -= 1
        return True

    def seen(self, limit: Limit, now: float, probe_seconds_max: float) -> LimitState:
        """How it stands, for a person to look at."""
        seconds, cause, _ = self.closing(now, probe_seconds_max)
        return LimitState(self.rate(limit, now), seconds, cause, self.doubts)

    def _trust(self) -> None:
        self.doubts, self.aside, self.asides = 0, None, 0


def _until(moment: float | None, now: float, seconds_max: float) -> float:
    """A moment; one that is further ahead than it can have been set is over, for the clock went back since."""
    return 0.0 if moment is None or moment - now > seconds_max else moment
