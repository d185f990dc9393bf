"""Checks of parts of a body whose shape depends on another part."""

from __future__ import annotations

from typing import TypeVar

import pydantic

from twinsite.control.refusals import bad_request

Model = TypeVar("Model", bound=pydantic.BaseModel)


def parse_value(model: type[Model], value: object, where: str) -> Model:
    """Return `value` as a `model`, or refuse it (400) with the place and the reason."""
    try:
        return model.model_validate(value)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join([where, *(str(part) for part in first["loc"])])
        message = first["msg"]
        raise bad_request(f"{place}: {message[:1].lower()}{message[1:]}.") from None
