"""JSON Schema of what `message_data.plain` makes of a ROS message type."""

from __future__ import annotations

import importlib
import re
from typing import Any

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_LIST = re.compile(r"sequence<(?P<bounded>.+?)(?:, (?P<most>\d+))?>|(?P<fixed>.+)\[(?P<size>\d+)\]")
_NUMBERS = ("float", "double")
_BYTE = {"type": "integer", "minimum": 0, "maximum": 255}


def json_schema(message: Any) -> dict[str, Any]:
    """The schema of one message type (its class): all fields are there, no others.

    A float may be null, which stands for NaN and infinity.
    """
    return {"$schema": DRAFT, "title": message.__name__, **_object(message)}


def _object(message: Any) -> dict[str, Any]:
    fields = message.get_fields_and_field_types()
    return {
        "type": "object",
        "properties": {name: _value(kind) for name, kind in fields.items()},
        "required": list(fields),
        "additionalProperties": False,
    }


def _value(kind: str) -> dict[str, Any]:
    found = _LIST.fullmatch(kind)
    if found:
        items = _value(found["bounded"] or found["fixed"])
        if found["size"]:
            size = int(found["size"])
            return {"type": "array", "items": items, "minItems": size, "maxItems": size}
        return {"type": "array", "items": items, **_most("maxItems", found["most"])}
    if kind.startswith(("string", "wstring")):
        bound = re.search(r"<(\d+)>", kind)
        return {"type": "string", **_most("maxLength", bound and bound[1])}
    if kind == "boolean":
        return {"type": "boolean"}
    if kind in _NUMBERS:
        return {"type": ["number", "null"]}
    if kind == "octet":
        return _BYTE
    whole = re.fullmatch(r"(u?)int(\d+)", kind)
    if whole:
        bits = int(whole[2])
        low, high = (0, 2**bits - 1) if whole[1] else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return {"type": "integer", "minimum": low, "maximum": high}
    package, name = kind.split("/")
    return _object(getattr(importlib.import_module(f"{package}.msg"), name))


def _most(key: str, text: str | None) -> dict[str, int]:
    return {key: int(text)} if text else {}
