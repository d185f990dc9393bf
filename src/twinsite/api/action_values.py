"""Values of actions. What is not documented for an action is refused in its value, whatever the action.

Elsewhere in a body unknown fields are tolerated, as Cinder does; in an action one of them is a misspelt option, and an
action without it is not what the client wants.
"""

from __future__ import annotations

from typing import Any

from twinsite.control.refusals import bad_request


def single_action(body: dict[str, Any]) -> tuple[str, Any]:
    """Return the one key of an action's body and its value."""
    if len(body) != 1:
        raise bad_request(f"The body has {len(body)} keys; an action's body has exactly one, the action's name.")
    return next(iter(body.items()))


def options_of(action: str, value: Any, *known: str) -> dict[str, Any]:
    """Return the options in an action's value, which is null or an object with some of the `known` keys.

    Empty for null; an option that is null is left out. `RequestRefused` (400) for anything else.
    """
    wanted = f"null, or an object with {' and '.join(known)}" if known else "null"
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise bad_request(f"The value of {action} must be {wanted}.")
    for key in value:
        if key not in known:
            raise bad_request(f"The value of {action} must be {wanted}; it has no {key[:80]!r}. Nothing was done.")
    return {key: option for key, option in value.items() if option is not None}


def require_no_options(action: str, value: Any) -> None:
    """Refuse (400) a value of an action that takes none."""
    options_of(action, value)
