"""The types behind services and actions: what a service's events and an action's feedback carry.

ROS derives them from .srv and .action files (`Service` and `Action` of rosidl_parser.definition).
They stand in srv/ and action/, which .msg texts cannot name: their schema in a bag is IDL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.typesys import get_types_from_idl, get_types_from_msg
from rosbags.typesys.store import Typestore

_EVENT_INFO = "service_msgs/msg/ServiceEventInfo"
_GOAL_ID = (Nodetype.NAME, "unique_identifier_msgs/msg/UUID")
_NOTHING: Any = ("structure_needs_at_least_one_member", (Nodetype.BASE, ("uint8", 0)))
_BETWEEN = re.compile(r"^---[ \t]*$", re.MULTILINE)

_HEAD = "=" * 80 + "\nIDL: "
_IDL_NAMES = {"bool": "boolean", "byte": "octet", "float32": "float", "float64": "double"}


def hidden_types(package: Path) -> dict[str, Any]:
    """`NAME_Event` and `NAME_FeedbackMessage`, with their parts, of the folder of a package."""
    found: dict[str, Any] = {}
    for path in sorted(package.glob("srv/*.srv")):
        name = f"{package.name}/srv/{path.stem}"
        fields: list[Any] = [("info", (Nodetype.NAME, _EVENT_INFO))]
        for field, text in zip(("request", "response"), _parts(path), strict=True):
            part = f"{name}_{field.title()}"
            found[part] = _type(text, package.name)
            fields.append((field, (Nodetype.SEQUENCE, ((Nodetype.NAME, part), 1))))
        found[f"{name}_Event"] = ([], fields)
    for path in sorted(package.glob("action/*.action")):
        name = f"{package.name}/action/{path.stem}"
        found[f"{name}_Feedback"] = _type(_parts(path)[2], package.name)
        feedback = ("feedback", (Nodetype.NAME, f"{name}_Feedback"))
        found[f"{name}_FeedbackMessage"] = ([], [("goal_id", _GOAL_ID), feedback])
    return found


def correct_event_info(types: Typestore) -> None:
    """A `char` of a .msg file is uint8 to ROS 2, but not to rosbags, whose hash would differ."""
    constants, fields = types.fielddefs[_EVENT_INFO]
    as_ros_has_it: Any = (Nodetype.ARRAY, ((Nodetype.BASE, ("uint8", 0)), 16))
    types.fielddefs[_EVENT_INFO] = (
        constants,
        [(name, as_ros_has_it if name == "client_gid" else kind) for name, kind in fields],
    )


def idl(types: Typestore, name: str) -> str:
    """The type `name` and all that it contains in OMG IDL, one section each as rosbag2 has them."""
    order: dict[str, None] = {}
    _collect(types, name, order)
    # The type itself stands first, what it contains before what contains it.
    sections = [name, *(each for each in order if each != name)]
    return "".join(f"{_HEAD}{each}\n{_module(types, each)}" for each in sections)


def types_of_idl(text: str) -> dict[str, Any]:
    """The types of what `idl` wrote."""
    found: dict[str, Any] = {}
    for section in text.split(_HEAD)[1:]:
        found.update(get_types_from_idl(section.partition("\n")[2]))
    return found


def _parts(path: Path) -> list[str]:
    return _BETWEEN.split(path.read_text(encoding="utf-8"))


def _type(text: str, package: str) -> tuple[Any, list[Any]]:
    # Read as if it stood in msg/: names without a package mean messages of the same one.
    ((constants, fields),) = get_types_from_msg(text, f"{package}/msg/Part").values()
    return constants, list(fields) or [_NOTHING]


def _collect(types: Typestore, name: str, order: dict[str, None]) -> None:
    if name not in order:
        for _, kind in types.fielddefs[name][1]:
            _, (code, inner) = _shape(kind)
            if code == Nodetype.NAME:
                _collect(types, inner, order)
        order[name] = None


def _shape(kind: Any) -> tuple[Any, Any]:
    """How many, as (node type, limit) or None for one, and of what."""
    code, rest = kind
    if code in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        return (code, rest[1]), rest[0]
    return None, kind


def _module(types: Typestore, name: str) -> str:
    package, folder, short = name.split("/")
    constants, fields = types.fielddefs[name]
    lines = []
    if constants:
        values = (f"      const {_base(kind)} {key} = {_value(v)};" for key, kind, v in constants)
        lines = [f"    module {short}_Constants {{", *values, "    };"]
    members = (f"      {line};" for line in _members(fields or [_NOTHING]))
    lines += [f"    struct {short} {{", *members, "    };"]
    body = "\n".join(lines)
    return f"module {package} {{\n  module {folder} {{\n{body}\n  }};\n}};\n"


def _members(fields: Any) -> Iterator[str]:
    for name, kind in fields:
        many, (code, inner) = _shape(kind)
        one = inner.replace("/", "::") if code == Nodetype.NAME else _base(*inner)
        if many is None:
            yield f"{one} {name}"
        elif many[0] == Nodetype.ARRAY:
            yield f"{one} {name}[{many[1]}]"
        else:
            yield f"sequence<{one}{f', {many[1]}' if many[1] else ''}> {name}"


def _base(name: str, limit: int = 0) -> str:
    return f"string<{limit}>" if limit else _IDL_NAMES.get(name, name)


def _value(value: object) -> str:
    return json.dumps(value).upper() if isinstance(value, bool) else json.dumps(value)
