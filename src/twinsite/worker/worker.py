"""A worker: takes specs, opens volumes, runs the group's role, exports the volumes to hosts, and says how it is."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import structlog

from twinsite.core.arbiter import Secondary
from twinsite.core.limits import RESYNC_READS_MAX
from twinsite.durable_file import Files
from twinsite.errors import ConfigurationError, InternalError, RetryableError, StorageFault, TwinsiteError
from twinsite.messages import (
    Activity,
    Counters,
    Failure,
    Knowledge,
    MemberSpec,
    MemberStatus,
    Mode,
    Replication,
    ResyncReport,
    Role,
    WorkerSpec,
    WorkerStatus,
    split_endpoint,
)
from twinsite.stores.base import Store
from twinsite.stores.opening import open_store
from twinsite.worker.arbiter_client import ArbiterClient
from twinsite.worker.arbitration import Arbiter
from twinsite.worker.control import STATUS_SECONDS_MIN, ControlServer
from twinsite.worker.growing import grow, grown_members
from twinsite.worker.measured_device import MeasuredDevice
from twinsite.worker.nbd_server import NbdServer
from twinsite.worker.primary_group import PrimaryGroup
from twinsite.worker.renewal import Renewal
from twinsite.worker.secondary_group import SecondaryGroup
from twinsite.worker.spec_check import check_spec
from twinsite.worker.state import ReplicaState, StateDirectory
from twinsite.worker.store_device import StoreDevice
from twinsite.worker.taking_over import flush_what_was_left, refuse_half_copy, return_to_common_point

log = structlog.get_logger(__name__)

THREADS = RESYNC_READS_MAX + 2
"""Threads for calls that may wait for a disk. A resync leaves some to hosts' reads and flushes."""
RETRY_SECONDS = 1.0
"""Pause before a spec that could not be applied is tried again."""
IDLE_STATUS_SECONDS = 1.0
"""How often numbers are looked at while nothing is being copied."""
BUSY_CODE = "37000216"
"""A store is still open elsewhere, or a stream has not ended yet, which passes."""


class Worker:
    """One worker's life. `take` may be called at any time; specs are applied one after the other, the newest wins."""

    def __init__(
        self,
        worker_id: str,
        control_path: Path,
        state_directory: Path,
        files: Files | None = None,
        came_to_rest: Callable[[], None] = lambda: None,
    ) -> None:
        """Be ready to run. `came_to_rest` is called when nothing has moved for a second after something did."""
        self._id = worker_id
        self._directory = StateDirectory(state_directory, files)
        self._came_to_rest = came_to_rest
        self._state = ReplicaState()
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="disk")
        self._control = ControlServer(control_path, self.take, self.status)
        self._stores: dict[int, Store] = {}
        self._servers: dict[str, NbdServer] = {}
        self._devices: dict[str, StoreDevice] = {}
        self._members: dict[int, MemberSpec] = {}
        self._lost: set[int] = set()  # What `_lost_indexes` found when the status was last looked at.
        self._role: Role | None = None
        self._group: PrimaryGroup | SecondaryGroup | None = None
        self._ending: asyncio.Task[None] | None = None  # Of the last role.
        self._wanted: WorkerSpec | None = None
        self._applied: WorkerSpec | None = None
        self._applying: WorkerSpec | None = None
        self._wake = asyncio.Event()
        self._renewal = Renewal(self._wake.set)
        self._changed = asyncio.Event()
        self._failure: Failure | None = None
        self._arbiter_made: tuple[tuple[str, str, str, int], Arbiter] | None = None
        self._departed = Counters()  # What hosts did with members that have left the group.
        self._asked_before: tuple[PrimaryGroup | None, int] = (None, 0)  # Who had asked how often, when it was asked.
        self._is_state_ahead = False  # What is in memory was changed for a role that did not start.

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`, then stop cleanly. A bug stops the worker too: the first one is raised at the end."""
        self._state = self._directory.load()
        await self._control.listen()
        works = [self._apply_specs(), self._publish_statuses(), stop.wait()]
        tasks = [asyncio.ensure_future(work) for work in works]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            await self._tear_down()
            await self._control.close()
            self._executor.shutdown()
        for result in results:
            if isinstance(result, Exception):
                raise InternalError(f"worker {self._id}: {result!r}") from result

    def take(self, spec: WorkerSpec) -> None:
        """Note a spec to apply; an older version than the newest one, or another worker's, is ignored."""
        if spec.id != self._id:
            log.error("worker.wrong_spec", given=spec.id, mine=self._id)
            return
        if self._wanted is not None and spec.version < self._wanted.version:
            return
        if spec != self._wanted:
            if isinstance(self._group, PrimaryGroup) and not spec.is_row_trusted:
                self._asked_before = (self._group, self._group.arbiter_calls.begun)
            self._wanted = spec
            self._wake.set()

    def status(self) -> WorkerStatus | None:
        """Return how the worker is, or None before its first spec."""
        spec = self._wanted
        if spec is None:
            return None
        group = self._group
        applied = self._applied
        in_force = applied is not None and (not isinstance(group, PrimaryGroup) or group.in_force())
        mode, resync = self._mode_and_resync()
        members = self._member_statuses(spec)
        failure = self._failure or (group.failure if group is not None else None)
        return WorkerStatus(
            id=self._id,
            spec_version=applied.version if applied is not None and in_force else 0,
            role=spec.role,
            mode=mode,
            term=spec.term,
            members=members,
            stream_endpoint=group.endpoint if isinstance(group, SecondaryGroup) else None,
            consistent=group is not None and group.is_consistent,
            doubtful=group is not None and group.is_doubtful,
            rollback_point=group.rollback_point if isinstance(group, SecondaryGroup) else None,
            in_sync_since=group.in_sync_since if isinstance(group, PrimaryGroup) else None,
            holding_since=group.holding_since if isinstance(group, PrimaryGroup) else None,
            dirty_bytes=sum(member.dirty_bytes for member in members),
            acknowledged_sequence=group.acknowledged_sequence if group is not None else 0,
            sent_sequence=group.sent_sequence if group is not None else 0,
            resync=resync,
            counters=self._counters(),
            failure=failure,
            knowledge=self._knowledge(spec),
            activity=self._activity(),
            request_id=self._cause(),
        )

    def _activity(self) -> Activity | None:
        """Return how hosts are served, since the role began; None where none are."""
        if isinstance(self._group, PrimaryGroup):
            return self._group.activity()
        solo = next((device for device in self._devices.values() if isinstance(device, MeasuredDevice)), None)
        return solo.activity() if solo is not None else None

    def _knowledge(self, spec: WorkerSpec) -> Knowledge | None:
        """Return what is durable here of terms and grants; None while that is nothing, and in no group."""
        state = self._state
        if spec.role is Role.SOLO or self._is_state_ahead or state.knows_nothing or not state.term:
            return None
        term, is_primary = state.term, state.is_primary
        row_version, is_in_sync, stale_since = state.row_version, False, state.row_stale_since
        row = self._group.newest_row if isinstance(self._group, PrimaryGroup) else None
        if row is not None and row.version > row_version:
            row_version, is_in_sync, stale_since = row.version, row.secondary is Secondary.IN_SYNC, row.stale_since
            if row.term > term:  # It was replaced, and may be the only one who has heard of that.
                term, is_primary = row.term, row.primary_site == spec.site
        return Knowledge(
            term=term,
            is_primary=is_primary,
            row_version=max(row_version, state.believed_version),
            row_in_sync=is_in_sync,
            row_stale_since=stale_since,
            spec_version=spec.version,
            loss_acceptances=state.loss_acceptances,
            answers="" if self._may_be_answered_from_before() else spec.question,
        )

    def _may_be_answered_from_before(self) -> bool:
        """Say whether something is under way still that the database has ordered or granted that was there before."""
        if self._applying is not None and self._wanted is not None and self._applying.question != self._wanted.question:
            return True
        group, begun = self._asked_before
        return isinstance(self._group, PrimaryGroup) and group is self._group and group.arbiter_calls.ended < begun

    # Applying specs

    async def _apply_specs(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            spec = self._wanted
            assert spec is not None
            # Also for the lines of all that is begun from here.
            structlog.contextvars.bind_contextvars(worker=self._id, request_id=spec.request_id or None)
            self._applying = spec
            try:
                await self._apply(spec)
            except InternalError:
                raise
            except (TwinsiteError, OSError) as error:
                log.error("worker.spec_failed", error=str(error), version=spec.version)
                self._failure = _failure_of(error, spec.role)
                if not self._may_serve():
                    await self._withdraw_all()
                self._report()
                asyncio.get_running_loop().call_later(RETRY_SECONDS, self._wake.set)
                continue
            finally:
                self._applying = None
            self._failure = None
            if self._applied is None or self._applied.version != spec.version:
                log.info("worker.spec_in_force", version=spec.version, role=spec.role.value, term=spec.term)
            self._applied = spec
            self._report()

    async def _apply(self, spec: WorkerSpec) -> None:
        self._raise_bug()
        try:
            check_spec(spec)
            self._refuse_past_term(spec)
            grown_bytes = grown_members(self._members, {member.index: member for member in spec.members})
        except (ConfigurationError, RetryableError):
            # What cannot be right, or not yet, changes nothing: hosts keep what they have, and get what was on its way.
            await self._serve_what_may_be()
            raise
        if self._role is not None and (self._role is not spec.role or self._state.term != spec.term):
            await self._tear_down()
        if self._role is Role.SECONDARY and self._lost_indexes():
            # Acknowledging into a file that nobody will find again would promise a copy that is not there.
            await self._tear_down()
        wanted = {member.index: member for member in spec.members}
        await self._end_role_if_due(wanted)
        self._adopt_term(spec)
        await self._remember_restoration(spec)
        removed = [index for index, member in self._members.items() if not _is_same_volume(member, wanted.get(index))]
        for index in removed:
            await self._withdraw(self._members[index].volume_id)
        kept = self._members.keys() - removed
        grown_bytes = {index: size_bytes for index, size_bytes in grown_bytes.items() if index in kept}
        await grow(self._group, self._stores, self._member_devices(), grown_bytes)
        added = self._open_all([member for index, member in wanted.items() if index not in kept])
        if self._role is None:
            await self._start_role(spec, added)
        elif self._group is not None and (added or removed):
            devices = self._member_devices()
            leaving = _count_hosts(devices[index] for index in removed if index in devices)
            try:
                await self._group.change_members(spec, added, removed)
            except BaseException:
                for store in added.values():
                    store.close()
                raise
            self._departed = _sum(self._departed, leaving)
        for index in removed:
            self._stores.pop(index).close()
        self._stores.update(added)
        self._members = wanted
        if spec.replication is Replication.HANDOVER:
            await self._withdraw_all()
        if isinstance(self._group, PrimaryGroup):
            self._group.apply(spec, self._arbiter(spec))
        elif self._group is not None:
            self._group.apply(spec)
        await self._serve_what_may_be()

    def _raise_bug(self) -> None:
        bug = self._group.bug if isinstance(self._group, PrimaryGroup) else None
        if bug is not None:
            raise InternalError(f"a task of the group ended: {bug!r}") from bug

    def _waits_with_leavers(self, wanted: Mapping[int, MemberSpec]) -> bool:
        """Say whether volumes leave a primary that waits for what only the secondary has, and nothing joins it.

        That one may list the others only by now, and lets this side in when it does the same; but a stream that never
        comes does not end either. So the role starts anew with those that stay, and is healed.
        """
        group = self._group
        if not isinstance(group, PrimaryGroup) or not group.is_doubtful or group.failed_flush is not None:
            return False
        return wanted.keys() < self._members.keys()

    async def _end_role_if_due(self, wanted: Mapping[int, MemberSpec]) -> None:
        """End a role that needs new stores, when its pause is over and what the next one must know is durable.

        Also one that must begin anew with the members that are wanted.
        """
        group = self._group
        if group is not None and group.failed_flush is not None and self._renewal.is_due():
            await group.distrust()
            await self._tear_down()
        elif self._waits_with_leavers(wanted):
            await self._tear_down()

    async def _serve_what_may_be(self) -> None:
        """Show hosts the volumes, or take them away: a primary is shown only while nobody else can be one."""
        if self._may_serve():
            for member in self._members.values():
                await self._serve(member)
        else:
            await self._withdraw_all()

    def _may_serve(self) -> bool:
        return self._role is Role.SOLO or (isinstance(self._group, PrimaryGroup) and self._group.may_serve)

    def _arbiter(self, spec: WorkerSpec) -> Arbiter | None:
        if spec.arbiter_url is None:
            return None
        key = (spec.arbiter_url, spec.arbiter_token, spec.site, spec.term)
        if self._arbiter_made is None or self._arbiter_made[0] != key:
            self._arbiter_made = (key, ArbiterClient(*key, ca_file=spec.arbiter_ca_file, cause=self._cause))
        return self._arbiter_made[1]

    def _cause(self) -> str:
        """Return the request of the API that what is done follows from; empty for nobody's. Any thread may ask."""
        group = self._group
        return group.cause if isinstance(group, PrimaryGroup) else ""

    def _group_changed(self) -> None:
        """The group's status changed: tell it, and see whether hosts may be served now, or no more."""
        self._report()
        self._wake.set()

    def _refuse_past_term(self, spec: WorkerSpec) -> None:
        if self._role is None:
            # What is durable here counts, and a controller that has forgotten it learns it from this worker.
            self._forget_what_was_not_saved()
        if spec.term < self._state.term:
            raise ConfigurationError(
                f"group {spec.id}: the spec has term {spec.term}, this worker has seen term {self._state.term}; "
                "the controller's database is older than this site"
            )
        if spec.term > self._state.term > 0 and not spec.is_row_trusted and not self._state.knows_nothing:
            raise RetryableError(
                f"group {spec.id}: the controller's database was restored from a backup and is not believed yet, so "
                f"this worker stays at term {self._state.term} and does not follow to term {spec.term}; that ends "
                "when both sites have been heard, or with a forced stop"
            )

    def _forget_what_was_not_saved(self) -> None:
        if self._is_state_ahead:
            self._state = self._directory.load()
            self._is_state_ahead = False

    def _adopt_term(self, spec: WorkerSpec) -> None:
        self._forget_what_was_not_saved()
        state = self._state
        is_primary = spec.role is Role.PRIMARY if spec.role is not Role.SOLO else state.is_primary
        # Whoever has no state yet would only repeat what a backup has told it.
        knows_nothing = (state.knows_nothing or not state.term) and not spec.is_row_trusted
        if spec.term > state.term or (is_primary, knows_nothing) != (state.is_primary, state.knows_nothing):
            self._is_state_ahead = True
            state.term, state.is_primary, state.knows_nothing = spec.term, is_primary, knows_nothing
            if spec.is_row_trusted:
                state.believed_version = max(state.believed_version, spec.row_version)
            self._directory.save(self._state)
            self._is_state_ahead = False

    async def _remember_restoration(self, spec: WorkerSpec) -> None:
        """Know from now on of a row that was restored and is believed again, so that none from before it comes back.

        What cannot be saved just now is saved with whatever is next.
        """
        state = self._state
        known = max(state.believed_version, state.row_version)
        if spec.is_row_trusted and spec.row_version > known:
            state.believed_version = spec.row_version
            try:
                await asyncio.get_running_loop().run_in_executor(self._executor, self._directory.save, state)
            except StorageFault as error:
                log.warning("worker.restoration_not_kept", error=str(error), version=spec.row_version)

    def _open_all(self, members: list[MemberSpec]) -> dict[int, Store]:
        opened: dict[int, Store] = {}
        try:
            for member in members:
                if member.store is None:
                    raise ConfigurationError(f"the spec does not say where volume {member.volume_id} lies")
                opened[member.index] = open_store(member.store, member.size_bytes)
        except TwinsiteError:
            for store in opened.values():
                store.close()
            raise
        return opened

    async def _start_role(self, spec: WorkerSpec, stores: dict[int, Store]) -> None:
        """Take on a role; from here on the stores are ours, whatever comes next."""
        self._stores = dict(stores)
        self._members = {member.index: member for member in spec.members}
        self._role = spec.role
        loop = asyncio.get_running_loop()
        try:
            if spec.role is not Role.SOLO:
                await loop.run_in_executor(
                    self._executor, flush_what_was_left, self._directory, self._state, stores, spec.role
                )
            if spec.role is Role.SECONDARY:
                self._group = SecondaryGroup(
                    spec, stores, self._directory, self._state, self._executor, self._group_changed
                )
                await self._group.listen()
            elif spec.role is Role.PRIMARY:
                await loop.run_in_executor(
                    self._executor, return_to_common_point, self._directory, self._state, spec.members, stores
                )
                refuse_half_copy(self._state, spec.members)
                self._group = PrimaryGroup(
                    spec,
                    stores,
                    self._directory,
                    self._state,
                    self._executor,
                    self._arbiter(spec),
                    self._group_changed,
                )
        except (TwinsiteError, OSError):
            # Half a role would be taken for a whole one at the next attempt.
            await self._tear_down()
            self._is_state_ahead = True
            raise

    async def _serve(self, member: MemberSpec) -> None:
        if member.volume_id in self._servers:
            return
        device = self._device(member)
        server = NbdServer()
        server.add_export(device)
        try:
            if member.nbd_socket is not None:
                await server.listen_unix(member.nbd_socket)
            if member.nbd_tcp is not None:
                await server.listen_tcp(*split_endpoint(member.nbd_tcp))
        except BaseException:
            await server.close()
            raise
        self._devices[member.volume_id] = device
        self._servers[member.volume_id] = server

    def _device(self, member: MemberSpec) -> StoreDevice:
        if isinstance(self._group, PrimaryGroup):
            return self._group.devices[member.volume_id]
        store = self._stores[member.index]
        return MeasuredDevice(member, store, self._executor)

    def _member_devices(self) -> dict[int, StoreDevice]:
        """Return the devices that there are, by member index: a primary has them all, whether it serves or not."""
        devices = self._group.devices if isinstance(self._group, PrimaryGroup) else self._devices
        return {index: devices[m.volume_id] for index, m in self._members.items() if m.volume_id in devices}

    async def _withdraw(self, volume_id: str) -> None:
        """Serve a volume no longer; its hosts are cut off and nothing works on its store afterwards."""
        server = self._servers.pop(volume_id, None)
        if server is not None:
            await server.close()
        device = self._devices.pop(volume_id, None)
        if device is not None:
            await device.drain()

    async def _withdraw_all(self) -> None:
        """Serve nothing any more. Every host is cut off before any disk is waited for."""
        for server in self._servers.values():
            await server.close()
        for volume_id in list(self._servers):
            await self._withdraw(volume_id)

    async def _tear_down(self) -> None:
        """End the role: no host, no stream, everything flushed and saved, no store open.

        Who is cancelled meanwhile does not end it, and who calls next waits for it: a failed flush must be recorded.
        """
        if self._ending is None or self._ending.done():
            self._ending = asyncio.create_task(self._end_all())
        await asyncio.shield(self._ending)

    async def _end_all(self) -> None:
        await self._withdraw_all()
        group, self._group = self._group, None
        if group is not None:
            await group.close()
        for store in self._stores.values():
            try:
                if self._role is Role.SOLO:
                    await asyncio.get_running_loop().run_in_executor(self._executor, store.flush)
            except StorageFault as error:
                log.error("worker.flush_failed", error=str(error))
            store.close()
        self._stores.clear()
        self._members = {}
        self._lost = set()
        self._departed = Counters()
        self._role = None
        self._renewal.role_ended()

    # Status

    def _report(self) -> None:
        """Somebody may wait for this change: send the status now."""
        self._changed.set()

    async def _publish_statuses(self) -> None:
        has_worked = True  # Starting is work.
        while True:
            busy = isinstance(self._group, PrimaryGroup) and self._group.mode() is Mode.COPYING
            waited = False
            try:
                async with asyncio.timeout(STATUS_SECONDS_MIN if busy else IDLE_STATUS_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                waited = True
            self._changed.clear()
            self._lost = self._lost_indexes()
            if self._control.publish():
                has_worked = True
            elif has_worked and waited and not busy:
                # A status counts every byte that moves.
                has_worked = False
                self._came_to_rest()
            if self._role is Role.SECONDARY and self._lost:
                self._wake.set()

    def _mode_and_resync(self) -> tuple[Mode, ResyncReport | None]:
        resync = self._group.resync_report() if isinstance(self._group, PrimaryGroup) else None
        if self._failure is not None and self._failure.code != BUSY_CODE:
            return Mode.ERROR, resync
        if self._applied is None or self._role is None:
            return Mode.STARTING, resync
        return (Mode.SOLO if self._group is None else self._group.mode()), resync

    def _lost_indexes(self) -> set[int]:
        """Return the members whose file was removed or replaced under this worker."""
        return {index for index, store in self._stores.items() if not store.is_in_place()}

    def _member_statuses(self, spec: WorkerSpec) -> list[MemberStatus]:
        sizes_bytes = {m.volume_id: self._stores[i].size_bytes for i, m in self._members.items() if i in self._stores}
        if self._group is None or self._applied is None:
            return [
                MemberStatus(
                    m.volume_id, serving=m.volume_id in self._servers, size_bytes=sizes_bytes.get(m.volume_id, 0)
                )
                for m in spec.members
            ]
        lost = {self._members[index].volume_id: self._stores[index].path for index in self._lost & self._stores.keys()}
        statuses = []
        for status in self._group.member_statuses():
            failure = status.failure
            if status.volume_id in lost:
                failure = Failure(
                    "37100048",
                    f"{lost[status.volume_id]} was removed or replaced under worker process {os.getpid()}, which still "
                    "serves it; what hosts wrote is lost when that ends: copy it out of the process, or fail over",
                )
            statuses.append(
                replace(
                    status,
                    serving=status.volume_id in self._servers,
                    failure=failure,
                    size_bytes=sizes_bytes.get(status.volume_id, 0),
                )
            )
        return statuses

    def _counters(self) -> Counters:
        # A primary's devices count whether they are served or not: a withdrawal must not look like a new beginning.
        devices = (self._group.devices if isinstance(self._group, PrimaryGroup) else self._devices).values()
        sent, received = self._group.bytes_moved() if self._group is not None else (0, 0)
        return replace(
            _sum(self._departed, _count_hosts(devices)),
            stream_bytes_sent=sent,
            stream_bytes_received=received,
            stream_connects=self._group.session_count if self._group is not None else 0,
        )


def _count_hosts(devices: Iterable[StoreDevice]) -> Counters:
    """Return what hosts did with these devices."""
    counters = Counters()
    for device in devices:
        done = Counters(device.writes, device.write_bytes, device.reads, device.read_bytes, device.flushes)
        counters = _sum(counters, done)
    return counters


def _sum(first: Counters, second: Counters) -> Counters:
    """Add what hosts did; the stream is counted elsewhere."""
    return Counters(
        writes=first.writes + second.writes,
        write_bytes=first.write_bytes + second.write_bytes,
        reads=first.reads + second.reads,
        read_bytes=first.read_bytes + second.read_bytes,
        flushes=first.flushes + second.flushes,
    )


def _is_same_volume(have: MemberSpec, wanted: MemberSpec | None) -> bool:
    """Say whether an index still means the same volume; that none is given out twice is a promise of others."""
    return wanted is not None and wanted.volume_id == have.volume_id


def _failure_of(error: Exception, role: Role) -> Failure:
    """Put a spec's failure in the API's codes."""
    side = "DR" if role is Role.SECONDARY else "production"
    if isinstance(error, RetryableError):
        return Failure(BUSY_CODE, str(error))
    if isinstance(error, StorageFault):
        if error.errno_value == errno.EBUSY:
            return Failure(BUSY_CODE, str(error))
        if error.errno_value == errno.ENOENT:
            return Failure("37100050" if role is Role.SECONDARY else "37100048", f"{side} disk is missing: {error}")
        return Failure("37100178" if role is Role.SECONDARY else "37100177", f"{side} storage is abnormal: {error}")
    return Failure("37000212", str(error))
