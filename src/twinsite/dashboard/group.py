"""The page of one group: what it does, what is the matter, what can be done, and what has happened."""

from __future__ import annotations

from fastapi import Request

from twinsite.client import ObjectMissing
from twinsite.client.event_words import changes, heading, known, outcome, told_by
from twinsite.client.models import Advice, Group, GroupEvent, GroupReport, Pair, Volume
from twinsite.dashboard import figures
from twinsite.dashboard.changes import change_buttons
from twinsite.dashboard.charts import Charts
from twinsite.dashboard.frame import Frame
from twinsite.dashboard.kept import KeptSection
from twinsite.dashboard.moves import Moves
from twinsite.dashboard.overview import sides
from twinsite.dashboard.parts import (
    Chip,
    Facts,
    Markup,
    Rows,
    box,
    button,
    link,
    set_attribute,
    set_classes,
    table,
    text,
)
from twinsite.dashboard.wording import MOVE_TITLES, action_of, is_about_sites, page_words
from twinsite.dashboard.words import NOTHING, SIGNS, Condition, Tone, amount, condition, duration, moment, since

EVENTS_SHOWN = 50

_PROOF = {
    "term": "Term",
    "secondary": "DR site, as recorded",
    "since": "In sync since",
    "acknowledged": "Last acknowledged write",
    "applied": "Last applied at the DR site",
    "behind": "Not yet at the DR site",
    "failover": "A failover now",
    "resync": "Last synchronization",
}
_DISK_COLUMNS = ("Pair", "Production disk", "DR disk", "Size", "State", "Behind by", "Trouble")
_DISK_TONES = {"active": Tone.OK, "copying": Tone.NOTICE, "error": Tone.CRITICAL}
_DISK_WORDS = {"active": "In sync", "copying": "Copying", "active-stopped": "Paused", "inactive": "Not in sync"}


def condition_of(group: Group) -> Condition:
    """Return how a group is."""
    report = group.twinsite
    percent = report.progress.percent if report is not None else None
    is_held = report is not None and report.holding_since is not None
    return condition(group.status, group.replication_status, group.fault_level, percent, is_held=is_held)


class _Direction:
    """Both sites of the group and the arrow between them."""

    def __init__(self) -> None:
        with box("div", "direction large"):
            self._left = text("span", "", "end")
            self._arrow = Markup()
            self._right = text("span", "", "end")

    def update(self, group: Group, report: GroupReport, sites: list[str]) -> None:
        left, right, points_right = sides(sites, report.primary_station, report.secondary_station)
        primary, secondary = ("primary", "DR") if points_right else ("DR", "primary")
        self._left.text, self._right.text = f"{left} · {primary}", f"{right} · {secondary}"
        self._arrow.update(figures.arrow(condition_of(group).flow, points_right=points_right))


class _AdviceRow:
    """What is the matter, and the button for what to do about it."""

    def __init__(self, advice: Advice, moves: Moves) -> None:
        self._action: str | None = None
        self.root = box("li", f"advice {advice.severity}")

        async def show() -> None:
            if self._action is not None:
                await moves.show(self._action)

        with self.root:
            self._sign = text("span", "", "sign", aria_hidden="true")
            with box("div"):
                self._text = text("p")
                self._plan = button("", show, "small")
                self._sites = link("Show the sites", "/sites")
                self._command = text("code")

    def update(self, advice: Advice) -> None:
        set_classes(self.root, f"advice {advice.severity}")
        self._sign.text = SIGNS[Tone(advice.severity)]
        self._text.text = page_words(advice.text)
        self._action = action_of(advice.command)
        self._plan.visible = self._action is not None
        self._plan.text = f"Show the plan: {MOVE_TITLES[self._action]}" if self._action is not None else ""
        self._sites.visible = is_about_sites(advice.command)
        self._command.text = advice.command or ""
        self._command.visible = bool(advice.command) and not self._plan.visible and not self._sites.visible


class _Progress:
    """How far a synchronization is."""

    def __init__(self) -> None:
        self._box = box("div", "progress")
        with self._box:
            self._bar = box("progress", max="100", aria_label="Synchronization")
            self._words = text("p")

    def update(self, group: Group, report: GroupReport) -> None:
        numbers = report.progress
        self._box.visible = group.replication_status == "copying"
        set_attribute(self._bar, "value", None if numbers.percent is None else str(numbers.percent))
        words = f"{numbers.percent or 0} %, {amount(numbers.bytes_done)} of {amount(numbers.bytes_total)}"
        if numbers.bytes_per_second:
            words += f", {amount(numbers.bytes_per_second)}/s"
        if numbers.seconds_left:
            words += f", {duration(numbers.seconds_left)} left"
        self._words.text = words


class _DiskRow:
    """A pair of the group, with its two volumes."""

    def __init__(self, shown: tuple[Pair, GroupReport, dict[str, Volume]]) -> None:
        self.root = box("tr")
        with self.root:
            self._pair = text("th", scope="row")
            with box("td", data_label="Production disk"):
                self._production = link("", "/volumes/")
            with box("td", data_label="DR disk"):
                self._dr = link("", "/volumes/")
            self._size = text("td", data_label="Size")
            with box("td", data_label="State"):
                self._state = Chip()
            self._behind = text("td", data_label="Behind by")
            self._failure = text("td", data_label="Trouble")

    def update(self, shown: tuple[Pair, GroupReport, dict[str, Volume]]) -> None:
        pair, report, volumes = shown
        member = next((found for found in report.members if found.replication_id == pair.id), None)
        self._pair.text = pair.name or pair.id
        if member is not None:
            _show_volume(self._production, member.production_volume_id, volumes)
            _show_volume(self._dr, member.dr_volume_id, volumes)
            self._behind.text = amount(member.dirty_bytes)
        sizes = [volumes[volume_id].size for volume_id in pair.volume_ids if volume_id in volumes]
        self._size.text = f"{max(sizes)} GiB" if sizes else NOTHING
        status = pair.replication_status or "inactive"
        words = _DISK_WORDS.get(status, status.capitalize())
        if pair.progress is not None and status == "copying":
            words = f"{words}, {pair.progress} %"
        self._state.update(_DISK_TONES.get(status, Tone.WARNING), words)
        self._failure.text = pair.failure_detail or NOTHING


def _show_volume(shown: object, volume_id: str, volumes: dict[str, Volume]) -> None:
    volume = volumes.get(volume_id)
    name = volume.name if volume is not None else None
    shown.text = f"{name or volume_id} ({volume.availability_zone})" if volume is not None else volume_id  # type: ignore[attr-defined]
    set_attribute(shown, "href", f"/ui/volumes/{volume_id}")  # type: ignore[arg-type]


class _EventRow:
    def __init__(self, event: GroupEvent) -> None:
        self.root = box("li", f"event {'failed' if event.result not in ('done', 'ok', 'accepted', 'noop') else ''}")
        with self.root:
            text("time", moment(event.created_at), datetime=event.created_at.isoformat())
            with box("div"):
                with box("p"):
                    text("strong", _capitalized(heading(event)))
                    result = outcome(event)
                    text("span", f", {told_by(event)}{'' if result is None else f': {result}'}")
                changed = [f"{change.label}: {change.before} → {change.after}" for change in changes(event)]
                if changed:
                    text("p", _capitalized("; ".join(changed)), "hint")
                if event.message:
                    text("p", page_words(event.message))
                text("p", _capitalized(known(event)), "hint")

    def update(self, event: GroupEvent) -> None:
        """Nothing changes an event."""


def _capitalized(words: str) -> str:
    """Return words as a sentence begins."""
    return words[:1].upper() + words[1:]


def _failover_words(report: GroupReport) -> str:
    outlook = report.failover
    if outlook.possible:
        return "Possible, loses nothing" if outlook.loss is None else f"Possible, loses {outlook.loss.description}"
    loss = f"; a forced one loses {outlook.loss.description}" if outlook.loss is not None else ""
    return f"Not possible: {page_words(outlook.reason or 'nobody says why')}{loss}"


def _resync_words(report: GroupReport) -> str:
    last = report.last_resync
    if last is None:
        return "None yet"
    sent = f"{amount(last.bytes_shipped)} sent, {amount(last.bytes_zero)} empty"
    return f"{last.kind}, {amount(last.bytes_total)}: {sent}, ended {moment(last.finished_at)}"


class _GroupPage:
    """What the page has and knows."""

    def __init__(self, frame: Frame, group_id: str) -> None:
        self._frame = frame
        self._group_id = group_id
        self._name = group_id
        self._pairs: list[Pair] = []
        self._volumes: dict[str, Volume] = {}
        self._sites: list[str] = []
        with box("div", "row title"):
            self._heading = text("h1", "Group")
            self._state = Chip()
        self._description = text("p", "", "hint")
        self._direction = _Direction()
        moves = Moves(frame, self._named, self._again)
        with box("section", aria_label="What is the matter"):
            self._advice = Rows(box("ul", "advices"), lambda advice: _AdviceRow(advice, moves))
        self._progress = _Progress()
        moves.show_buttons()
        with box("section", aria_labelledby="activity"):
            text("h2", "The last hour", id="activity")
            self._charts = Charts()
        with box("section", aria_labelledby="proof"):
            text("h2", "What is known", id="proof")
            self._proof = Facts(_PROOF)
        with box("section", aria_labelledby="disks"):
            text("h2", "Disks", id="disks")
            self._disks = Rows(table(_DISK_COLUMNS), _DiskRow)
            change_buttons(frame, self._named, self._pairs, self._volumes, self._again)
        self._kept = KeptSection()
        with box("section", aria_labelledby="events"):
            text("h2", "Events", id="events")
            self._events = Rows(box("ol", "events"), _EventRow, "Nothing has happened yet.")

    def _named(self) -> tuple[str, str]:
        return self._group_id, self._name

    async def _again(self) -> None:
        await self._frame.attempt(self.refresh)

    async def refresh(self) -> None:
        """Read everything anew."""
        client = self._frame.client
        try:
            group = await client.group(self._group_id)
        except ObjectMissing:
            self._heading.text = "There is no such group"
            raise
        self._name = group.name or group.id
        self._heading.text, self._description.text = self._name, group.description or ""
        how = condition_of(group)
        self._state.update(how.tone, how.words)
        if not self._sites:
            self._sites = sorted(zone.name for zone in await client.zones())
        # The dialogs hold on to these two.
        self._pairs[:] = await client.pairs(group_id=self._group_id)
        self._volumes.clear()
        self._volumes.update({volume.id: volume for volume in await client.volumes()})
        report = group.twinsite
        if report is not None:
            self._direction.update(group, report, self._sites)
            self._progress.update(group, report)
            self._advice.update({item.text: item for item in report.advice})
            self._kept.update(report)
            _show_proof(self._proof, self._frame, report)
            self._disks.update({pair.id: (pair, report, self._volumes) for pair in self._pairs})
        found = await client.group_events(self._group_id, EVENTS_SHOWN)
        self._events.update({event.id: event for event in found})
        await self._charts.refresh(client, self._group_id)


async def group_page(request: Request, group_id: str) -> None:
    """Build the page."""
    frame = Frame(request, "Group", "/")
    with frame.content():
        page = _GroupPage(frame, group_id)
    await frame.keep_live(page.refresh)


def _show_proof(proof: Facts, frame: Frame, report: GroupReport) -> None:
    stale = f"stale since {moment(report.stale_since)}" if report.stale_since is not None else report.secondary
    proof.update(
        term=str(report.term),
        secondary=f"{report.secondary_station}: {stale.replace('_', ' ')}",
        since=since(report.in_sync_since, frame.now),
        acknowledged=_number(report.last_acknowledged_sequence),
        applied=_number(report.last_applied_sequence),
        behind=amount(report.dirty_bytes),
        failover=_failover_words(report),
        resync=_resync_words(report),
    )


def _number(sequence: int | None) -> str:
    return NOTHING if sequence is None else f"{sequence:,}"
