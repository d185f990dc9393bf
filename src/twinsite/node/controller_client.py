"""The node's end of its conversation with the controller: a report up, the desired state down."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx

from twinsite.errors import ConfigurationError, PeerViolation, RetryableError
from twinsite.messages import NodeDesired, NodeReport, from_wire, to_wire

TOKEN_HEADER = "X-Twinsite-Node-Token"
CONNECT_SECONDS_MAX = 5.0
ANSWER_SECONDS_MAX = 10.0
"""Longest time for an answer, on top of the time for which the controller was asked to hold it."""
EXCERPT_CHARACTERS_MAX = 300
"""How much of an unexpected answer is quoted."""


class ControllerClient:
    """Posts reports. Close it after use."""

    def __init__(self, controller_url: str, site: str, token: str, ca_file: Path | None = None) -> None:
        self._url = f"{controller_url.rstrip('/')}/internal/v1/nodes/{site}/sync"
        # No proxy and no .netrc from the environment: the address was given on purpose.
        trusted = ssl.create_default_context(cafile=ca_file) if ca_file is not None else True
        self._http = httpx.AsyncClient(headers={TOKEN_HEADER: token}, trust_env=False, verify=trusted)

    async def sync(self, report: NodeReport) -> NodeDesired:
        """Post the report and return the desired state.

        Raises `RetryableError` when the controller cannot be reached or fails, `ConfigurationError` when it refuses
        this node, and `PeerViolation` for an answer that is none.
        """
        timeout = httpx.Timeout(report.wait_seconds + ANSWER_SECONDS_MAX, connect=CONNECT_SECONDS_MAX)
        try:
            answer = await self._http.post(self._url, json=to_wire(report), timeout=timeout)
        except httpx.HTTPError as error:
            detail = str(error) or type(error).__name__
            raise RetryableError(f"the controller at {self._url} cannot be reached: {detail}") from error
        if answer.is_success:
            return _parse(answer)
        message = f"the controller at {self._url} answers {answer.status_code}: {answer.text[:EXCERPT_CHARACTERS_MAX]}"
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise ConfigurationError(f"{message}; check that --token-file holds the controller's node token")
        if answer.is_client_error:
            raise ConfigurationError(f"{message}; check --site, and that node and controller are of one version")
        raise RetryableError(message)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _parse(answer: httpx.Response) -> NodeDesired:
    try:
        decoded = answer.json()
    except ValueError:
        raise PeerViolation(f"the answer is not JSON: {answer.text[:EXCERPT_CHARACTERS_MAX]!r}") from None
    return from_wire(NodeDesired, decoded, "desired")
