"""The sites, for administrators: how they are, giving up one that is gone for good, and using one again."""

from __future__ import annotations

from fastapi import Request

from twinsite.client import Forbidden
from twinsite.client.models import Site
from twinsite.dashboard.dialogs import Dialog, listed
from twinsite.dashboard.frame import Frame
from twinsite.dashboard.parts import Chip, Rows, box, button, table, text
from twinsite.dashboard.words import NOTHING, Tone, amount, count, moment

_COLUMNS = ("Site", "State", "Node", "Last heard", "Free", "Volumes", "To remove", "Action")
_FOR_ADMINISTRATORS = "Only administrators of the installation see the sites' machines, and give up one that is gone."


class _SiteRow:
    def __init__(self, page: _SitesPage, site: Site) -> None:
        self._site = site
        self.root = box("tr")
        with self.root:
            text("th", site.name, scope="row")
            with box("td", data_label="State"):
                self._state = Chip()
            self._node = text("td", data_label="Node")
            self._heard = text("td", data_label="Last heard")
            self._free = text("td", data_label="Free")
            self._volumes = text("td", data_label="Volumes")
            self._to_remove = text("td", data_label="To remove")
            with box("td"):
                name = site.name
                self._forget = button(
                    "Give up", lambda: page.forget(self._site), "quiet small", aria_label=f"Give up {name}"
                )
                self._restore = button(
                    "Use again", lambda: page.restore(self._site), "quiet small", aria_label=f"Use {name} again"
                )

    def update(self, site: Site) -> None:
        self._site = site
        self._state.update(*_state(site))
        self._node.text = site.node_name or NOTHING
        self._heard.text = moment(site.last_seen_at)
        self._free.text = f"{amount(site.pool_free_bytes)} of {amount(site.pool_total_bytes)}"
        self._volumes.text, self._to_remove.text = str(site.volumes), str(site.to_remove)
        self._forget.visible, self._restore.visible = site.lost_at is None, site.lost_at is not None


def _state(site: Site) -> tuple[Tone, str]:
    if site.lost_at is not None:
        return Tone.CRITICAL, f"Given up since {moment(site.lost_at)}"
    return (Tone.OK, "Connected") if site.connected else (Tone.CRITICAL, "Not heard")


class _SitesPage:
    """What the page can do."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        with box("div", "row title"):
            text("h1", "Sites")
        self._said = text("p", "", "summary")
        self._table = box("div")
        with self._table:
            self._rows = Rows(table(_COLUMNS), lambda site: _SiteRow(self, site))

    async def refresh(self) -> None:
        """Read everything anew."""
        try:
            found = await self._frame.client.sites()
        except Forbidden:
            self._table.visible = False
            self._said.text = _FOR_ADMINISTRATORS
            return
        self._said.text = f"{count(len(found), 'site', 'sites')}."
        self._rows.update({site.name: site for site in found})

    async def again(self) -> None:
        """Read everything anew after a change."""
        await self._frame.attempt(self.refresh)

    def forget(self, site: Site) -> None:
        """Give a site up."""
        dialog = Dialog(self._frame, f"Give up {site.name}", "Give up", is_dangerous=True)
        with dialog.body:
            listed(
                "Do this first",
                [
                    f"Make sure that the machine of {site.name} is gone for good, or bring it back instead.",
                    f"Fail over the groups whose primary site is {site.name}.",
                ],
            )
            listed(
                "What happens then",
                [
                    f"Nothing waits for the node of {site.name} any more.",
                    (
                        f"Its groups, pairs and volumes can be deleted. A node of {site.name} that comes back removes "
                        "them and serves nothing."
                    ),
                ],
                "ol",
            )
            text("h3", "What is lost")
            volumes = count(site.volumes, "volume", "volumes")
            text("p", f"The content of {volumes} in {site.name} is never used again.", "loss")
        dialog.ask_for_name(site.name)
        dialog.open(lambda: self._frame.client.forget_site(site.name), f"{site.name} is given up.", self.again)

    def restore(self, site: Site) -> None:
        """Use a site again."""
        dialog = Dialog(self._frame, f"Use {site.name} again", "Use again")
        with dialog.body:
            text("p", "New volumes can be made there then. All that it had must have been deleted before.")
        dialog.open(lambda: self._frame.client.restore_site(site.name), f"{site.name} is used again.", self.again)


async def sites_page(request: Request) -> None:
    """Build the page."""
    frame = Frame(request, "Sites", "/")
    with frame.content():
        page = _SitesPage(frame)
    await frame.keep_live(page.refresh)
