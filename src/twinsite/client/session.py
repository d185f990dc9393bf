"""Requests below a project's endpoint: with a token, once more after a new log-in, and again where that is harmless."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from twinsite.client.errors import ApiUnreachable, refused
from twinsite.client.steps import Access, Pause, Plan, Renew, Reply, Send
from twinsite.errors import InternalError, PeerViolation

if TYPE_CHECKING:
    from twinsite.client.login import Login

RETRY_SECONDS = (0.25, 1.0)
"""Pauses before a request is sent again; there are no more attempts than these, and the first one."""
GATEWAY_STATUSES = frozenset({502, 503, 504})
"""What stands between a client and the API answers these while the API is away."""
CODE_HEADER = "x-twinsite-error-code"
"""The API's own refusals carry it."""
REQUEST_ID_HEADER = "x-openstack-request-id"
PAGE_ITEMS = 1000
"""Items asked for in one list request: the most that the API gives."""
PAGES_MAX = 1000
"""Most pages of one list."""
HTTP_UNAUTHORIZED = 401

Answer = TypeVar("Answer")
Parameters = Mapping[str, str | int]


class Session:
    """One user in one project, with the access that was last given. Does nothing by itself."""

    def __init__(self, login: Login) -> None:
        """Log in with `login` at the first request."""
        self.login = login
        self.access: Access | None = None


def ready(session: Session) -> Plan[Access]:
    """Return an access, logging in if that has not happened."""
    if session.access is None:
        yield Renew(None)
    if session.access is None:
        raise InternalError("a log-in left no access")
    return session.access


def exchange(
    session: Session,
    method: str,
    path: str,
    body: object = None,
    parameters: Parameters | None = None,
    *,
    repeatable: bool = False,
) -> Plan[Any]:
    """Send a request to `path` below the project's endpoint; return its decoded body, None when there is none.

    A request that nobody answered is sent again, at most as often as `RETRY_SECONDS` has entries, if it never arrived,
    or if it may be repeated: reading always may, and what else is `repeatable`. A 401 makes for one new log-in.
    Raises `ApiRefused`, `ApiUnreachable`, and `PeerViolation` for an answer that is not the API's.
    """
    harmless = repeatable or method == "GET"
    pauses = list(RETRY_SECONDS)
    renewed = False
    while True:
        access = yield from ready(session)
        try:
            reply: Reply = yield Send(method, f"{access.endpoint}/{path}", body, parameters or {}, access.token)
        except ApiUnreachable as error:
            if not pauses or not (harmless or not error.was_sent):
                raise
        else:
            if reply.status == HTTP_UNAUTHORIZED and not renewed:
                renewed = True
                yield Renew(access)
                continue
            from_gateway = reply.status in GATEWAY_STATUSES and CODE_HEADER not in reply.headers
            if not (from_gateway and harmless and pauses):
                return decoded(reply, f"{method} {access.endpoint}/{path}")
        yield Pause(pauses.pop(0))


def fetch(
    session: Session,
    kind: type[Answer],
    key: str,
    method: str,
    path: str,
    body: object = None,
    parameters: Parameters | None = None,
    *,
    repeatable: bool = False,
) -> Plan[Answer]:
    """Return the object that a request answers under `key`. Raises as `exchange`."""
    answer = yield from exchange(session, method, path, body, parameters, repeatable=repeatable)
    if not isinstance(answer, dict) or key not in answer:
        raise PeerViolation(f"{method} {path} did not answer an object {key!r}")
    return parsed(kind, answer[key], f"{method} {path} did not answer a {key!r} that can be read")


def fetch_list(
    session: Session, kind: type[Answer], key: str, path: str, parameters: Parameters | None = None
) -> Plan[list[Answer]]:
    """Return what one answer lists under `key`. Raises as `exchange`."""
    answer = yield from exchange(session, "GET", path, parameters=parameters)
    page = answer.get(key) if isinstance(answer, dict) else None
    if not isinstance(page, list):
        raise PeerViolation(f"GET {path} did not answer a list {key!r}")
    return [parsed(kind, item, f"GET {path} listed in {key!r} what cannot be read") for item in page]


def fetch_all(
    session: Session, kind: type[Answer], key: str, path: str, parameters: Parameters | None = None
) -> Plan[list[Answer]]:
    """Return everything that a list has, page by page; the objects have ids. Raises as `exchange`."""
    items: list[Answer] = []
    for _ in range(PAGES_MAX):
        place = {"marker": items[-1].id} if items else {}  # type: ignore[attr-defined]
        page = yield from fetch_list(session, kind, key, path, {**(parameters or {}), "limit": PAGE_ITEMS, **place})
        items += page
        if len(page) < PAGE_ITEMS:
            return items
    raise PeerViolation(f"GET {path} never stops answering more pages")


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def parsed(kind: type[Answer], value: object, trouble: str) -> Answer:
    """Return the model of an answer's value. Raises `PeerViolation` that begins with `trouble`."""
    adapter = _ADAPTERS.get(kind)
    if adapter is None:
        adapter = _ADAPTERS[kind] = TypeAdapter(kind)
    try:
        model: Answer = adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise PeerViolation(f"{trouble}: {place or 'all of it'}: {first['msg']}") from None
    return model


def decoded(reply: Reply, request: str) -> Any:
    """Return the decoded body of an answer, None when it has none. Raises `ApiRefused` for a refusal."""
    is_success = 200 <= reply.status < 300
    if is_success and not reply.content:
        return None
    try:
        answer = json.loads(reply.content)
    except ValueError:
        answer = None
        if is_success:
            raise PeerViolation(f"{request} did not answer JSON; is it the address of the API?") from None
    if is_success:
        return answer
    raise refused(
        reply.status,
        _fault_message(answer) or f"{request} failed: {reply.reason}",
        reply.headers.get(CODE_HEADER),
        reply.headers.get(REQUEST_ID_HEADER),
    )


def _fault_message(answer: Any) -> str | None:
    """Return the message of an error body `{"<fault>": {"code": …, "message": …}}`."""
    if isinstance(answer, dict):
        for fault in answer.values():
            if isinstance(fault, dict) and isinstance(fault.get("message"), str):
                return str(fault["message"]).strip()
    return None
