"""The schema of a message's JSON: what goes out fits it, what is wrong does not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from shopfloor.ros.interfaces import INTERFACES, Kind
from shopfloor.ros.message_schema import json_schema

messages = pytest.importorskip("shopfloor_msgs.msg", reason="the message types are not built here")
TYPES = sorted({row.type.split("/")[-1] for row in INTERFACES
                if row.kind is Kind.TOPIC and row.type.startswith("shopfloor_msgs/")})  # fmt: skip


def validator(name: str) -> Any:
    schema = json_schema(getattr(messages, name))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize("name", TYPES)
def test_what_goes_out_fits_its_schema(name: str) -> None:
    from shopfloor.ros.message_data import plain

    content = json.loads(json.dumps(plain(getattr(messages, name)())))
    validator(name).validate(content)


@pytest.mark.parametrize(
    ("field", "value"),
    [("part_id", "x" * 65), ("verdict", 256), ("verdict", -1), ("reject", 1),
     ("reasons", ["a"] * 17), ("latency_ms", "fast"), ("nobody", 1)],
)  # fmt: skip
def test_what_is_wrong_does_not(field: str, value: object) -> None:
    from shopfloor.ros.message_data import plain

    content = {**plain(messages.PartVerdict()), field: value}
    assert not validator("PartVerdict").is_valid(content)
    assert validator("PartVerdict").is_valid({**plain(messages.PartVerdict()), "latency_ms": None})
