"""Whether what runs is of this release, as controllers and nodes tell Prometheus; and whether a node is ready."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx

import twinsite
from twinsite.doctor.findings import Finding, error, ok, warning

ANSWER_SECONDS_MAX = 5.0
_BUILD = re.compile(r'^twinsite_(?:controller|node)_build_info\{[^}\n]*\bversion="([^"\n]*)"', re.MULTILINE)


def judge_release(what: str, answer: httpx.Response) -> Iterator[Finding]:
    """Compare the release that an answer of /metrics tells with this one; say nothing where it is not told."""
    told = _BUILD.search(answer.text) if answer.status_code == httpx.codes.OK else None
    if told is None:
        return
    release, own = told.group(1), twinsite.__version__
    if release == own:
        yield ok("releases", f"{what} runs {release}, as this machine does")
    else:
        mend = "finish the upgrade, in the order of docs/operating.md: controller, nodes, workers"
        yield warning("releases", f"{what} runs {release}, and this machine has {own}", mend)


def check_node(endpoint: str) -> Iterator[Finding]:
    """Ask a node at its --http-listen, HOST:PORT, whether it is ready, and of which release it is."""
    try:
        with httpx.Client(trust_env=False, timeout=ANSWER_SECONDS_MAX) as http:
            ready = http.get(f"http://{endpoint}/readyz")
            metrics = http.get(f"http://{endpoint}/metrics")
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as cause:
        mend = "see that the node runs, that its --http-listen is this address, and that no firewall is in between"
        yield error("node", f"{endpoint} cannot be reached: {cause or type(cause).__name__}", mend)
        return
    if ready.status_code == httpx.codes.OK:
        yield ok("node", f"{endpoint} is ready")
    else:
        yield error("node", f"{endpoint} is not ready: {ready.text[:200]}", "see its log, and the checks that it names")
    yield from judge_release(f"the node at {endpoint}", metrics)
