"""What a call consists of, without input or output: a plan is a generator of steps that a client takes for it.

A plan yields a step and is sent what came of it: the `Reply` of a `Send`, None otherwise. `ApiUnreachable` is thrown
into it when nobody answered. So the blocking and the asynchronous client run the same plans.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Access:
    """A token and the address of the project's objects (`…/v2/{project_id}`) that it opens."""

    endpoint: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request; `body` is what becomes JSON, None for no body. `headers` may hold secrets."""

    method: str
    url: str
    body: object = None
    parameters: Mapping[str, str | int] = field(default_factory=dict)
    token: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Renew:
    """Log in, unless another access than `used` is there already: another task or thread may have been faster."""

    used: Access | None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. The names in `headers` are in lower case."""

    status: int
    reason: str
    headers: Mapping[str, str]
    content: bytes


Step: TypeAlias = Send | Pause | Renew
Plan: TypeAlias = Generator[Step, Any, Result]
