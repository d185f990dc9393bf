"""Checks of names and descriptions that every object shares."""

from __future__ import annotations

from twinsite.control.models import NAME_BYTES_MAX
from twinsite.control.refusals import bad_request


def check_name(name: str | None) -> str | None:
    """Return a name that may be stored, or refuse it (400, EVS.1003)."""
    return _check(name, "name", "EVS.1003")


def check_description(description: str | None) -> str | None:
    """Return a description that may be stored, or refuse it (400, EVS.1004)."""
    return _check(description, "description", "EVS.1004")


def _check(text: str | None, what: str, code: str) -> str | None:
    if text is None:
        return None
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise bad_request(f"The {what} holds half of a surrogate pair, which is no character.", code) from None
    if size > NAME_BYTES_MAX:
        raise bad_request(
            f"The {what} has {size} bytes of UTF-8; at most {NAME_BYTES_MAX} are allowed. Shorten it.", code
        )
    if "\0" in text:
        raise bad_request(f"The {what} holds a NUL character; leave it out.", code)
    return text
