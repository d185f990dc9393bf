"""What the tests of the client share: a real controller with two obliging nodes, and a driver of plans without any."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from tests.support.running_api import Api, running_api
from twinsite.client import Access, ApiUnreachable, Trust
from twinsite.client.session import Session
from twinsite.client.steps import Pause, Plan, Renew, Reply, Send

Result = TypeVar("Result")
Outcome = Reply | ApiUnreachable


class NoLogin:
    """Gives one access after the other without asking anybody."""

    trust = Trust("a test")

    def __init__(self) -> None:
        """Begin with token-1."""
        self.count = 0

    def plan(self) -> Plan[Access]:
        """Return the next access."""
        yield from ()
        self.count += 1
        return Access("http://api/v2/p", f"token-{self.count}")


class Driver:
    """Takes the steps of plans: answers each request with the next of `outcomes`, and notes what was asked for."""

    def __init__(self, *outcomes: Outcome) -> None:
        """Answer with `outcomes`, in their order."""
        self.session = Session(NoLogin())
        self.outcomes = list(outcomes)
        self.sent: list[Send] = []
        self.pauses: list[float] = []

    def run(self, plan: Plan[Result]) -> Result:
        """Return what the plan returns, raise what it raises."""
        answer: Any = None
        error: ApiUnreachable | None = None
        while True:
            try:
                step = plan.throw(error) if error is not None else plan.send(answer)
            except StopIteration as end:
                result: Result = end.value
                return result
            answer, error = None, None
            if isinstance(step, Renew):
                assert step.used is self.session.access
                self.session.access = self.run(self.session.login.plan())
            elif isinstance(step, Pause):
                self.pauses.append(step.seconds)
            else:
                self.sent.append(step)
                outcome = self.outcomes.pop(0)
                answer, error = (outcome, None) if isinstance(outcome, Reply) else (None, outcome)


def reply(body: object = None, status: int = 200, **headers: str) -> Reply:
    """Return an answer with a JSON body; underscores in the names of headers stand for hyphens."""
    content = b"" if body is None else json.dumps(body).encode()
    return Reply(status, "a reason", {name.replace("_", "-"): value for name, value in headers.items()}, content)


def refusal(status: int, message: str = "no", code: str = "EVS.5400") -> Reply:
    """Return a refusal of the API itself."""
    return reply({"fault": {"code": status, "message": message}}, status, x_twinsite_error_code=code)


Drive = Callable[..., Driver]


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One controller for all tests; each test gives its objects names of their own."""
    with running_api(tmp_path_factory.mktemp("controller")) as api:
        yield api
