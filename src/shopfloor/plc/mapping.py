"""What a PLC sees and may ask, as one YAML file: points, commands, registers. Pure.

Registers are 16 bits, high word first, strings UTF-8 padded with zeros, as PLCs expect of Modbus.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from shopfloor.plant import yaml_lines
from shopfloor.plant.plant_schema import structure_problems
from shopfloor.plant.problems import PlantError, Problem
from shopfloor.plant.yaml_lines import Lines

SCHEMA = "plc/plc.schema.json"
DEFAULT_LENGTH = 64

MAILBOX_HEAD = 3
"""Registers before the fields of a command: id (2), expected state (1)."""
ANSWER_REGISTERS = 6
"""Registers of an answer: id (2), outcome, first outcome, reason, state."""


class Kind(Enum):
    """Type of a value on the PLC's side."""

    BOOL = "bool"
    UINT16 = "uint16"
    INT16 = "int16"
    UINT32 = "uint32"
    INT32 = "int32"
    UINT64 = "uint64"
    FLOAT32 = "float32"
    STRING = "string"


_FORMATS = {
    Kind.BOOL: ">H",
    Kind.UINT16: ">H",
    Kind.INT16: ">h",
    Kind.UINT32: ">I",
    Kind.INT32: ">i",
    Kind.UINT64: ">Q",
    Kind.FLOAT32: ">f",
}
_RANGES = {
    Kind.BOOL: (0, 1),
    Kind.UINT16: (0, 2**16 - 1),
    Kind.INT16: (-(2**15), 2**15 - 1),
    Kind.UINT32: (0, 2**32 - 1),
    Kind.INT32: (-(2**31), 2**31 - 1),
    Kind.UINT64: (0, 2**64 - 1),
}

Value = bool | int | float | str


@dataclass(frozen=True)
class Point:
    """A value that the PLC reads: `value * scale` of a field of the latest message of a topic."""

    name: str
    key: str
    path: tuple[str, ...]
    kind: Kind
    register: int | None = None
    length: int = DEFAULT_LENGTH
    scale: float = 1.0

    @property
    def registers(self) -> int:
        """How many it takes."""
        return registers_of(self.kind, self.length)


@dataclass(frozen=True)
class Field:
    """A field of a service's request that the PLC writes."""

    name: str
    kind: Kind
    length: int = DEFAULT_LENGTH
    minimum: float | None = None
    maximum: float | None = None

    def check(self, value: Value) -> None:
        """Raises ValueError naming field, value and what is allowed."""
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{self.name}: {value} is not allowed; allowed: a finite number")
        if isinstance(value, str):
            if len(value.encode()) > self.length:
                raise ValueError(f"{self.name}: longer than {self.length} bytes")
            return
        low = -math.inf if self.minimum is None else self.minimum
        high = math.inf if self.maximum is None else self.maximum
        if not low <= value <= high:
            raise ValueError(f"{self.name}: {value} is not allowed; allowed: {low:g} to {high:g}")


@dataclass(frozen=True)
class CommandPoint:
    """A service that the PLC may call."""

    name: str
    service: str
    fields: tuple[Field, ...] = ()
    register: int | None = None

    @property
    def registers(self) -> int:
        """How many holding registers its mailbox takes."""
        return MAILBOX_HEAD + sum(registers_of(f.kind, f.length) for f in self.fields)

    def decode(self, words: Sequence[int]) -> tuple[int, int, dict[str, Value]]:
        """Id, expected state and fields of a mailbox. Raises ValueError."""
        command_id = int(from_registers(Kind.UINT32, words[:2]))
        values: dict[str, Value] = {}
        at = MAILBOX_HEAD
        for field in self.fields:
            size = registers_of(field.kind, field.length)
            value = from_registers(field.kind, words[at : at + size])
            field.check(value)
            values[field.name] = value
            at += size
        if words[2] > 255:
            raise ValueError(f"expected state {words[2]}; allowed: 0 to 255")
        return command_id, words[2], values


@dataclass(frozen=True)
class OpcUa:
    """How the OPC UA server is reached. `anonymous`: no encryption, no user; for a test bench."""

    address: str = "0.0.0.0"
    port: int = 4840
    anonymous: bool = False
    certificate: str = ""
    private_key: str = ""
    users: str = ""


@dataclass(frozen=True)
class Modbus:
    """How the Modbus TCP server is reached, and by whom; Modbus itself knows no user."""

    address: str = "0.0.0.0"
    port: int = 502
    peers: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlcMapping:
    """The whole file."""

    plc: str
    cycle_ms: float = 100.0
    heartbeat_timeout_ms: float = 400.0
    points: tuple[Point, ...] = ()
    commands: tuple[CommandPoint, ...] = ()
    opcua: OpcUa | None = None
    modbus: Modbus | None = None

    @property
    def keys(self) -> list[str]:
        """Topics that the points read, by key."""
        return sorted({point.key for point in self.points if point.key != "bridge"})


def load_mapping(path: Path, topics: Mapping[str, bool]) -> PlcMapping:
    """Read and check a file. `topics`: keys of the interface table, True for topics.

    Raises PlantError with everything that is wrong, by line.
    """
    content, lines, problems = yaml_lines.load(path)
    if content is not None:
        problems += structure_problems(content, lines, SCHEMA)
    if not problems:
        problems += _problems(content, lines, topics)
    if problems:
        raise PlantError(problems)
    return _build(content)


def _build(content: dict[str, Any]) -> PlcMapping:
    timing = {key: float(content[key]) for key in _TIMES if key in content}
    opcua = OpcUa(**(content["opcua"] or {})) if "opcua" in content else None
    modbus = None
    if "modbus" in content:
        raw = dict(content["modbus"] or {})
        modbus = Modbus(**{**raw, "peers": tuple(raw.get("peers", ()))})
    return PlcMapping(
        plc=content["plc"],
        points=tuple(_point(raw) for raw in content.get("points", ())),
        commands=tuple(_command(raw) for raw in content.get("commands", ())),
        opcua=opcua,
        modbus=modbus,
        **timing,
    )


_TIMES = ("cycle_ms", "heartbeat_timeout_ms")


def _point(raw: dict[str, Any]) -> Point:
    key, *path = raw["from"].split(".")
    return Point(
        raw["name"],
        key,
        tuple(path),
        Kind(raw["type"]),
        raw.get("register"),
        raw.get("length", DEFAULT_LENGTH),
        float(raw.get("scale", 1.0)),
    )


def _command(raw: dict[str, Any]) -> CommandPoint:
    fields = tuple(
        Field(
            item["field"],
            Kind(item["type"]),
            item.get("length", DEFAULT_LENGTH),
            item.get("minimum"),
            item.get("maximum"),
        )
        for item in raw.get("fields", ())
    )
    return CommandPoint(raw["name"], raw["service"], fields, raw.get("register"))


def _problems(content: Any, lines: Lines, topics: Mapping[str, bool]) -> Iterator[Problem]:
    seen: set[str] = set()
    readable: dict[int, str] = {}
    writable: dict[int, str] = {0: "the PLC's heartbeat", 1: "the PLC's heartbeat"}
    for index, raw in enumerate(content.get("points", ())):
        where = ("points", index)
        point = _point(raw)
        yield from _once(point.name, seen, lines, (*where, "name"))
        if point.key != "bridge" and not topics.get(point.key, False):
            yield lines.problem((*where, "from"), f"no topic '{point.key}' in docs/interfaces.md")
        if point.register is not None:
            span = range(point.register, point.register + point.registers)
            yield from _taken(span, readable, point.name, lines, (*where, "register"))
    for index, raw in enumerate(content.get("commands", ())):
        where = ("commands", index)
        command = _command(raw)
        yield from _once(command.name, seen, lines, (*where, "name"))
        if topics.get(command.service, True):
            yield lines.problem(
                (*where, "service"), f"no service '{command.service}' in docs/interfaces.md"
            )
        if command.register is not None:
            span = range(command.register, command.register + command.registers)
            yield from _taken(span, writable, command.name, lines, (*where, "register"))
            span = range(command.register, command.register + ANSWER_REGISTERS)
            yield from _taken(span, readable, command.name, lines, (*where, "register"))


def _once(name: str, seen: set[str], lines: Lines, where: tuple[Any, ...]) -> Iterator[Problem]:
    if name in seen:
        yield lines.problem(where, f"the name '{name}' is there twice")
    seen.add(name)


def _taken(
    span: range, used: dict[int, str], name: str, lines: Lines, where: tuple[Any, ...]
) -> Iterator[Problem]:
    clash = next((used[at] for at in span if at in used), None)
    if clash is not None:
        yield lines.problem(where, f"registers {span[0]} to {span[-1]} overlap with {clash}")
    if span[-1] > 65535:
        yield lines.problem(where, f"registers {span[0]} to {span[-1]}; allowed: up to 65535")
    used.update(dict.fromkeys(span, name))


def registers_of(kind: Kind, length: int = DEFAULT_LENGTH) -> int:
    """How many registers a value takes."""
    if kind is Kind.STRING:
        return (length + 1) // 2
    return struct.calcsize(_FORMATS[kind]) // 2


def to_plc(kind: Kind, value: Any, length: int = DEFAULT_LENGTH, scale: float = 1.0) -> Value:
    """A field's value as the PLC's type has it: scaled, clipped to its range; never an error."""
    if kind is Kind.STRING:
        return str(value).encode()[:length].decode(errors="ignore")
    if kind is Kind.FLOAT32:
        return float(value) * scale
    number = float(value) * scale if scale != 1.0 else value
    low, high = _RANGES[kind]
    if isinstance(number, float):
        # What is not known has no whole number: the highest one stands for it.
        number = round(number) if math.isfinite(number) else high
    number = min(max(int(number), low), high)
    return bool(number) if kind is Kind.BOOL else number


def to_registers(kind: Kind, value: Value, length: int = DEFAULT_LENGTH) -> list[int]:
    """The registers of a value of the PLC's type."""
    if kind is Kind.STRING:
        size = 2 * registers_of(kind, length)
        raw = str(value).encode()[:length].decode(errors="ignore").encode().ljust(size, b"\0")
    else:
        number = float(value) if kind is Kind.FLOAT32 else int(value)
        raw = struct.pack(_FORMATS[kind], number)
    return list(struct.unpack(f">{len(raw) // 2}H", raw))


def from_registers(kind: Kind, words: Sequence[int]) -> Value:
    """The value of registers. Raises ValueError where they hold none."""
    raw = struct.pack(f">{len(words)}H", *words)
    if kind is Kind.STRING:
        try:
            return raw.split(b"\0", 1)[0].decode()
        except UnicodeDecodeError:
            raise ValueError("text that is not UTF-8") from None
    value: int | float = struct.unpack(_FORMATS[kind], raw)[0]
    if kind is Kind.BOOL:
        if value not in (0, 1):
            raise ValueError(f"{value} is no bool; allowed: 0 or 1")
        return bool(value)
    return value
