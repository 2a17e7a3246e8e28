"""The PLC's mapping: what is refused, and that values survive the registers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopfloor.plant.problems import PlantError
from shopfloor.plc.mapping import (
    CommandPoint,
    Field,
    Kind,
    from_registers,
    load_mapping,
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
        7, 4, {"packml_command": 2, "mode": 0},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "needle"),
    [
        (
            "points:\n- {name: a, from: nobody.x, type: bool}",
            ":3: points[0].from: no topic 'nobody'",
        ),
        ("points:\n- {name: a, from: manage_line.x, type: bool}", "no topic 'manage_line'"),
        ("points:\n- {name: a, from: line_state.x, type: word}", "allowed: bool, uint16"),
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
        ([0, 1, 256, 1, 0, 0], "expected state 256"),
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
