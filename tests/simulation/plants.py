"""Bugs to plant in the product, so that the simulator can show that it would find them.

Each is a patch of one class or function of the product: the kind of mistake that a change could bring.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from twinsite.core import arbiter
from twinsite.core.group.flight import Flight
from twinsite.core.group.primary import Primary
from twinsite.core.group.resync import MemberResync
from twinsite.core.group.states import Phase
from twinsite.core.stream.hello import Doubt
from twinsite.core.tracking.intents import IntentMap
from twinsite.errors import StorageFault
from twinsite.worker import intent_log, primary_group, secondary_group, starting, worker
from twinsite.worker.intent_log import IntentLog
from twinsite.worker.secondary_group import SecondaryGroup
from twinsite.worker.secondary_session import SecondarySession, _owned
from twinsite_sim import controller

Plant = Callable[[pytest.MonkeyPatch], None]


def answer_before_the_secondary(patch: pytest.MonkeyPatch) -> None:
    """Tell the host that a write is done when it is applied here."""
    honest = Primary.write_applied

    def write_applied(self: Primary, index: int, offset: int, data: Any, token: Any) -> None:
        honest(self, index, offset, data, None)
        if token is not None:
            self.completed.append(token)

    patch.setattr(Primary, "write_applied", write_applied)


def answer_a_flush_before_the_secondary(patch: pytest.MonkeyPatch) -> None:
    """Tell the host that a flush is done when it is done here; the frame travels, and its answer is ignored."""
    honest = Primary.flush_begun

    def flush_begun(self: Primary, index: int, token: Any) -> Any:
        waiter = honest(self, index, token)
        waiter.is_remote_done = True
        return waiter

    patch.setattr(Primary, "flush_begun", flush_begun)


def skip_the_grant(patch: pytest.MonkeyPatch) -> None:
    """Go on alone as soon as the stream breaks."""
    honest = Primary.broken

    def broken(self: Primary) -> None:
        honest(self)
        if self.phase is Phase.HOLDING:
            self.granted()

    patch.setattr(Primary, "broken", broken)


def send_a_stale_resync_read(patch: pytest.MonkeyPatch) -> None:
    """Send what a resync has read although a host has written there meanwhile."""
    patch.setattr(MemberResync, "touch", lambda self, offset, length: None)


def take_what_is_packed_for_its_size(patch: pytest.MonkeyPatch) -> None:
    """Remember of packed data on its way only as many bytes of the disk as travel."""
    honest = Primary._send_packed

    def send_packed(self: Primary, index: int, offset: int, length: int, packed: bytes) -> None:
        honest(self, index, offset, len(packed), packed)

    patch.setattr(Primary, "_send_packed", send_packed)


def forget_what_was_in_flight(patch: pytest.MonkeyPatch) -> None:
    """Go on alone without marking dirty what the secondary never acknowledged."""
    patch.setattr(Primary, "_mark_dirty", lambda self, entries: None)


def resume_with_frames_missing(patch: pytest.MonkeyPatch) -> None:
    """Resume the stream behind the frames that were not acknowledged."""
    patch.setattr(Primary, "first_sequence", property(lambda self: self.sequence + 1))

    def take_frames_to_resend(self: Flight, acknowledged: int) -> list[bytes]:
        self._kept.clear()
        return []

    patch.setattr(Flight, "take_frames_to_resend", take_frames_to_resend)


def report_in_sync_while_copying(patch: pytest.MonkeyPatch) -> None:
    """Tell the arbiter that the secondary has everything while it is being brought there."""
    early = (Phase.COPYING, Phase.FINISHING, Phase.MIRRORED)
    patch.setattr(Primary, "wants_report", property(lambda self: self.phase in early and not self.is_confirmed))


def serve_before_it_is_confirmed(patch: pytest.MonkeyPatch) -> None:
    """Show the disks to hosts as soon as the role begins."""
    patch.setattr(primary_group.PrimaryGroup, "may_serve", property(lambda self: True))


def forget_that_writes_may_be_lacking(patch: pytest.MonkeyPatch) -> None:
    """Let a primary whose machine restarted go on as if it had lost nothing."""
    honest = starting.starting_point

    def starting_point(*arguments: Any) -> Any:
        return replace(honest(*arguments), lacks_writes=False, peer_has_all=False)

    patch.setattr(primary_group, "starting_point", starting_point)


def believe_old_maps(patch: pytest.MonkeyPatch) -> None:
    """Keep the mark of a clean stop while a primary runs."""
    honest = starting.remember_primary

    def remember_primary(state: Any, start: Any, boot_id: str) -> None:
        was_clean = state.is_clean
        honest(state, start, boot_id)
        state.is_clean = was_clean

    patch.setattr(primary_group, "remember_primary", remember_primary)


def record_no_intent(patch: pytest.MonkeyPatch) -> None:
    """Let a write to a cold extent go on without its record."""
    patch.setattr(IntentLog, "cold_runs", lambda self, volume, offset, length: [])


def clear_intents_early(patch: pytest.MonkeyPatch) -> None:
    """Let extents go cold that were written since the flush began."""
    patch.setattr(IntentMap, "idle_runs", IntentMap.runs)


def forget_intents(patch: pytest.MonkeyPatch) -> None:
    """Believe after a crash that nothing was recorded."""

    def load_intents(*arguments: Any) -> Any:
        maps = intent_log.load_intents(*arguments)
        for intents in maps.values():
            intents.clear(0, intents.extent_count)
        return maps

    patch.setattr(starting, "load_intents", load_intents)


def acknowledge_before_applying(patch: pytest.MonkeyPatch) -> None:
    """Let the secondary answer frames that it applies a moment later."""
    honest = SecondaryGroup.apply_frames

    def apply_frames(self: SecondaryGroup, session: Any, operations: Any) -> None:
        copies = [_owned(operation) for operation in operations]

        def late() -> None:
            with contextlib.suppress(StorageFault):
                honest(self, session, copies)

        asyncio.get_running_loop().call_later(0.05, late)

    patch.setattr(SecondaryGroup, "apply_frames", apply_frames)


def answer_flushes_of_the_stream_at_once(patch: pytest.MonkeyPatch) -> None:
    """Let the secondary say that a flush is durable without doing it."""
    patch.setattr(SecondarySession, "flush", lambda self, volume, sequence: self._say_flushed([sequence]))


def keep_nothing_of_what_a_resync_overwrites(patch: pytest.MonkeyPatch) -> None:
    """Forget the undo log's records."""

    async def save_first(self: SecondaryGroup, operations: Any) -> None:
        del self, operations

    patch.setattr(SecondaryGroup, "save_first", save_first)


def lead_without_rolling_back(patch: pytest.MonkeyPatch) -> None:
    """Promote a secondary in the middle of a resync as it is."""
    patch.setattr(worker, "return_to_common_point", lambda directory, state, members, stores: None)
    patch.setattr(worker, "refuse_half_copy", lambda state, members: None)  # It would stop that.


def hide_that_an_image_is_suspect(patch: pytest.MonkeyPatch) -> None:
    """Welcome a primary after a reboot as if nothing could have been lost."""
    patch.setattr(secondary_group, "doubt_of", lambda state, boot_id: Doubt.NONE)


def claim_the_lineage_with_differences(patch: pytest.MonkeyPatch) -> None:
    """Claim at a clean stop to be equal although something was dirty or in flight."""
    honest = starting.remember_clean_stop

    def remember_clean_stop(state: Any, machine: Primary) -> None:
        honest(state, machine)
        if machine.generations:
            state.generation, state.is_consistent = max(machine.generations), True

    patch.setattr(primary_group, "remember_clean_stop", remember_clean_stop)


def believe_a_backup(patch: pytest.MonkeyPatch) -> None:
    """Grant and promote by a database that has forgotten what was granted."""
    patch.setattr(controller, "forget", lambda row, sites: row)


def hear_without_listening(patch: pytest.MonkeyPatch) -> None:
    """Wait for both sites after a restoration, and take nothing in of what they know."""
    patch.setattr(
        controller,
        "hear",
        lambda row, known: replace(row, unheard=[site for site in row.unheard if site != known.site]),
    )


def take_any_word_for_an_answer(patch: pytest.MonkeyPatch) -> None:
    """Count a site as heard by what its worker said before it was asked, with a grant on its way to it perhaps."""
    honest = arbiter.hear
    patch.setattr(controller, "hear", lambda row, known: honest(row, replace(known, answers=row.question)))


def believe_a_history_that_was_left(patch: pytest.MonkeyPatch) -> None:
    """Go on with the same versions after a restoration, so that the database that was left can come back."""
    honest = arbiter.hear

    def hear(row: arbiter.Row, known: arbiter.Known) -> arbiter.Row:
        heard = honest(row, known)
        is_believed_again = bool(row.unheard) and not heard.unheard
        return replace(heard, version=max(row.version, known.version)) if is_believed_again else heard

    patch.setattr(controller, "hear", hear)


def go_on_after_a_failed_flush(patch: pytest.MonkeyPatch) -> None:
    """Show hosts a disk whose flush has failed, and go on alone with it, although the secondary has everything."""
    patch.setattr(Primary, "disk_failed", lambda self: False)


_BROKEN_COPIES = frozenset({"blip", "worker killed inside", "slow threads"})
_CRASHES = frozenset({"machine crash", "worker killed", "blip"})
_RESTARTS = frozenset({"worker killed", "worker restarted", "stream blocked", "blip"})
_BACKUPS = frozenset({"database restored", "stream cut", "worker killed", "blip"})
_LEFT = frozenset({"promotion forgotten", "stream blocked"})
_ALL: frozenset[str] = frozenset()

PLANTS: list[tuple[Plant, frozenset[str]]] = [
    (answer_before_the_secondary, _ALL),
    (answer_a_flush_before_the_secondary, _ALL),
    (skip_the_grant, _ALL),
    (send_a_stale_resync_read, _ALL),
    (take_what_is_packed_for_its_size, _ALL),
    (forget_what_was_in_flight, _ALL),
    (resume_with_frames_missing, _ALL),
    (report_in_sync_while_copying, _ALL),
    (serve_before_it_is_confirmed, _ALL),
    (forget_that_writes_may_be_lacking, _ALL),
    (believe_old_maps, _RESTARTS),
    (record_no_intent, _CRASHES),
    (clear_intents_early, frozenset({"machine crash"})),
    (forget_intents, _CRASHES),
    (acknowledge_before_applying, _ALL),
    (answer_flushes_of_the_stream_at_once, _CRASHES),
    (keep_nothing_of_what_a_resync_overwrites, _BROKEN_COPIES),
    (lead_without_rolling_back, _BROKEN_COPIES),
    (hide_that_an_image_is_suspect, _CRASHES),
    (claim_the_lineage_with_differences, _RESTARTS),
    (go_on_after_a_failed_flush, frozenset({"flush fails", "blip"})),
    (believe_a_backup, _BACKUPS),
    (hear_without_listening, _BACKUPS),
    (take_any_word_for_an_answer, frozenset({"database restored", "stream cut"})),
    (believe_a_history_that_was_left, _LEFT),
]
"""Each with the faults of the worlds that look for it: those that have to do with it, or all."""
