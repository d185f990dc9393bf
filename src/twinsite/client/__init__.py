"""A typed client of the HTTP API, blocking and asynchronous, for programs; the command lines are built on it.

`clients` has the two classes; they share everything but their input and output. `calls` lists what can be called;
`volumes`, `pairs`, `groups`, `sites`, `lookup` and `waiting` say how, as plans whose steps a client takes (`steps`);
`session` adds the log-in and the repetitions. `models` are the answers, `errors` the refusals, `cloud` where the API
is; `event_words` and `attaching` say things to people. Imports `errors` of the package and nothing else of it; the
command line, the plug-in of openstackclient, the demo and the web page import it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twinsite.client.clients import AsyncClient, Client
    from twinsite.client.cloud import Cloud, find_cloud
    from twinsite.client.errors import (
        ApiRefused,
        ApiUnreachable,
        BadRequest,
        Conflict,
        Forbidden,
        NotFound,
        ObjectMissing,
        QuotaExceeded,
        Unauthorized,
        Unavailable,
        WaitedTooLong,
        WaitFailed,
    )
    from twinsite.client.login import CloudLogin, GivenAccess, Login, Trust
    from twinsite.client.steps import Access

_MODULES = {
    "clients": ("AsyncClient", "Client"),
    "cloud": ("Cloud", "find_cloud"),
    "errors": (
        "ApiRefused",
        "ApiUnreachable",
        "BadRequest",
        "Conflict",
        "Forbidden",
        "NotFound",
        "ObjectMissing",
        "QuotaExceeded",
        "Unauthorized",
        "Unavailable",
        "WaitFailed",
        "WaitedTooLong",
    ),
    "login": ("CloudLogin", "GivenAccess", "Login", "Trust"),
    "steps": ("Access",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Access",
    "ApiRefused",
    "ApiUnreachable",
    "AsyncClient",
    "BadRequest",
    "Client",
    "Cloud",
    "CloudLogin",
    "Conflict",
    "Forbidden",
    "GivenAccess",
    "Login",
    "NotFound",
    "ObjectMissing",
    "QuotaExceeded",
    "Trust",
    "Unauthorized",
    "Unavailable",
    "WaitFailed",
    "WaitedTooLong",
    "find_cloud",
]


def __getattr__(name: str) -> object:
    """Load what is asked for: the errors must not cost a command line the start-up time of the HTTP client."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
