"""What the node's HTTP listener says of the node: that it lives, and whether it can do its work."""

from __future__ import annotations

from http import HTTPStatus

from twinsite.node.agent import Agent
from twinsite.node.http import Answer, Page, json_answer


def probe_pages(agent: Agent, site: str) -> dict[str, Page]:
    """Return the pages /healthz and /readyz of a node."""

    async def healthz() -> Answer:
        """The event loop turns: that is all that is asked."""
        return json_answer(HTTPStatus.OK, {"status": "ok", "site": site})

    async def readyz() -> Answer:
        """Ready when its first desired state is in force and its pool can be used.

        A controller that does not answer is told of, but makes no node unready: hosts are served without it.
        """
        checks = {
            "desired_state": agent.ready.is_set(),
            "pool": agent.is_pool_readable,
            "controller": agent.is_controller_answering,
        }
        is_ready = checks["desired_state"] and checks["pool"]
        status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        return json_answer(status, {"status": "ready" if is_ready else "not ready", "site": site, "checks": checks})

    return {"/healthz": healthz, "/readyz": readyz}
