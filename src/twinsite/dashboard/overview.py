"""The overview: sites left and right, and between them the groups with the direction of their replication."""

from __future__ import annotations

from fastapi import Request

from twinsite.client.overviews import GroupOverview, Overview, SiteOverview
from twinsite.dashboard import figures
from twinsite.dashboard.frame import Frame
from twinsite.dashboard.parts import Chip, Markup, Rows, box, link, set_attribute, set_classes, text
from twinsite.dashboard.wording import page_words
from twinsite.dashboard.words import Condition, Tone, amount, condition, count, duration, moment

GROUPS_SHOWN_MAX = 100
"""A page with more is slow, and nobody reads it."""

_RANK = {Tone.CRITICAL: 0, Tone.WARNING: 1, Tone.NOTICE: 2, Tone.OK: 3}
_SITE_WORDS = {
    "connected": (Tone.OK, "Connected"),
    "silent": (Tone.CRITICAL, "Not heard"),
    "lost": (Tone.CRITICAL, "Given up"),
    "new": (Tone.WARNING, "Never heard"),
}


def condition_of(group: GroupOverview) -> Condition:
    """Return how a group of the overview is."""
    return condition(
        group.status,
        group.replication_status,
        group.fault_level,
        group.progress.percent,
        is_held=group.holding_since is not None,
    )


def worst_first(groups: list[GroupOverview]) -> dict[str, GroupOverview]:
    """Return the groups by their ids: those that need somebody first, then by name."""
    ordered = sorted(groups, key=lambda group: (_RANK[tone_of(group)], group.name or "", group.id))
    return {group.id: group for group in ordered}


def tone_of(group: GroupOverview) -> Tone:
    """Return how bad a group is: as its state or the worst advice says, whichever is worse."""
    tones = [condition_of(group).tone, *(Tone(advice.severity) for advice in group.advice)]
    return min(tones, key=lambda tone: _RANK[tone])


class _SiteCard:
    def __init__(self, site: SiteOverview) -> None:
        self.root = box("section", "card site", aria_label=f"Site {site.name}")
        with self.root:
            with box("div", "row"):
                text("h2", site.name)
                self._state = Chip()
            self._primary = text("p", "")
            self._node = text("p", "", "hint")
            self._pool = text("p", "", "hint")
            self._meter = box("meter", "pool", min="0", aria_label=f"Pool of {site.name} that is used")

    def update(self, site: SiteOverview) -> None:
        self._state.update(*_SITE_WORDS.get(site.state, (Tone.WARNING, site.state)))
        self._primary.text = f"Primary of {count(site.groups_primary, 'group', 'groups')}"
        seen = "" if site.connected or site.last_seen_at is None else f", last heard {moment(site.last_seen_at)}"
        self._node.text = f"Node {site.node_name or 'unknown'}{seen}" if site.node_name or seen else ""
        total, free = site.pool_total_bytes, site.pool_free_bytes
        self._meter.visible = bool(total)
        if total and free is not None:
            self._pool.text = f"{amount(free)} free of {amount(total)}"
            for name, value in (
                ("max", total),
                ("value", total - free),
                ("low", total * 8 // 10),
                ("high", total * 9 // 10),
            ):
                set_attribute(self._meter, name, str(value))


class _GroupCard:
    def __init__(self, sites: list[str], group: GroupOverview) -> None:
        self._sites = sites
        self.root = box("article", "card group", aria_label=group.name or group.id)
        with self.root:
            with box("div", "row"):
                with box("h3"):
                    self._name = link(group.name or group.id, f"/groups/{group.id}")
                self._state = Chip()
            with box("div", "direction"):
                self._left = text("span", "", "end")
                self._arrow = Markup()
                self._right = text("span", "", "end")
            self._direction = text("p", "", "hint")
            self._advice = text("p", "", "advice")

    def update(self, group: GroupOverview) -> None:
        how = condition_of(group)
        self._name.text = group.name or group.id
        self._state.update(how.tone, how.words)
        left, right, points_right = sides(self._sites, group.primary_site, group.secondary_site)
        primary, secondary = ("primary", "DR") if points_right else ("DR", "primary")
        self._left.text, self._right.text = f"{left} · {primary}", f"{right} · {secondary}"
        self._arrow.update(figures.arrow(how.flow, points_right=points_right))
        self._direction.text = _state_line(group)
        worst = next(iter(group.advice), None)
        self._advice.text = page_words(worst.text) if worst is not None else ""
        set_classes(self._advice, f"advice {worst.severity}" if worst is not None else "advice")


def sides(sites: list[str], primary: str, secondary: str) -> tuple[str, str, bool]:
    """Return who stands left, who right, and whether the arrow points to the right: sites keep their places."""
    order = {name: index for index, name in enumerate(sites)}
    if order.get(primary, 0) <= order.get(secondary, 1):
        return primary, secondary, True
    return secondary, primary, False


def _state_line(group: GroupOverview) -> str:
    parts = [f"From {group.primary_site} to {group.secondary_site}"]
    if group.dirty_bytes:
        parts.append(f"behind by {amount(group.dirty_bytes)}")
    if group.progress.seconds_left and group.replication_status == "copying":
        parts.append(f"{duration(group.progress.seconds_left)} left")
    return ", ".join(parts)


def summary(overview: Overview) -> str:
    """Return the one sentence that a person reads first."""
    if not overview.groups:
        return "Nothing is protected yet."
    tones = [tone_of(group) for group in overview.groups]
    good = sum(1 for tone in tones if tone is Tone.OK)
    bad = sum(1 for tone in tones if tone in (Tone.CRITICAL, Tone.WARNING))
    text_ = f"{count(len(tones), 'group', 'groups')}: {good} in order"
    return f"{text_}, {bad} {'needs' if bad == 1 else 'need'} somebody." if bad else f"{text_}."


async def overview_page(request: Request) -> None:
    """Build the page."""
    frame = Frame(request, "Overview", "/")
    with frame.content():
        with box("div", "row title"):
            text("h1", "Overview")
            link("Webhooks", "/webhooks")
            manage = link("Manage the sites", "/sites")
        manage.visible = False
        said = text("p", "", "summary")
        more = text("p", f"These are {GROUPS_SHOWN_MAX} of the groups, those that need somebody first.", "hint")
        more.visible = False
        with box("div", "overview"):
            left = Rows(box("div", "sites left"), _SiteCard)
            middle = box("div", "middle")
            right = Rows(box("div", "sites right"), _SiteCard)
        names: list[str] = []
        with middle:
            groups = Rows(box("div", "groups"), lambda group: _GroupCard(names, group))
            start = box("div", "card start")
            with start:
                text("p", "Protect your first disks: choose them, and the page makes their twins and a group.")
                link("Protect disks", "/protect", "button primary")
            start.visible = False

    async def refresh() -> None:
        found = await frame.client.overview()
        # Who may see the pools may see the rest.
        manage.visible = any(site.pool_total_bytes is not None for site in found.sites)
        names[:] = [site.name for site in found.sites]
        half = (len(found.sites) + 1) // 2
        left.update({site.name: site for site in found.sites[:half]})
        right.update({site.name: site for site in found.sites[half:]})
        groups.update(dict(list(worst_first(found.groups).items())[:GROUPS_SHOWN_MAX]))
        start.visible = not found.groups
        said.text = summary(found)
        more.visible = len(found.groups) > GROUPS_SHOWN_MAX

    await frame.keep_live(refresh)
