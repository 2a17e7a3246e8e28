"""Frozen dataclasses as JSON and back, by their type hints: what the journal stores."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from enum import IntEnum
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


def to_json(item: Any) -> str:
    """A dataclass as one line of JSON."""
    return json.dumps(dataclasses.asdict(item))


def from_json(cls: type[T], text: str) -> T:
    """The dataclass of a line. Raises ValueError or TypeError on what does not fit."""
    return typing.cast("T", _build(cls, json.loads(text)))


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _build(hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        hints = _hints(typing.cast("type", hint))
        return hint(**{name: _build(hints[name], item) for name, item in value.items()})  # type: ignore[operator]
    origin = typing.get_origin(hint)
    if origin is tuple:
        return tuple(_build(typing.get_args(hint)[0], item) for item in value)
    if origin in (typing.Union, types.UnionType):
        inner = next(a for a in typing.get_args(hint) if a is not type(None))
        return None if value is None else _build(inner, value)
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return hint(value)
    return value
