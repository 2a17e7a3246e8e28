"""Which topics, services and actions each node of a plant uses, by full name. Needs no ROS.

From the interface table and the parameters of the plant file: what the check compares, what the
links carry, and what security grants. `*` stands for a name that is only known at run time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from shopfloor.plant.paths import config_folder
from shopfloor.plant.plant_file import Node, Plant
from shopfloor.ros.interfaces import BY_KEY, HIDDEN_TOPICS, INTERFACES, Interface
from shopfloor.ros.recorded_topics import may_be_wanted, parse

ANY = "*"

_OWN_NAME = {
    "camera": "camera",
    "inspector": "inspector",
    "monitor": "vibration_monitor",
    "recorder": "recorder",
}
"""Placeholders that stand for the name of a node of that type."""

_ASKED_FOR = {
    ("inspector", "camera"): "camera",
    ("quality_gate", "camera"): "cameras",
    ("line_state", "host"): "hosts",
    ("plc_bridge", "host"): "hosts",
    ("plc_bridge", "machine"): "machines",
    ("scheduler", "host"): "thermal_machines",
    ("scheduler", "machine"): "health_machines",
}
"""(node type, placeholder) -> the parameter that says whose topic is read; NAME or NAME=..."""


@dataclass(frozen=True)
class Endpoint:
    """One end: `serves` is true for a publisher, a service's and an action's server."""

    node: Node
    host: str
    process: str
    row: Interface
    name: str
    serves: bool

    def meets(self, other: Endpoint) -> bool:
        """Whether the two may have the same name at run time."""
        return fnmatchcase(self.name, other.name) or fnmatchcase(other.name, self.name)


def endpoints(plant: Plant) -> list[Endpoint]:
    """Every endpoint of every placed node."""
    found = []
    for process in plant.processes.values():
        for node in (plant.nodes[key] for key in process.nodes):
            for row, serves in _rows(node):
                for name in _full_names(plant, node, row, serves, process.host):
                    found.append(Endpoint(node, process.host, process.name, row, name, serves))
    return found


def _rows(node: Node) -> Iterator[tuple[Interface, bool]]:
    asked = {row.key for row in _extra(node)}
    for row in INTERFACES:
        if node.type in row.servers or ANY in row.servers:
            yield row, True
        if node.type in row.clients or row.key in asked:
            yield row, False
    for row in HIDDEN_TOPICS:
        if node.type in row.clients:
            yield row, False
        if node.type in row.servers and node.value("service_events") != "none":
            yield row, True


def _extra(node: Node) -> Iterable[Interface]:
    """Rows that a node's own settings name, beyond the table."""
    keys: set[str] = set()
    if node.type == "recorder":
        by_name = recorder_policies(node).values()
        keys = {row.key for row in INTERFACES if may_be_wanted(row, raw="raw" in by_name)}
    elif node.type == "mqtt_bridge":
        keys = {str(text).split(" ")[0] for text in node.value("topics")}
    elif node.type == "plc_bridge":
        keys = _keys_of_mapping(str(node.value("mapping")))
    return [BY_KEY[key] for key in keys if key in BY_KEY]


def recorder_policies(node: Node) -> dict[str, str]:
    """What a recorder does with topics that its parameters name, by their full name."""
    with contextlib.suppress(ValueError):  # the check of its parameters says that
        named = parse(str(entry) for entry in node.value("topics"))
        return {_full_name(node, topic): policy for topic, policy in named.items()}
    return {}


def _keys_of_mapping(name: str) -> set[str]:
    """Keys of the interface table that a PLC mapping reads (`from: KEY.field`) or calls."""
    path = Path(name).expanduser()
    if not path.is_absolute() and not path.exists():
        path = config_folder() / path
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return set()  # the node says what is wrong with it, at configure
    found: set[str] = set()

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list):
            for item in value:
                walk(item)
        elif isinstance(value, str):
            found.add(value.split(".")[0])

    walk(content)
    return found


def _full_names(plant: Plant, node: Node, row: Interface, serves: bool, host: str) -> set[str]:
    if row.key == "heartbeat" and not serves:  # a line manager listens in several cells
        return {f"{namespace}/{row.name}" for namespace in _namespaces(plant, host)}
    choices = [_values(node, field, serves, host) for field in row.placeholders]
    return {
        _full_name(node, row.resolve(**dict(zip(row.placeholders, values, strict=True))))
        for values in product(*choices)
    }


def _namespaces(plant: Plant, host: str) -> set[str]:
    """Of the host's own nodes, and of the line managers of all hosts, who listen to each other."""
    return {
        plant.nodes[key].namespace
        for process in plant.processes.values()
        for key in process.nodes
        if process.host == host or not plant.nodes[key].row.managed
    }


def _values(node: Node, field: str, serves: bool, host: str) -> list[str]:
    if serves and _OWN_NAME.get(field) == node.type:
        return [node.name]
    parameter = _ASKED_FOR.get((node.type, field))
    if parameter is not None and not serves:
        value = node.value(parameter)
        texts = [value] if isinstance(value, str) else list(value or ())
        return [text.partition("=")[0] for text in texts]
    # A watchdog and a line manager speak for their host, and an inspector listens to its own.
    if field == "host" and (serves or node.type == "inspector"):
        return [host]
    return [ANY]


def _full_name(node: Node, name: str) -> str:
    full = _expanded(node, name)
    for old, new in node.remaps.items():
        if _expanded(node, old) == full:
            return _expanded(node, new)
    return full


def _expanded(node: Node, name: str) -> str:
    if name.startswith("/"):
        return name
    if name.startswith("~"):
        return f"{node.full_name}/{name[1:].lstrip('/')}".rstrip("/")
    return f"{node.namespace}/{name}"
