"""Bodies before anything believes them: bounded in size, time, depth and values, JSON in UTF-8, of sane content."""

from __future__ import annotations

import asyncio
import json
import math
import re
from typing import Any, NoReturn

from fastapi import Request
from starlette.types import Message, Receive

from twinsite.control.refusals import RequestRefused, bad_request

BODY_BYTES_MAX = 1024 * 1024
"""Largest body that a client may send."""
NODE_REPORT_BYTES_MAX = 64 * 1024 * 1024
"""Largest report of a node: about a hundred thousand volumes."""
JSON_DEPTH_MAX = 32
"""Deepest nesting of a body; the interface needs five."""
JSON_MARKS_MAX = 32 * 1024
"""Most commas, colons and opening brackets in a body: each value of a few bytes takes some hundred in memory."""

_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_UTF_8 = frozenset({"utf-8", "utf8", "us-ascii"})


async def read_body(request: Request, bytes_max: int, seconds_max: float) -> bytes:
    """Return the body; `RequestRefused` when it is longer than `bytes_max` (413) or does not come in time (408)."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced[:20]) > bytes_max:
        _refuse_size(bytes_max)
    chunks = bytearray()
    try:
        async with asyncio.timeout(seconds_max):
            async for chunk in request.stream():
                chunks += chunk
                if len(chunks) > bytes_max:
                    _refuse_size(bytes_max)
    except TimeoutError:
        raise RequestRefused(
            408, "EVS.5408", f"The body did not come within {seconds_max:g} s. Send the request again, all at once."
        ) from None
    return bytes(chunks)


def _refuse_size(bytes_max: int) -> NoReturn:
    raise RequestRefused(413, "EVS.5413", f"The body is longer than {bytes_max} bytes. Send a smaller request.")


async def request_with_sound_body(request: Request, seconds_max: float) -> Request:
    """Return the same request with a body that was checked."""
    _check_content_type(request)
    body = await read_body(request, BODY_BYTES_MAX, seconds_max)
    check_json(parse_json(body, marks_max=JSON_MARKS_MAX))
    headers = [pair for pair in request.scope["headers"] if pair[0] != b"content-type"]
    scope = {**request.scope, "headers": [*headers, (b"content-type", b"application/json")]}
    return Request(scope, _replay(body, request.receive))


def _check_content_type(request: Request) -> None:
    """Refuse (415) what is said to be no JSON, no UTF-8, or compressed."""
    given = request.headers.get("content-type", "application/json")
    content_type, *parameters = (part.strip().lower() for part in given.split(";"))
    if content_type != "application/json":
        raise _wrong_media(f"The content type is {content_type[:80]!r}.")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip("\"'") not in _UTF_8:
            raise _wrong_media(f"The character set is {value.strip()[:80]!r}.")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise _wrong_media(f"The content encoding is {encoding[:80]!r}.")


def _wrong_media(what: str) -> RequestRefused:
    return RequestRefused(
        415, "EVS.5415", f"{what} Send JSON in UTF-8, not compressed, with Content-Type: application/json."
    )


def _replay(body: bytes, receive: Receive) -> Receive:
    told = False

    async def replayed() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def parse_json(body: bytes, marks_max: int | None = None) -> Any:
    """Return the decoded body; `RequestRefused` (400) when it is not JSON in UTF-8, or says one thing twice.

    `marks_max` bounds how many values it may have, before they take memory; None for a sender that is trusted.
    """
    if not body.strip():
        raise bad_request("The body is empty; this call needs a JSON object.")
    if marks_max is not None and sum(map(body.count, (b",", b":", b"[", b"{"))) > marks_max:
        raise bad_request(f"The body has more than {marks_max} values. Send a smaller request.")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise bad_request(f"The body is not UTF-8: byte {error.start} is wrong.") from None
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object_of_distinct_keys)
    except json.JSONDecodeError as error:
        raise bad_request(f"The body is not JSON: {error.msg}, at line {error.lineno}, column {error.colno}.") from None
    except (RecursionError, ValueError):
        raise bad_request("The body is JSON of absurd size: too deep, or a number of thousands of digits.") from None


def _refuse_constant(name: str) -> NoReturn:
    raise bad_request(f"The body holds {name}, which JSON does not have.")


def _object_of_distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; one that has a key twice means different things to different readers, and is refused (400)."""
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise bad_request(f"The body has the key {key[:80]!a} twice in one object; give it once.")
        made[key] = value
    return made


def check_json(value: Any) -> None:
    """Refuse (400) a body that is too deep, or holds what no database keeps."""
    pending = [(value, 1)]
    while pending:
        item, depth = pending.pop()
        if depth > JSON_DEPTH_MAX:
            raise bad_request(f"The body is nested deeper than {JSON_DEPTH_MAX} levels.")
        if isinstance(item, str):
            if _NO_TEXT.search(item) is not None:
                raise bad_request("The body holds a NUL character or half of a surrogate pair, which is no text.")
        elif isinstance(item, float):
            if not math.isfinite(item):
                raise bad_request("The body holds a number that is too large for any computer.")
        elif isinstance(item, dict):
            pending += [(key, depth + 1) for key in item]
            pending += [(inner, depth + 1) for inner in item.values()]
        elif isinstance(item, list):
            pending += [(inner, depth + 1) for inner in item]
