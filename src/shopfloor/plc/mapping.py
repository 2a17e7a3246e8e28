"""What a PLC sees, brings and may ask: points, inputs, commands, and how it is reached. Pure.

Read from a YAML file by `shopfloor.plc.mapping_file`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shopfloor.plc.values import (
    DEFAULT_LENGTH,
    Kind,
    Value,
    from_plc,
    from_registers,
    registers_of,
)

MAILBOX_HEAD = 3
"""Registers before the fields of a command: id (2), expected state (1)."""
ANSWER_FIELDS = ("id", "outcome", "first_outcome", "reason", "state")
ANSWER_REGISTERS = 6
"""Registers of an answer: id (2), outcome, first outcome, reason, state."""
HEARTBEAT_REGISTERS = 2
WRITE_LIMIT = 123
"""Registers in one Modbus write (function 16)."""
READ_LIMIT = 125
"""Registers in one Modbus read."""


@dataclass(frozen=True)
class Point:
    """A value that the PLC sees: `value * scale` of a field of the latest message of a topic.

    register, node: where; in the PLC itself where the bridge is the client.
    """

    name: str
    key: str
    path: tuple[str, ...]
    kind: Kind
    register: int | None = None
    node: str = ""
    length: int = DEFAULT_LENGTH
    scale: float = 1.0

    @property
    def registers(self) -> int:
        """How many it takes."""
        return registers_of(self.kind, self.length)


@dataclass(frozen=True)
class Field:
    """A value that the PLC writes: a field of a service's request, or an input."""

    name: str
    kind: Kind
    length: int = DEFAULT_LENGTH
    minimum: float | None = None
    maximum: float | None = None

    def check(self, value: Any) -> Value:
        """The value, if type and range fit. Raises ValueError naming field and what is allowed."""
        try:
            found = from_plc(self.kind, value, self.length)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None
        if isinstance(found, str):
            return found
        low = -math.inf if self.minimum is None else self.minimum
        high = math.inf if self.maximum is None else self.maximum
        if not low <= found <= high:
            raise ValueError(f"{self.name}: {found} is not allowed; allowed: {low:g} to {high:g}")
        return found


HEAD = (
    Field("command_id", Kind.STRING, 64),
    Field("person", Kind.STRING, 64),
    Field("reason", Kind.STRING, 254),
)
EXPECTED_STATE = Field("expected_state", Kind.UINT8)
COMMAND_ID = Field("id", Kind.UINT32)
HEARTBEAT = Field("heartbeat", Kind.UINT32)


@dataclass(frozen=True)
class Input:
    """A number that the PLC brings: what it writes times `scale`. minimum, maximum: before it."""

    field: Field
    register: int | None = None
    node: str = ""
    scale: float = 1.0

    @property
    def name(self) -> str:
        """Its name in PlcPicture."""
        return self.field.name

    @property
    def registers(self) -> int:
        """How many it takes."""
        return registers_of(self.field.kind)

    def take(self, value: Any) -> float:
        """The scaled number. Raises ValueError."""
        return float(self.field.check(value)) * self.scale


@dataclass(frozen=True)
class CommandPoint:
    """A service that the PLC may call.

    register: of its mailbox. answer, nodes, answer_nodes: where the bridge is the client, registers
    of the answer in the PLC, and the PLC's nodes of mailbox and answer by field.
    """

    name: str
    service: str
    fields: tuple[Field, ...] = ()
    register: int | None = None
    answer: int | None = None
    nodes: Mapping[str, str] = field(default_factory=dict)
    answer_nodes: Mapping[str, str] = field(default_factory=dict)

    @property
    def registers(self) -> int:
        """How many holding registers its mailbox takes."""
        return MAILBOX_HEAD + sum(registers_of(f.kind, f.length) for f in self.fields)

    def decode(self, words: Sequence[int]) -> tuple[int, dict[str, Value]]:
        """Expected state and fields of a mailbox. Raises ValueError."""
        values: dict[str, Value] = {}
        at = MAILBOX_HEAD
        for each in self.fields:
            size = registers_of(each.kind, each.length)
            try:
                value = from_registers(each.kind, words[at : at + size])
            except ValueError as error:
                raise ValueError(f"{each.name}: {error}") from None
            values[each.name] = each.check(value)
            at += size
        return int(EXPECTED_STATE.check(words[2])), values


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
class OpcUaPlc:
    """A PLC that is an OPC UA server. heartbeat: node of its counter.

    server_certificate: the only one that is believed. anonymous: no encryption, no user.
    """

    url: str
    heartbeat: str
    anonymous: bool = False
    user: str = ""
    password_file: str = ""
    certificate: str = ""
    private_key: str = ""
    server_certificate: str = ""
    application_uri: str = "urn:shopfloor:plc_bridge"


@dataclass(frozen=True)
class ModbusPlc:
    """A PLC that is a Modbus TCP server. heartbeat: first of two holding registers, its counter."""

    address: str
    heartbeat: int
    port: int = 502
    unit: int = 1


@dataclass(frozen=True)
class PlcMapping:
    """The whole file."""

    plc: str
    cycle_ms: float = 100.0
    heartbeat_timeout_ms: float = 400.0
    points: tuple[Point, ...] = ()
    inputs: tuple[Input, ...] = ()
    commands: tuple[CommandPoint, ...] = ()
    opcua: OpcUa | None = None
    modbus: Modbus | None = None
    opcua_client: OpcUaPlc | None = None
    modbus_client: ModbusPlc | None = None

    @property
    def keys(self) -> list[str]:
        """Topics that the points read, by key."""
        return sorted({point.key for point in self.points if point.key != "bridge"})

    @property
    def detection_ms(self) -> float:
        """From the last move of the PLC's heartbeat to the safe state, at most."""
        is_client = self.opcua_client is not None or self.modbus_client is not None
        return self.heartbeat_timeout_ms + self.cycle_ms * (2 if is_client else 1)
