"""The PLC's mapping: what is refused, and that values survive the registers."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopfloor.plant.problems import PlantError
from shopfloor.plc.mapping import CommandPoint, Field, Input, OpcUa
from shopfloor.plc.mapping_file import load_mapping
from shopfloor.plc.modbus_client import blocks
from shopfloor.plc.opcua import OpcUaSide
from shopfloor.plc.values import (
    Kind,
    from_plc,
    from_registers,
    registers_of,
    to_plc,
    to_registers,
)
from shopfloor.ros.interfaces import INTERFACES
from shopfloor.ros.interfaces import Kind as Endpoint

TOPICS = {row.key: row.kind is Endpoint.TOPIC for row in INTERFACES}
SHIPPED = Path(__file__).resolve().parents[2] / "config" / "plc" / "plc1.yaml"


def problems(tmp_path: Path, text: str) -> str:
    path = tmp_path / "plc.yaml"
    path.write_text(f"plc: plc1\n{text}", "utf-8")
    with pytest.raises(PlantError) as caught:
        load_mapping(path, TOPICS)
    return str(caught.value)


def test_the_shipped_file_stands() -> None:
    mapping = load_mapping(SHIPPED, TOPICS)
    assert mapping.plc == "plc1" and mapping.keys == ["line_state", "part_verdict"]
    assert mapping.modbus is not None and mapping.modbus.peers == ("127.0.0.1",)
    assert mapping.opcua is not None and not mapping.opcua.anonymous
    (line,) = mapping.commands
    assert line.registers == 5 and line.decode([0, 7, 4, 2, 0]) == (
        4, {"packml_command": 2, "mode": 0},
    )  # fmt: skip
    assert mapping.detection_ms <= 500


@pytest.mark.parametrize(
    ("text", "needle"),
    [
        (
            "points:\n- {name: a, from: nobody.x, type: bool}",
            ":3: points[0].from: no topic 'nobody'",
        ),
        ("points:\n- {name: a, from: manage_line.x, type: bool}", "no topic 'manage_line'"),
        ("points:\n- {name: a, from: line_state.x, type: word}", "allowed: bool, uint8, uint16"),
        ("points:\n- {name: a b, from: line_state.x, type: bool}", "letters, digits and _"),
        ("points:\n- {name: a, from: line_state, type: bool}", "KEY.FIELD of a topic"),
        ("commands:\n- {name: a, service: line_state}", "no service 'line_state'"),
        ("commands:\n- {name: a, service: x, rgister: 1}", "did you mean 'register'?"),
        ("commands:\n- {name: a, service: packml_command, register: 1}", "PLC's heartbeat"),
        ("modbus: {port: 0}", "allowed: 1 to 65535"),
        (
            "points:\n- {name: a, from: line_state.x, type: uint32, register: 5}\n"
            "- {name: b, from: line_state.x, type: bool, register: 6}",
            ":4: points[1].register: registers 6 to 6 overlap with a",
        ),
        (
            "points:\n- {name: a, from: line_state.x, type: bool}\n"
            "- {name: a, from: line_state.x, type: bool}",
            "the name 'a' is there twice",
        ),
        (
            "points:\n- {name: a, from: line_state.x, type: uint64, register: 65533}",
            "allowed: up to 65535",
        ),
    ],
)
def test_what_is_wrong_is_named_by_line(tmp_path: Path, text: str, needle: str) -> None:
    assert needle in problems(tmp_path, text)


@given(st.sampled_from(list(Kind)), st.one_of(st.integers(), st.floats(width=32), st.booleans()))
def test_any_value_fits_and_survives(kind: Kind, value: float) -> None:
    there = to_plc(kind, value)
    words = to_registers(kind, there)
    assert len(words) == registers_of(kind) and all(0 <= word < 2**16 for word in words)
    back = from_registers(kind, words)
    if not (isinstance(there, float) and math.isnan(there)):
        assert back == pytest.approx(there) if kind is Kind.FLOAT32 else back == there
        if not isinstance(back, float) or math.isfinite(back):
            assert from_plc(kind, back) == back


@given(st.text(max_size=90), st.integers(1, 64))
def test_text_is_cut_at_a_character(text: str, length: int) -> None:
    there = to_plc(Kind.STRING, text.replace("\0", ""), length)
    assert isinstance(there, str) and len(there.encode()) <= length
    assert from_registers(Kind.STRING, to_registers(Kind.STRING, there, length)) == there


@pytest.mark.parametrize(
    ("words", "needle"),
    [
        ([0, 1, 0, 11, 0x3F80, 0], "packml_command: 11 is not allowed; allowed: 0 to 10"),
        ([0, 1, 0, 1, 0x7FC0, 0], "speed: nan is not allowed"),
        ([0, 1, 256, 1, 0, 0], "expected_state: 256"),
    ],
)
def test_a_mailbox_is_checked(words: list[int], needle: str) -> None:
    fields = (
        Field("packml_command", Kind.UINT16, minimum=0, maximum=10),
        Field("speed", Kind.FLOAT32),
    )
    with pytest.raises(ValueError, match=needle):
        CommandPoint("line", "packml_command", fields, 100).decode(words)


def test_text_and_flags_of_a_plc_are_checked() -> None:
    with pytest.raises(ValueError, match="not UTF-8"):
        from_registers(Kind.STRING, [0xFFFF])
    with pytest.raises(ValueError, match="7 is no bool"):
        from_registers(Kind.BOOL, [7])
    with pytest.raises(ValueError, match="longer than 4 bytes"):
        Field("part", Kind.STRING, 4).check("überlang")


CLIENT = """modbus_client: {address: 10.0.0.5, heartbeat: 0}
points:
- {name: a, from: line_state.state, type: uint16, register: 10}
inputs:
- {name: speed, type: float32, register: 20, minimum: 0, maximum: 3, scale: 0.5}
commands:
- {name: c, service: packml_command, register: 30, answer: 40}
"""


def test_a_client_has_one_table_of_registers(tmp_path: Path) -> None:
    path = tmp_path / "plc.yaml"
    path.write_text(f"plc: plc1\n{CLIENT}", "utf-8")
    mapping = load_mapping(path, TOPICS)
    assert mapping.modbus_client is not None and mapping.modbus_client.unit == 1
    assert mapping.detection_ms == 600.0
    for old, new, needle in (
        ("register: 10", "register: 1", "overlap with the PLC's heartbeat"),
        ("register: 10", "register: 21", "overlap with a"),
        ("answer: 40", "answer: 32", "registers 32 to 37 overlap with c"),
        (", answer: 40", "", "'register' and 'answer' go together"),
        ("register: 20, ", "", "neither register nor node"),
        ("{address: 10.0.0.5, heartbeat: 0}", "{address: 10.0.0.5}", "'heartbeat' is missing"),
    ):
        assert needle in problems(tmp_path, CLIENT.replace(old, new))
    assert "server or client, not both" in problems(tmp_path, f"modbus: {{}}\n{CLIENT}")


@pytest.mark.parametrize(
    ("text", "needle"),
    [
        ("opcua_client: {url: 'opc.tcp://a:1', heartbeat: i=5}", "opcua_client.user: is missing"),
        ("opcua_client: {url: 'http://a', heartbeat: i=5}", "opc.tcp://ADDRESS:PORT"),
        (
            "opcua_client: {url: 'opc.tcp://a:1', heartbeat: beat, anonymous: true}",
            "an OPC UA node id",
        ),
        (
            "opcua_client: {url: 'opc.tcp://a:1', heartbeat: i=5, anonymous: true}\n"
            "commands:\n- {name: c, service: packml_command, nodes: {x: i=6}}",
            "id: missing",
        ),
        ("modbus: {}\ncommands:\n- {name: c, service: packml_command, register: 9, answer: 20}",
         "only with 'modbus_client'"),
        (
            "modbus: {}\ncommands:\n- name: c\n  service: packml_command\n  register: 9\n"
            "  fields: [{field: a, type: string, length: 254}]",
            "takes 130 registers; allowed: 123",
        ),
    ],
)  # fmt: skip
def test_a_client_is_secure_or_says_that_it_is_not(tmp_path: Path, text: str, needle: str) -> None:
    assert needle in problems(tmp_path, text)


def test_an_input_is_checked_before_it_is_scaled() -> None:
    speed = Input(Field("speed", Kind.UINT16, minimum=0, maximum=100), 5, scale=0.1)
    assert speed.take(50) == pytest.approx(5.0)
    for wrong, needle in (
        (101, "speed: 101 is not allowed; allowed: 0 to 100"),
        (70_000, "allowed: 0 to 65535"),
        (-1, "allowed: 0 to 65535"),
        (True, "a whole number"),
        (1.5, "a whole number"),
        (None, "None is not allowed"),
        ([1], "a whole number"),
        ("7", "a whole number"),
    ):
        with pytest.raises(ValueError, match=needle):
            speed.take(wrong)
    for number in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="a finite number"):
            from_plc(Kind.FLOAT32, number)


@given(st.sets(st.integers(0, 400)), st.integers(1, 125))
def test_blocks_cover_the_registers_and_no_others(registers: set[int], limit: int) -> None:
    found = blocks(registers, limit)
    assert all(0 < count <= limit for _, count in found)
    assert [r for start, count in found for r in range(start, start + count)] == sorted(registers)


@pytest.mark.parametrize("missing", ["server.der", "server.pem", "users.yaml"])
def test_a_missing_key_is_named_with_how_it_is_made(tmp_path: Path, missing: str) -> None:
    files = {name: tmp_path / name for name in ("server.der", "server.pem", "users.yaml")}
    for name, file in files.items():
        if name != missing:
            file.write_text("{}")
    keys = OpcUa("127.0.0.1", 0, False, *map(str, files.values()))
    side = OpcUaSide(load_mapping(SHIPPED, TOPICS), keys, Mock())
    with pytest.raises(FileNotFoundError, match=rf"{missing}'; made by: python -m shopfloor.plc"):
        asyncio.run(side.start())
