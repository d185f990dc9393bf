"""Query parameters that hold a dictionary, in Python's or JSON's spelling, as clients of Cinder and EVS write them."""

from __future__ import annotations

import ast
import warnings
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from twinsite.api.bodies import check_json
from twinsite.control.refusals import RequestRefused, bad_request

LITERAL_CHARACTERS_MAX = 4096
Shape = TypeVar("Shape")


def parse_literal(name: str, text: str, shape: TypeAdapter[Shape], example: str) -> Shape:
    """Return what a parameter says, which must have this shape; `RequestRefused` (400) when it does not.

    What is no text of a database, such as half of a surrogate pair, is refused as in a body.
    """
    try:
        if len(text) > LITERAL_CHARACTERS_MAX:
            raise ValueError("too long")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's compiler warns of backslashes, which are the client's.
            value = ast.literal_eval(text)
        check_json(value)
        return shape.validate_python(value, strict=True)
    # A key that is a dictionary is a TypeError, and nesting without end a MemoryError or a RecursionError.
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, ValidationError, RequestRefused):
        raise bad_request(
            f"{name} must be {example}, of at most {LITERAL_CHARACTERS_MAX} characters, in Python's or JSON's spelling."
        ) from None
