"""Plays one case of the crash matrix: matches come in until a worker has died at its step; then all has to come right.

In: a case, whether another worker runs beside, where the parts are. Out: sentences, each a broken promise. Where the
other worker made the step first all the time, nothing was shown, and it is played once more.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

from tests.crash.fleet import Fleet, Process, ProcessEnded, Simulator
from tests.crash.matrix import LATE_SECONDS, Case, Scene

BATCH = 6
BEAT_SECONDS = 0.3
DRAIN_BEATS = 5
BEATS_MAX = 100
"""Until then more come; in a fleet of two, the other may have made the step first all the time."""
DEATH_SECONDS = 40.0
END_SECONDS = 40.0
CALM_SECONDS = 30.0
TRIES = 3


async def play(case: Case, *, two: bool, directory: Path, redis_url: str, simulator: Simulator) -> list[str]:
    """What is wrong after the worker died at the step of this case and all had time to come right."""
    name = f"{case.crash.replace(':', '-')}-{'two' if two else 'one'}"
    lived = "never played"
    for number in range(TRIES if two else 1):
        fleet = Fleet(f"{name}-{number}", directory, redis_url, simulator.url, settings=case.scene.settings)
        faults = await _play(fleet, case, simulator, two=two)
        if isinstance(faults, list):
            return faults
        lived = faults
    return [lived]


async def _play(fleet: Fleet, case: Case, simulator: Simulator, *, two: bool) -> list[str] | str:
    """What is wrong; a sentence where the worker did not die at its step."""
    async with fleet:
        victim = await _begin(fleet, case, two=two)
        died = await _feed_until_death(fleet, case.scene, victim)
        if died != -signal.SIGKILL:
            return f"the worker did not die at the step: {died}; {victim.tail()[-600:]}"
        if not two:
            await fleet.worker()
        with contextlib.suppress(AssertionError):
            await fleet.finished(END_SECONDS)
        account = await fleet.calm(simulator, CALM_SECONDS, steady_seconds=LATE_SECONDS)
        faults = account.faults()
        if strange := set(account.states) - case.scene.ends:
            faults.append(f"ended otherwise: {sorted(strange)} of {dict(account.states)}")
        return [f"{fault}; {fleet.tails()}" for fault in faults]


async def _begin(fleet: Fleet, case: Case, *, two: bool) -> Process:
    """Start the workers, with a few matches there already."""
    await _feed(fleet, case.scene)
    if case.scene.donor:
        donor = await fleet.worker(crash=case.scene.donor, wait=False)
        await donor.ended()
    victim = await fleet.worker(crash=case.crash, wait=False)
    if two or case.scene.drain:
        # until it is there, or dead already: at what is done first of all it would often be the second
        with contextlib.suppress(ProcessEnded):
            await victim.first_line()
    if two:
        await fleet.worker(wait=False)
    return victim


async def _feed_until_death(fleet: Fleet, scene: Scene, victim: Process) -> int | None:
    """Ask for more until the worker is dead; its exit code, None where it lives on."""
    donors: list[Process] = []
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(contextlib.suppress(TimeoutError))
        await stack.enter_async_context(asyncio.timeout(DEATH_SECONDS))
        beats = 0
        while victim.running:
            await asyncio.sleep(BEAT_SECONDS)
            beats += 1
            if beats < BEATS_MAX:
                await _feed(fleet, scene)
            if scene.drain and beats == DRAIN_BEATS:
                victim.signal(signal.SIGTERM)
            if scene.donor and beats % 10 == 0:
                donors.append(await fleet.worker(crash=scene.donor, wait=False))
        return await victim.ended()
    return None


async def _feed(fleet: Fleet, scene: Scene) -> None:
    """A few more matches, as the scene has it."""
    if scene.cancelled == "early":
        await fleet.cancel(f"m-{len(fleet.asked)}")
        await asyncio.sleep(BEAT_SECONDS)
    asked = await fleet.submit(BATCH, regions=scene.regions, timeout_seconds=scene.timeout_seconds)
    if scene.refused:
        await fleet.submit(1, body={"image": "", "id": f"bad-{len(fleet.asked)}"})
    if scene.cancelled == "soon":
        await fleet.cancel(asked[0])
    if scene.cancelled == "played" and len(fleet.asked) > BATCH:
        await fleet.cancel(fleet.asked[-BATCH - 1])
