"""The calls on sites, for administrators."""

from __future__ import annotations

from twinsite.client.models import Site
from twinsite.client.session import Session, exchange, fetch_list
from twinsite.client.steps import Plan

SITES = "os-vendor-sites"


def list_sites(session: Session) -> Plan[list[Site]]:
    """Return all sites, with their nodes and pools."""
    return (yield from fetch_list(session, Site, "sites", SITES))


def forget_site(session: Session, name: str) -> Plan[None]:
    """Give up a site that is gone for good."""
    yield from exchange(session, "POST", f"{SITES}/{name}/action", {"os-forget-site": None})


def restore_site(session: Session, name: str) -> Plan[None]:
    """Let a site be used again that was given up and has no volumes any more."""
    yield from exchange(session, "POST", f"{SITES}/{name}/action", {"os-restore-site": None})
