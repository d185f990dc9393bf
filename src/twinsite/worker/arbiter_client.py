"""A worker's end of its talk with the arbiter: one HTTP request for each call. Calls block, so they belong in a thread.

The client of the standard library, and imported at the first call: a machine may run hundreds of workers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from twinsite.core.arbiter import Reason, Refusal, Row, Secondary
from twinsite.core.limits import ARBITER_SECONDS_MAX
from twinsite.errors import PeerViolation, RetryableError
from twinsite.messages import from_wire

if TYPE_CHECKING:
    import http.client

TOKEN_HEADER = "X-Twinsite-Worker-Token"
ANSWER_BYTES_MAX = 64 * 1024
EXCERPT_CHARACTERS_MAX = 300
"""How much of an unexpected answer is quoted."""


class ArbiterClient:
    """Asks the arbiter of one group, for the primary at `site` under `term`. Make another when one of these changes."""

    def __init__(
        self,
        url: str,
        token: str,
        site: str,
        term: int,
        *,
        ca_file: str | None = None,
        timeout_seconds: float = ARBITER_SECONDS_MAX,
        cause: Callable[[], str] = lambda: "",
    ) -> None:
        """Ask at `url` (http or https), with the group's `token`. Nothing is sent before the first call.

        `cause` gives the request of the API that a call follows from, for the event log; empty for nobody's.
        At an https address who answers must be vouched for by `ca_file` alone, or by the system's authorities.
        """
        self.url = url
        self._token = token
        self._site = site
        self._term = term
        self._ca_file = ca_file
        self._timeout_seconds = timeout_seconds
        self._cause = cause

    def read(self) -> Row:
        """Return the group's row. Raises `RetryableError` when the arbiter cannot be reached or answers nonsense."""
        answer = self._ask("read", 0)
        if isinstance(answer, Refusal):
            raise RetryableError(f"the arbiter at {self.url} refuses to be read: {answer.reason.value}")
        return answer

    def suspend_secondary(self, version: int) -> Row | Refusal:
        """Ask to acknowledge writes without the secondary, having seen the row's `version`.

        A `Row` is the grant, durable at the arbiter. Raises `RetryableError` as `read`; then the call may have taken
        effect or not, and the next one tells.
        """
        return self._granted(self._ask("suspend_secondary", version), version, Secondary.STALE)

    def secondary_in_sync(self, version: int) -> Row | Refusal:
        """Report that the secondary has everything and is waited for. Otherwise as `suspend_secondary`."""
        return self._granted(self._ask("secondary_in_sync", version), version, Secondary.IN_SYNC)

    def _granted(self, answer: Row | Refusal, version: int, secondary: Secondary) -> Row | Refusal:
        """Believe a grant only when the row with it is the one that was asked for."""
        if isinstance(answer, Row) and (
            (answer.term, answer.primary_site, answer.secondary) != (self._term, self._site, secondary)
            or answer.version != version + 1
        ):
            raise RetryableError(f"the arbiter at {self.url} granted something else than was asked: {answer}")
        return answer

    def _ask(self, call: str, version: int) -> Row | Refusal:
        question = {"call": call, "site": self._site, "term": self._term, "version": version}
        status, text = self._post({**question, "request_id": self._cause()})
        if status != 200:
            raise RetryableError(f"the arbiter at {self.url} answers {status}: {text[:EXCERPT_CHARACTERS_MAX]!r}")
        try:
            return _parse(json.loads(text))
        except (ValueError, RecursionError, PeerViolation) as error:
            excerpt = text[:EXCERPT_CHARACTERS_MAX]
            raise RetryableError(f"the arbiter at {self.url} answers nonsense ({error}): {excerpt!r}") from error

    def _post(self, body: object) -> tuple[int, str]:
        """Return the status and the text of the answer. No redirect is followed, and no proxy used."""
        import http.client  # noqa: PLC0415
        import urllib.parse  # noqa: PLC0415

        try:
            parts = urllib.parse.urlsplit(self.url)
            connection = self._connection(parts.scheme, parts.hostname or "", parts.port)
            try:
                headers = {"Content-Type": "application/json", TOKEN_HEADER: self._token}
                connection.request("POST", parts.path, json.dumps(body), headers)
                answer = connection.getresponse()
                return answer.status, answer.read(ANSWER_BYTES_MAX).decode(errors="replace")
            finally:
                connection.close()
        except (OSError, ValueError, http.client.HTTPException) as error:
            detail = "it did not answer in time" if isinstance(error, TimeoutError) else str(error) or repr(error)
            raise RetryableError(f"the arbiter at {self.url} cannot be reached: {detail}") from error

    def _connection(self, scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
        import http.client  # noqa: PLC0415

        if scheme == "https":
            import ssl  # noqa: PLC0415

            # Read at each call: the authority may have been replaced since.
            trusted = ssl.create_default_context(cafile=self._ca_file)
            return http.client.HTTPSConnection(host, port, timeout=self._timeout_seconds, context=trusted)
        if scheme == "http" and host:
            return http.client.HTTPConnection(host, port, timeout=self._timeout_seconds)
        raise ValueError("the address must begin with http:// or https:// and name a host")


def _parse(body: object) -> Row | Refusal:
    """Return what an answer says. Raises `PeerViolation` for one that is none."""
    if not isinstance(body, dict) or not isinstance(body.get("granted"), bool):
        raise PeerViolation("no answer to the question")
    row = from_wire(Row, body.get("row"), "row")
    if body["granted"]:
        return row
    return Refusal(from_wire(Reason, body.get("reason"), "reason"), row)
