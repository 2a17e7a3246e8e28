"""Types that reach a PLC: text of up to 254 bytes and lists of up to 64, as PLCs can hold them."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

from shopfloor.ros.interfaces import INTERFACES, Kind

pytest.importorskip("shopfloor_msgs", reason="the message types are not built here")

STRING_MAX, LIST_MAX = 254, 64
NOT_PASSED_ON = {"heartbeat", "machine_health", "plan"}
"""Of a machine's health and of the plan, a PLC is told one number each (`plc/conditions.py`)."""


def message(name: str) -> Any:
    package, kind, type_name = name.split("/")
    return getattr(importlib.import_module(f"{package}.{kind}"), type_name)


def plc_facing() -> Iterator[str]:
    """What plc_bridge publishes, reads and calls by the interface table, each with its halves."""
    for row in INTERFACES:
        if row.kind is Kind.TOPIC and "shopfloor_msgs" in row.type:
            if row.key not in NOT_PASSED_ON and "plc_bridge" in (*row.servers, *row.clients):
                yield row.type
        elif row.kind is Kind.SERVICE and "plc_bridge" in row.clients:
            yield f"{row.type}_Request"
            yield f"{row.type}_Response"


FACING = sorted(set(plc_facing()))


def unbounded(name: str, type_: Any, seen: set[str]) -> Iterator[str]:
    """Fields, nested ones too, that are longer than a PLC can hold, or have no bound at all."""
    for field, kind in type_.get_fields_and_field_types().items():
        where = f"{name}.{field}: {kind}"
        listed = re.fullmatch(r"sequence<(.+?)(?:, (\d+))?>|(.+)\[(\d+)\]", kind)
        if listed:
            size = listed[2] or listed[4]
            if size is None or int(size) > LIST_MAX:
                yield where
            kind = listed[1] or listed[3]
        if kind.startswith(("string", "wstring")):
            size_of = re.fullmatch(r"string<(\d+)>", kind)
            if size_of is None or int(size_of[1]) > STRING_MAX:
                yield where
        elif "/" in kind and kind not in seen and not kind.startswith("std_msgs"):
            package, nested = kind.split("/")
            yield from unbounded(kind, message(f"{package}/msg/{nested}"), {*seen, kind})


def test_there_is_something_to_check() -> None:
    assert {"shopfloor_msgs/msg/PlcPicture", "shopfloor_msgs/srv/PackMLCommand_Request"} <= set(
        FACING
    )


@pytest.mark.parametrize("name", FACING)
def test_text_and_lists_fit_a_plc(name: str) -> None:
    assert not list(unbounded(name, message(name), set()))


def test_a_type_without_bounds_is_found() -> None:
    found = list(unbounded("Array", message("diagnostic_msgs/msg/DiagnosticArray"), set()))
    assert any("status: sequence" in line for line in found)
    assert any("DiagnosticStatus.message: string" in line for line in found)
