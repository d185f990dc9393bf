"""The two clients: they take the steps of plans with httpx, and differ in nothing else."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from twinsite.client.calls import Asynchronous, Blocking, Calls, Result
from twinsite.client.cloud import Cloud
from twinsite.client.errors import ApiUnreachable
from twinsite.client.login import CloudLogin, Login, Trust
from twinsite.client.models import FeedEvent
from twinsite.client.session import Session, ready
from twinsite.client.steps import Access, Pause, Plan, Renew, Reply, Send
from twinsite.client.streams import RESUME_SECONDS, SILENCE_SECONDS_MAX, Following
from twinsite.errors import TwinsiteError

CONNECT_SECONDS_MAX = 5.0
ANSWER_SECONDS_MAX = 90.0
"""Longest wait for one answer: stopping a group and connecting a volume are in force before theirs."""
TOKEN_HEADER = "X-Auth-Token"
_STREAM_TIMEOUT = httpx.Timeout(SILENCE_SECONDS_MAX, connect=CONNECT_SECONDS_MAX)

_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL)


class Client(Calls, Blocking):
    """A session of one user in one project, blocking. Several threads may share it. Close it after use.

    Logs in at the first request, and again when the token is no longer good.
    """

    def __init__(self, login: Cloud | Login, *, answer_seconds_max: float = ANSWER_SECONDS_MAX) -> None:
        """Talk to a cloud, as `find_cloud` finds one; nothing is sent yet. Raises `OSError` for a bad `ca_file`."""
        self.session = _session(login)
        self._trust = self.session.login.trust
        self._http = httpx.Client(**_http_options(self._trust, answer_seconds_max))
        self._renewing = threading.RLock()

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections. Idempotent."""
        self._http.close()

    def access(self) -> Access:
        """Log in if that has not happened; return the token and the project's endpoint, for other programs."""
        return self.run(ready(self.session))

    def run(self, plan: Plan[Result]) -> Result:
        """Take the steps of a plan; return what it returns, raise what it raises."""
        reply: Reply | None = None
        error: TwinsiteError | None = None
        while True:
            try:
                step = plan.throw(error) if error is not None else plan.send(reply)
            except StopIteration as end:
                result: Result = end.value
                return result
            reply, error = None, None
            try:
                match step:
                    case Send():
                        reply = self._send(step)
                    case Pause(seconds):
                        time.sleep(seconds)
                    case Renew(used):
                        self._renew(used)
            except TwinsiteError as raised:
                error = raised

    def follow_events(self, group_id: str | None = None, after: int | None = None) -> Iterator[FeedEvent]:
        """Yield the events of a group, or of all of the project's, as they happen, for ever; the oldest first.

        They begin now, or after the position of an event (0 for all that are kept). A stream that ends is resumed.
        Raises `ApiRefused`, also when the group is gone, and `ApiUnreachable` when nobody answers for half a minute.
        """
        following = Following(group_id, after)
        while True:
            access = self.access()
            url = following.url(access)
            options: Any = {
                "params": {"follow": "true"},
                "headers": following.headers(access),
                "timeout": _STREAM_TIMEOUT,
            }
            try:
                with self._http.stream("GET", url, **options) as response:
                    if response.status_code == httpx.codes.OK:
                        for line in response.iter_lines():
                            event = following.take(line)
                            if event is not None:
                                yield event
                    elif following.needs_renewal(response.status_code):
                        self._renew(access)
                        continue
                    else:
                        response.read()
                        following.refuse(response)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                if following.note_failure():
                    raise _unreachable(Send("GET", url), error, self._trust) from error
            time.sleep(RESUME_SECONDS)

    def _renew(self, used: Access | None) -> None:
        with self._renewing:
            if self.session.access is used:
                self.session.access = self.run(self.session.login.plan())

    def _send(self, step: Send) -> Reply:
        try:
            return _reply(self._http.request(step.method, step.url, **_request_options(step)))
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise _unreachable(step, error, self._trust) from error


class AsyncClient(Calls, Asynchronous):
    """A session of one user in one project, for one event loop. Several tasks may share it. Close it after use.

    Logs in at the first request, and again when the token is no longer good.
    """

    def __init__(self, login: Cloud | Login, *, mounts: Mapping[str, httpx.AsyncBaseTransport] | None = None) -> None:
        """Talk to a cloud, as `find_cloud` finds one; nothing is sent yet. Raises `OSError` for a bad `ca_file`.

        `mounts` says what carries the requests to some addresses, as httpx has it: to an API in the same process.
        """
        self.session = _session(login)
        self._trust = self.session.login.trust
        self._http = httpx.AsyncClient(**_http_options(self._trust), mounts=mounts)
        self._renewing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        await self._http.aclose()

    async def access(self) -> Access:
        """Log in if that has not happened; return the token and the project's endpoint, for other programs."""
        return await self.run(ready(self.session))

    async def run(self, plan: Plan[Result]) -> Result:
        """Take the steps of a plan; return what it returns, raise what it raises."""
        reply: Reply | None = None
        error: TwinsiteError | None = None
        while True:
            try:
                step = plan.throw(error) if error is not None else plan.send(reply)
            except StopIteration as end:
                result: Result = end.value
                return result
            reply, error = None, None
            try:
                match step:
                    case Send():
                        reply = await self._send(step)
                    case Pause(seconds):
                        await asyncio.sleep(seconds)
                    case Renew(used):
                        await self._renew(used)
            except TwinsiteError as raised:
                error = raised

    async def follow_events(
        self, group_id: str | None = None, after: int | None = None
    ) -> AsyncGenerator[FeedEvent, None]:
        """Yield the events of a group, or of all of the project's, as they happen, for ever; the oldest first.

        They begin now, or after the position of an event (0 for all that are kept). A stream that ends is resumed.
        Raises `ApiRefused`, also when the group is gone, and `ApiUnreachable` when nobody answers for half a minute.
        """
        following = Following(group_id, after)
        while True:
            access = await self.access()
            url = following.url(access)
            options: Any = {
                "params": {"follow": "true"},
                "headers": following.headers(access),
                "timeout": _STREAM_TIMEOUT,
            }
            try:
                async with self._http.stream("GET", url, **options) as response:
                    if response.status_code == httpx.codes.OK:
                        async for line in response.aiter_lines():
                            event = following.take(line)
                            if event is not None:
                                yield event
                    elif following.needs_renewal(response.status_code):
                        await self._renew(access)
                        continue
                    else:
                        await response.aread()
                        following.refuse(response)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                if following.note_failure():
                    raise _unreachable(Send("GET", url), error, self._trust) from error
            await asyncio.sleep(RESUME_SECONDS)

    async def _renew(self, used: Access | None) -> None:
        async with self._renewing:
            if self.session.access is used:
                self.session.access = await self.run(self.session.login.plan())

    async def _send(self, step: Send) -> Reply:
        try:
            return _reply(await self._http.request(step.method, step.url, **_request_options(step)))
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise _unreachable(step, error, self._trust) from error


def _session(login: Cloud | Login) -> Session:
    return Session(CloudLogin(login) if isinstance(login, Cloud) else login)


def _http_options(trust: Trust, answer_seconds_max: float = ANSWER_SECONDS_MAX) -> dict[str, Any]:
    verify: ssl.SSLContext | bool = trust.verify
    if trust.verify and trust.ca_file:
        verify = ssl.create_default_context(cafile=trust.ca_file)
    return {
        "timeout": httpx.Timeout(answer_seconds_max, connect=min(answer_seconds_max, CONNECT_SECONDS_MAX)),
        "verify": verify,
        "trust_env": trust.use_proxy,
    }


def _request_options(step: Send) -> dict[str, Any]:
    headers = {**step.headers, **({} if step.token is None else {TOKEN_HEADER: step.token})}
    body = {} if step.body is None else {"json": step.body}
    return {"params": dict(step.parameters), "headers": headers, **body}


def _reply(response: httpx.Response) -> Reply:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status_code, response.reason_phrase, headers, response.content)


def _unreachable(step: Send, error: httpx.TransportError | httpx.InvalidURL, trust: Trust) -> ApiUnreachable:
    was_sent = not isinstance(error, _NEVER_SENT)
    if isinstance(error, httpx.TimeoutException):
        return ApiUnreachable(f"{step.url} did not answer in time ({trust.source})", was_sent=was_sent)
    cause = str(error) or type(error).__name__
    return ApiUnreachable(
        f"{step.url} cannot be reached: {cause} ({trust.source}). Is the controller or 'twinsite up' running?",
        was_sent=was_sent,
    )
