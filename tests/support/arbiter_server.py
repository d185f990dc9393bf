"""The arbiter alone, over HTTP, for tests of workers without a controller: the real rules on a row in memory."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from twinsite.core import arbiter
from twinsite.core.arbiter import Refusal, Row

TOKEN = "arbiter-token-of-the-tests"


class ArbiterServer:
    """Listens on a port of the kernel's choice. `is_reachable = False` makes it refuse to answer.

    `before_answer` is called with the name of each call before it is decided.
    """

    def __init__(self, primary_site: str = "az1") -> None:
        self.row = arbiter.first_row(primary_site, time.time())
        self.calls: list[str] = []
        self.is_reachable = True
        self.before_answer: Callable[[str], None] = lambda call: None
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server._answer(self)

            def log_message(self, *arguments: Any) -> None:
                """Say nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/arbiter"

    def close(self) -> None:
        """Stop listening."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def has_in_sync(self) -> bool:
        """Say whether the secondary is recorded as in sync."""
        return self.row.secondary is arbiter.Secondary.IN_SYNC

    def promote(self, site: str, *, force: bool = False) -> Row:
        """Fail over, as the controller does."""
        with self._lock:
            row = arbiter.promote(self.row, site=site, version=self.row.version, force=force, now=time.time())
            assert isinstance(row, Row), row
            self.row = row
            return row

    def promote_if_in_sync(self, site: str) -> bool:
        """Fail over unless that is refused as a loss; say whether it was done."""
        with self._lock:
            row = arbiter.promote(self.row, site=site, version=self.row.version, force=False, now=time.time())
            if isinstance(row, Row):
                self.row = row
            return isinstance(row, Row)

    def switch(self, site: str) -> Row:
        """Switch over, as the controller does."""
        with self._lock:
            row = arbiter.switch(self.row, site=site, term=self.row.term, version=self.row.version)
            assert isinstance(row, Row), row
            self.row = row
            return row

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        if not self.is_reachable or handler.headers["X-Twinsite-Worker-Token"] != TOKEN:
            handler.send_error(503 if handler.headers["X-Twinsite-Worker-Token"] == TOKEN else 401)
            return
        with self._lock:
            result = self._decide(body)
            row = result.row if isinstance(result, Refusal) else result
            self.row = row
        reason = result.reason.value if isinstance(result, Refusal) else None
        answer = json.dumps({"granted": reason is None, "reason": reason, "row": dataclasses.asdict(row)}).encode()
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer)

    def _decide(self, body: dict[str, Any]) -> Row | Refusal:
        call, site, term = body["call"], body["site"], body["term"]
        self.calls.append(call)
        self.before_answer(call)
        if call == "read":
            return self.row
        if call == "suspend_secondary":
            return arbiter.suspend_secondary(self.row, site=site, term=term, version=body["version"], now=time.time())
        return arbiter.secondary_in_sync(self.row, site=site, term=term, version=body["version"])
