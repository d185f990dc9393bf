"""How the dataclasses of `messages` become JSON and come back, checked.

A decoder is compiled once for each type: a node reports thousands of objects at once, and looking at the annotations of
each would take longer than all the rest.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

from twinsite.errors import PeerViolation

Message = TypeVar("Message")
Decoder = Callable[[Any, str], Any]
"""Takes a decoded JSON value and the place where it stands; returns what it means. Raises `PeerViolation`."""

_PLAIN = frozenset({str, int, float, bool, type(None)})
_FIELDS: dict[type, tuple[str, ...]] = {}
_DECODERS: dict[Any, Decoder] = {}


def to_wire(message: Any) -> Any:
    """Return the JSON-ready form of a message, a list of messages or a plain value."""
    kind = type(message)
    if kind in _PLAIN:
        return message
    names = _FIELDS.get(kind)
    if names is None and dataclasses.is_dataclass(kind):
        names = _FIELDS[kind] = tuple(field.name for field in dataclasses.fields(kind))
    if names is not None:
        return {name: to_wire(getattr(message, name)) for name in names}
    if isinstance(message, (list, tuple)):
        return [to_wire(item) for item in message]
    if isinstance(message, dict):
        return {key: to_wire(value) for key, value in message.items()}
    return message.value if isinstance(message, StrEnum) else message


def from_wire(kind: type[Message], value: object, where: str = "message") -> Message:
    """Build a message of type `kind` from decoded JSON.

    Unknown keys are ignored, so that a newer sender can talk to an older receiver; a missing key without a default
    or a value of another type raises `PeerViolation` that names the place.
    """
    return typing.cast(Message, _decoder(kind)(value, where))


def _decoder(kind: Any) -> Decoder:
    decoder = _DECODERS.get(kind)
    if decoder is None:
        decoder = _DECODERS[kind] = _compile(kind)
    return decoder


def _compile(kind: Any) -> Decoder:
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        (inner,) = [arm for arm in typing.get_args(kind) if arm is not types.NoneType]
        return _optional(_decoder(inner))
    if origin is list:
        (item_kind,) = typing.get_args(kind)
        return _list_of(_decoder(item_kind))
    if dataclasses.is_dataclass(kind):
        return _dataclass(typing.cast(type, kind))
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return _enumeration(kind)
    if kind is float:
        return _decode_float
    if isinstance(kind, type):
        return _exactly(kind)
    return lambda value, where: value


def _optional(decode: Decoder) -> Decoder:
    return lambda value, where: None if value is None else decode(value, where)


def _list_of(decode: Decoder) -> Decoder:
    def decode_list(value: Any, where: str) -> list[Any]:
        if not isinstance(value, list):
            raise PeerViolation(f"{where}: expected a list, got {type(value).__name__}")
        try:
            # The place of an item is worked out only for the one that is wrong.
            return [decode(item, where) for item in value]
        except PeerViolation:
            return [decode(item, f"{where}[{index}]") for index, item in enumerate(value)]

    return decode_list


def _enumeration(kind: type[StrEnum]) -> Decoder:
    members = {member.value: member for member in kind}

    def decode(value: Any, where: str) -> StrEnum:
        member = members.get(value) if isinstance(value, str) else None
        if member is None:
            raise PeerViolation(f"{where}: {value!r} is not a {kind.__name__}")
        return member

    return decode


def _decode_float(value: Any, where: str) -> float:
    if type(value) is float:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    raise PeerViolation(f"{where}: expected float, got {type(value).__name__}")


def _exactly(kind: type) -> Decoder:
    def decode(value: Any, where: str) -> Any:
        if type(value) is kind or (isinstance(value, kind) and not isinstance(value, bool)):
            return value
        raise PeerViolation(f"{where}: expected {kind.__name__}, got {type(value).__name__}")

    return decode


def _dataclass(kind: type) -> Decoder:
    hints = typing.get_type_hints(kind)
    specs = [
        (
            spec.name,
            _decoder(hints[spec.name]),
            spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING,
        )
        for spec in dataclasses.fields(kind)
    ]

    def decode(value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            raise PeerViolation(f"{where}: expected an object, got {type(value).__name__}")
        arguments: dict[str, Any] = {}
        for name, decode_field, is_required in specs:
            if name in value:
                arguments[name] = decode_field(value[name], where)
            elif is_required:
                raise PeerViolation(f"{where}: key {name!r} is missing")
        return kind(**arguments)

    def decode_and_tell(value: Any, where: str) -> Any:
        try:
            return decode(value, where)
        except PeerViolation:
            _name_the_place(specs, value, where)
            raise

    return decode_and_tell


def _name_the_place(specs: list[tuple[str, Decoder, bool]], value: Any, where: str) -> None:
    """Decode again what was wrong, now with the name of the field; that raises what a person can use."""
    if isinstance(value, dict):
        for name, decode_field, is_required in specs:
            if name in value:
                decode_field(value[name], f"{where}.{name}")
            elif is_required:
                raise PeerViolation(f"{where}: key {name!r} is missing")
