"""Reads the mapping of a PLC from YAML; what is wrong is told by file, line and key. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shopfloor.plant import yaml_lines
from shopfloor.plant.plant_schema import structure_problems
from shopfloor.plant.problems import PlantError, Problem, listed
from shopfloor.plant.yaml_lines import Lines
from shopfloor.plc.mapping import (
    ANSWER_FIELDS,
    ANSWER_REGISTERS,
    HEARTBEAT_REGISTERS,
    WRITE_LIMIT,
    CommandPoint,
    Field,
    Input,
    Modbus,
    ModbusPlc,
    OpcUa,
    OpcUaPlc,
    PlcMapping,
    Point,
)
from shopfloor.plc.values import DEFAULT_LENGTH, Kind

SCHEMA = "plc/plc.schema.json"
_TIMES = ("cycle_ms", "heartbeat_timeout_ms")
_LINKS = {
    "opcua": OpcUa,
    "modbus": Modbus,
    "opcua_client": OpcUaPlc,
    "modbus_client": ModbusPlc,
}
_KEYS_OF_SECURITY = ("user", "password_file", "certificate", "private_key", "server_certificate")


def load_mapping(path: Path, topics: Mapping[str, bool]) -> PlcMapping:
    """Read and check a file. `topics`: keys of the interface table, True for topics.

    Raises PlantError with everything that is wrong, by line.
    """
    content, lines, problems = yaml_lines.load(path)
    if content is not None:
        problems += structure_problems(content, lines, SCHEMA)
    if not problems:
        problems += _Check(content, lines, topics).problems()
    if problems:
        raise PlantError(problems)
    return _build(content)


def _build(content: dict[str, Any]) -> PlcMapping:
    links: dict[str, Any] = {}
    for key, kind in _LINKS.items():
        if key in content:
            raw = dict(content[key] or {})
            if "peers" in raw:
                raw["peers"] = tuple(raw["peers"])
            links[key] = kind(**raw)
    links.update({key: float(content[key]) for key in _TIMES if key in content})
    return PlcMapping(
        plc=content["plc"],
        points=tuple(map(_point, content.get("points", ()))),
        inputs=tuple(map(_input, content.get("inputs", ()))),
        commands=tuple(map(_command, content.get("commands", ()))),
        **links,
    )


def _point(raw: dict[str, Any]) -> Point:
    key, *path = raw["from"].split(".")
    return Point(
        raw["name"],
        key,
        tuple(path),
        Kind(raw["type"]),
        raw.get("register"),
        raw.get("node", ""),
        raw.get("length", DEFAULT_LENGTH),
        float(raw.get("scale", 1.0)),
    )


def _field(raw: dict[str, Any], name: str) -> Field:
    return Field(
        raw[name],
        Kind(raw["type"]),
        raw.get("length", DEFAULT_LENGTH),
        raw.get("minimum"),
        raw.get("maximum"),
    )


def _input(raw: dict[str, Any]) -> Input:
    scale = float(raw.get("scale", 1.0))
    return Input(_field(raw, "name"), raw.get("register"), raw.get("node", ""), scale)


def _command(raw: dict[str, Any]) -> CommandPoint:
    return CommandPoint(
        raw["name"],
        raw["service"],
        tuple(_field(item, "field") for item in raw.get("fields", ())),
        raw.get("register"),
        raw.get("answer"),
        raw.get("nodes", {}),
        raw.get("answer_nodes", {}),
    )


class _Check:
    """What a schema cannot say. A PLC as server has one table of registers; the bridge has two."""

    def __init__(self, content: Any, lines: Lines, topics: Mapping[str, bool]) -> None:
        self._content = content
        self._lines = lines
        self._topics = topics
        self._names: set[str] = set()
        self._is_client = "modbus_client" in content
        self._sent: dict[int, str] = {}
        self._taken: dict[int, str] = self._sent if self._is_client else {}
        at = content["modbus_client"]["heartbeat"] if self._is_client else 0
        beat = range(at, at + HEARTBEAT_REGISTERS)
        self._taken.update(dict.fromkeys(beat, "the PLC's heartbeat"))

    def problems(self) -> Iterator[Problem]:
        yield from self._links()
        for index, raw in enumerate(self._content.get("points", ())):
            yield from self._point(_point(raw), ("points", index))
        for index, raw in enumerate(self._content.get("inputs", ())):
            yield from self._input(_input(raw), ("inputs", index))
        for index, raw in enumerate(self._content.get("commands", ())):
            yield from self._command(_command(raw), ("commands", index))

    def _links(self) -> Iterator[Problem]:
        for protocol in ("opcua", "modbus"):
            client = f"{protocol}_client"
            if protocol in self._content and client in self._content:
                text = f"not beside '{protocol}': the bridge is server or client, not both"
                yield self._lines.problem((client,), text)
        plc = self._content.get("opcua_client")
        if plc is not None and not plc.get("anonymous", False):
            for key in _KEYS_OF_SECURITY:
                if not plc.get(key):
                    text = "is missing; allowed: a value, or 'anonymous: true' on a test bench"
                    yield self._lines.problem(("opcua_client", key), text)

    def _point(self, point: Point, where: tuple[Any, ...]) -> Iterator[Problem]:
        yield from self._once(point.name, (*where, "name"))
        if point.key != "bridge" and not self._topics.get(point.key, False):
            text = f"no topic '{point.key}' in docs/interfaces.md"
            yield self._lines.problem((*where, "from"), text)
        yield from self._take(point.register, point.registers, self._sent, point.name, where)

    def _input(self, item: Input, where: tuple[Any, ...]) -> Iterator[Problem]:
        yield from self._once(item.name, (*where, "name"))
        yield from self._take(item.register, item.registers, self._taken, item.name, where)
        reached = item.register is not None or item.node or "opcua" in self._content
        if not reached:
            text = "has neither register nor node: no PLC could bring it"
            yield self._lines.problem((*where, "name"), text)

    def _command(self, command: CommandPoint, where: tuple[Any, ...]) -> Iterator[Problem]:
        yield from self._once(command.name, (*where, "name"))
        if self._topics.get(command.service, True):
            text = f"no service '{command.service}' in docs/interfaces.md"
            yield self._lines.problem((*where, "service"), text)
        size = command.registers
        yield from self._take(command.register, size, self._taken, command.name, where)
        if size > WRITE_LIMIT and command.register is not None:
            text = f"its mailbox takes {size} registers; allowed: {WRITE_LIMIT}, one Modbus write"
            yield self._lines.problem((*where, "register"), text)
        if self._is_client and (command.register is None) != (command.answer is None):
            text = "'register' and 'answer' go together where the PLC is the server"
            yield self._lines.problem((*where, "register"), text)
        if not self._is_client and command.answer is not None:
            text = "only with 'modbus_client'; else the answer has the mailbox' own number"
            yield self._lines.problem((*where, "answer"), text)
        answer = command.answer if self._is_client else command.register
        yield from self._take(answer, ANSWER_REGISTERS, self._sent, command.name, where, "answer")
        yield from self._nodes(command, where)

    def _nodes(self, command: CommandPoint, where: tuple[Any, ...]) -> Iterator[Problem]:
        fields = [field.name for field in command.fields]
        for key, wanted, allowed in (
            ("nodes", ["id", *fields], ["id", "expected_state", *fields]),
            ("answer_nodes", ["id", "outcome"], list(ANSWER_FIELDS)),
        ):
            given = getattr(command, key)
            missing = [name for name in wanted if name not in given]
            if (command.nodes or command.answer_nodes) and missing:
                yield self._lines.problem((*where, key), f"{listed(missing)}: missing")
            for name in given:
                if name not in allowed:
                    text = f"unknown; allowed: {listed(allowed)}"
                    yield self._lines.problem((*where, key, name), text)

    def _once(self, name: str, where: tuple[Any, ...]) -> Iterator[Problem]:
        if name in self._names:
            yield self._lines.problem(where, f"the name '{name}' is there twice")
        self._names.add(name)

    def _take(
        self,
        start: int | None,
        count: int,
        used: dict[int, str],
        name: str,
        where: tuple[Any, ...],
        key: str = "register",
    ) -> Iterator[Problem]:
        if start is None:
            return
        span = range(start, start + count)
        clash = next((used[at] for at in span if at in used), None)
        if clash is not None:
            text = f"registers {span[0]} to {span[-1]} overlap with {clash}"
            yield self._lines.problem((*where, key), text)
        if span[-1] > 65535:
            text = f"registers {span[0]} to {span[-1]}; allowed: up to 65535"
            yield self._lines.problem((*where, key), text)
        used.update(dict.fromkeys(span, name))
