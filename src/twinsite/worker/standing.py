"""What a primary must have made durable before it acts: how it stands to its secondary, and what may differ.

- Before it goes on alone: that the secondary does not have everything any more.
- Before the arbiter is told that the secondary is in sync, and before a stream is resumed: that it has.
- Before a resync begins: the extents that it covers, and the lineage that it gives the other side's image.

One step at a time, each from its record to what the machine does: they would otherwise undo each other.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection
from concurrent.futures import Executor
from enum import Enum
from typing import Any

import structlog

from twinsite.core.group.doubts import add_doubts
from twinsite.core.group.primary import Primary
from twinsite.core.group.recovery import AFTER_GRANT, Action, judge
from twinsite.core.group.states import Phase
from twinsite.core.stream.hello import Doubt, Welcome
from twinsite.errors import StorageFault
from twinsite.worker.intent_log import IntentLog
from twinsite.worker.state import ReplicaState, StateDirectory

log = structlog.get_logger(__name__)


class Joined(Enum):
    """What came of a secondary's welcome."""

    RESUMED = "the stream goes on where it was"
    HEALING = "this side takes from the secondary what may differ"
    RESYNC = "a resync has begun"
    MUST_ASK = "only the arbiter's grant lets a resync begin"
    MUST_WAIT = "this side may lack writes which this secondary cannot bring"
    GONE = "the secondary, or the wish for it, was gone before that"


class Standing:
    """The durable side of a primary's standing. Every method raises `StorageFault`; the machine has not moved then."""

    def __init__(
        self, machine: Primary, intents: IntentLog, state: ReplicaState, directory: StateDirectory, executor: Executor
    ) -> None:
        self._machine = machine
        self._intents = intents
        self._state = state
        self._directory = directory
        self._executor = executor
        self._lock = asyncio.Lock()
        self.is_peer_in_doubt = False
        """The secondary that was seen last can bring nothing that is missing here: a flush failed there as well."""

    async def join(self, welcome: Welcome, is_still_there: Callable[[], bool]) -> Joined:
        """Do what the tables say with a secondary that has come, if `is_still_there` after what had to be durable."""
        async with self._lock:
            machine = self._machine
            phase = machine.phase
            if not is_still_there():
                return Joined.GONE
            generation = secrets.token_hex(16)
            if phase is Phase.HOLDING:
                action = machine.consider(welcome)
                self.is_peer_in_doubt = action is Action.WAIT and welcome.doubt is Doubt.FLUSH_FAILED
                if action is Action.ASK:
                    machine.nobody_has_more()
                    return Joined.MUST_ASK
                if action is Action.WAIT:
                    return Joined.MUST_WAIT
                if action is Action.HEAL and welcome.led:
                    await self._doubt(welcome, machine.generations)
                else:
                    await self._secondary_has_all()
            elif phase is Phase.ALONE:
                await self._doubt(welcome, machine.lineages_with(welcome, generation))
            if not is_still_there() or machine.phase is not phase or not machine.connected(welcome, generation):
                return Joined.GONE
            if machine.phase is Phase.HEALING:
                return Joined.HEALING
            return Joined.RESYNC if phase is Phase.ALONE else Joined.RESUMED

    async def go_alone(self, row_version: int, stale_since: float | None = None) -> None:
        """The arbiter has granted it: record it here as well, then let the machine go on, unless it flushes."""
        async with self._lock:
            if self._doubts_disks():
                # The secondary came while the answer was on its way, and what it brought is being flushed: the machine
                # asks once more if it still wants to go on alone after that. Or a flush failed meanwhile: what this
                # side lacks now, the secondary has.
                return
            await self._record(
                peer_has_all=False, may_lack_writes=False, row_version=row_version, row_stale_since=stale_since
            )
            if self._doubts_disks():
                # A flush failed just now. Nobody was told anything alone yet, so this is true still.
                await self._keep(peer_has_all=True)
                return
            self._machine.granted()

    async def promise_all(self) -> None:
        """The report that the secondary is in sync is about to be sent."""
        async with self._lock:
            if self._machine.wants_report:
                # First, so that from now on nothing but a grant lets the machine acknowledge alone.
                self._machine.report_sent()
                await self._secondary_has_all()

    async def healed(self) -> bool:
        """What may have differed is the secondary's and flushed: record that nothing is missing, then mirror.

        Returns False when the session must end for that.
        """
        async with self._lock:
            await self._record(may_lack_writes=False, doubt=Doubt.NONE)
            return not self._machine.is_healed or self._machine.healed()

    async def accept_loss(self, acceptances: int) -> None:
        """An operator has accepted that acknowledged writes are missing here."""
        async with self._lock:
            log.warning("primary.loss_accepted", acceptances=acceptances)
            await self._record(loss_acceptances=acceptances, may_lack_writes=False)
            self._machine.nobody_has_more()

    async def distrust(self) -> None:
        """A flush failed here."""
        async with self._lock:
            await self._keep(doubt=Doubt.FLUSH_FAILED)

    # Inside

    def _doubts_disks(self) -> bool:
        """Say whether nobody knows what this side's disks hold."""
        return self._machine.is_flushing_healed or self._machine.needs_new_stores

    async def _secondary_has_all(self) -> None:
        state, generations = self._state, sorted(self._machine.generations)
        if not state.peer_has_all or state.generations != generations:
            await self._record(peer_has_all=True, generations=generations)
        self._machine.peer_has_all = True

    async def _doubt(self, welcome: Welcome, generations: Collection[str]) -> None:
        """Mark what the welcome brings into doubt, and record it, and of which lineages the other side may be."""
        machine, intents = self._machine, self._intents
        difference = AFTER_GRANT[judge(welcome, machine.generations)]
        log.info("primary.difference", differs=difference.value)
        for index, first, count in add_doubts(difference, machine.members.values(), intents.maps, welcome):
            intents.cover(index, first, count)
        await intents.commit()
        await self._record(generations=sorted(generations))

    async def _record(self, **values: Any) -> None:
        """Change the state and make that durable. What could not be saved is not believed here either."""
        before = {name: getattr(self._state, name) for name in values}
        try:
            await self._keep(**values)
        except StorageFault:
            for name, value in before.items():
                setattr(self._state, name, value)
            raise

    async def _keep(self, **values: Any) -> None:
        """Change the state and make that durable. What could not be saved is true all the same."""
        for name, value in values.items():
            setattr(self._state, name, value)
        await asyncio.get_running_loop().run_in_executor(self._executor, self._directory.save, self._state)
