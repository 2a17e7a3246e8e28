"""The plant file: read, checked completely, and turned into frozen data.

plant = load_plant(Path("config/demo.yaml"))     # raises PlantError with every problem
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shopfloor.plant.nodes import NODE_TYPES, NodeType, load
from shopfloor.plant.plant_schema import defaults, structure_problems
from shopfloor.plant.problems import PlantError, Problem, did_you_mean, listed
from shopfloor.plant.yaml_lines import KeyPath, Lines
from shopfloor.plant.yaml_lines import load as load_yaml
from shopfloor.ros import parameters as ros_parameters

RESERVED_VARIABLES = (
    "ROS_DOMAIN_ID",
    "ROS_AUTOMATIC_DISCOVERY_RANGE",
    "ROS_STATIC_PEERS",
    "ROS_DISCOVERY_SERVER",
    "ROS_SECURITY_KEYSTORE",
    "ROS_SECURITY_ENABLE",
    "ROS_SECURITY_STRATEGY",
)
"""Set from the plant file's own keys, for all processes alike."""


@dataclass(frozen=True)
class Host:
    """A computer. `hostname` may be a pattern; either it or `machine_id` is empty.

    link_mbit_s: what its network carries in each direction.
    """

    name: str
    hostname: str
    machine_id: str
    role: str
    capabilities: tuple[str, ...]
    link_mbit_s: float
    path: KeyPath


@dataclass(frozen=True)
class Node:
    """A node: `parameters` are the ones that the file names, checked but not yet converted."""

    name: str
    cell: str
    namespace: str
    type: str
    parameters: Mapping[str, Any]
    remaps: Mapping[str, str]
    path: KeyPath

    @property
    def key(self) -> str:
        """`cell/name`, unique in the plant."""
        return f"{self.cell}/{self.name}"

    @property
    def full_name(self) -> str:
        """The fully qualified ROS name."""
        return f"{self.namespace}/{self.name}"

    @property
    def row(self) -> NodeType:
        """The node's type."""
        return NODE_TYPES[self.type]

    def value(self, parameter: str) -> Any:
        """A parameter's value, from the file or the default; None where the type has none such."""
        if parameter in self.parameters:
            return self.parameters[parameter]
        spec = ros_parameters.specs(load(self.row.parameters)).get(parameter)
        return spec.default if spec is not None else None


@dataclass(frozen=True)
class RestartPolicy:
    """What happens when a process ends by itself. `when`: always, on_failure or never."""

    when: str
    limit: int
    within_s: float
    backoff_s: float
    backoff_max_s: float


@dataclass(frozen=True)
class Process:
    """A process with its nodes, by key.

    watchdog_s: longest time without progress, 0: unlimited, None: not said. memory_mb: what it may
    have, in MB.
    nice: how far it stands back where cores are short, 0 to 19.
    """

    name: str
    host: str
    nodes: tuple[str, ...]
    essential: bool
    restart: RestartPolicy
    watchdog_s: float | None
    memory_mb: int
    nice: int
    env: Mapping[str, str]
    path: KeyPath


@dataclass(frozen=True)
class Security:
    """DDS security: where the keys are, and whether nodes start without (Permissive)."""

    keystore: str
    strategy: str = "Enforce"


@dataclass(frozen=True)
class Plant:
    """A checked plant file."""

    name: str
    domain_id: int | None
    discovery: str
    peers: tuple[str, ...]
    discovery_servers: tuple[str, ...]
    security: Security | None
    hosts: Mapping[str, Host]
    nodes: Mapping[str, Node]
    processes: Mapping[str, Process]
    lines: Lines = field(repr=False, compare=False)


def load_plant(path: Path) -> Plant:
    """Read and check a plant file. Raises PlantError with all problems at once."""
    content, lines, problems = load_yaml(path)
    if not problems or content is not None:
        problems = problems + structure_problems(content, lines)
    if problems:
        # Below, every key has its right type; while some have not, more words would mislead.
        problems += _parameter_problems_of_raw(content, lines)
        raise PlantError(problems)
    plant = _build(content, lines)
    problems = _meaning_problems(plant)
    if problems:
        raise PlantError(problems)
    return plant


def restart_policy(values: Mapping[str, Any]) -> RestartPolicy:
    """A policy from the file's keys over the schema's defaults."""
    return RestartPolicy(**{**defaults("restart"), **values})


def _build(content: dict[str, Any], lines: Lines) -> Plant:
    hosts = {
        name: Host(
            name,
            raw.get("hostname", ""),
            raw.get("machine_id", ""),
            raw.get("role", "edge"),
            tuple(raw.get("capabilities", ())),
            raw.get("link_mbit_s", defaults("host")["link_mbit_s"]),
            ("hosts", name),
        )
        for name, raw in content["hosts"].items()
    }
    nodes = {}
    for cell, raw_cell in content["cells"].items():
        for name, raw in raw_cell["nodes"].items():
            path = ("cells", cell, "nodes", name)
            namespace = raw_cell.get("namespace", f"/{cell}")
            node = Node(
                name, cell, namespace, raw["type"], raw.get("parameters", {}),
                raw.get("remaps", {}), path,
            )  # fmt: skip
            nodes[node.key] = node
    limits = defaults("process")
    processes = {
        name: Process(
            name,
            raw["host"],
            tuple(_full_key(reference, nodes) for reference in raw["nodes"]),
            raw.get("essential", True),
            restart_policy(raw.get("restart", {})),
            float(raw["watchdog_s"]) if "watchdog_s" in raw else None,
            raw.get("memory_mb", limits["memory_mb"]),
            raw.get("nice", limits["nice"]),
            raw.get("env", {}),
            ("processes", name),
        )
        for name, raw in content["processes"].items()
    }
    return Plant(
        content["plant"],
        content.get("domain_id"),
        content.get("discovery", "localhost"),
        tuple(content.get("peers", ())),
        tuple(content.get("discovery_servers", ())),
        Security(**content["security"]) if "security" in content else None,
        hosts,
        nodes,
        processes,
        lines,
    )


def _full_key(reference: str, nodes: Mapping[str, Node]) -> str:
    """`cell/name` for a reference that leaves the cell out; unchanged where that is not clear."""
    if "/" in reference:
        return reference
    keys = [key for key, node in nodes.items() if node.name == reference]
    return keys[0] if len(keys) == 1 else reference


def _meaning_problems(plant: Plant) -> list[Problem]:
    problems: list[Problem] = []
    say = plant.lines.problem
    for host in plant.hosts.values():
        if bool(host.hostname) == bool(host.machine_id):
            message = (
                "names both hostname and machine_id" if host.hostname else "is not recognisable"
            )
            message += "; allowed: one of hostname (a pattern such as '*' too) and machine_id"
            problems.append(say(host.path, message))
    for kind, key, found in (
        ("static", "peers", plant.peers),
        ("server", "discovery_servers", plant.discovery_servers),
    ):
        if plant.discovery == kind and not found:
            message = f"discovery: {kind} needs the other hosts; add the key '{key}'"
            problems.append(say(("discovery",), message))
        if plant.discovery != kind and found:
            message = f"not used with discovery: {plant.discovery}; allowed: with discovery: {kind}"
            problems.append(say((key,), message))
    full_names: dict[str, Node] = {}
    for node in plant.nodes.values():
        problems += _node_problems(node.type, node.parameters, node.path, plant.lines)
        other = full_names.setdefault(node.full_name, node)
        if other is not node:
            line = plant.lines.line(other.path)
            message = f"the node {node.full_name} is there twice; first in line {line}"
            problems.append(say(node.path, message))
    for process in plant.processes.values():
        for variable in set(process.env) & set(RESERVED_VARIABLES):
            message = (
                "is set for the whole plant; allowed: the keys domain_id, discovery, peers, "
                "discovery_servers, security"
            )
            problems.append(say((*process.path, "env", variable), message))
    return problems


def _parameter_problems_of_raw(content: Any, lines: Lines) -> list[Problem]:
    """Parameter problems of the nodes whose shape is right, while other things are wrong."""
    problems: list[Problem] = []
    cells = content.get("cells") if isinstance(content, dict) else None
    for cell, raw_cell in cells.items() if isinstance(cells, dict) else ():
        nodes = raw_cell.get("nodes") if isinstance(raw_cell, dict) else None
        for name, raw in nodes.items() if isinstance(nodes, dict) else ():
            type_ = raw.get("type") if isinstance(raw, dict) else None
            values = raw.get("parameters", {}) if isinstance(raw, dict) else None
            if isinstance(type_, str) and isinstance(values, dict):
                problems += _node_problems(type_, values, ("cells", cell, "nodes", name), lines)
    return problems


def _node_problems(
    type_: str, values: Mapping[str, Any], path: KeyPath, lines: Lines
) -> list[Problem]:
    if type_ not in NODE_TYPES:
        hint = did_you_mean(type_, NODE_TYPES)
        message = f"{type_!r} is no node type; {hint}allowed: {listed(NODE_TYPES)}"
        return [lines.problem((*path, "type"), message)]
    try:
        parameters = load(NODE_TYPES[type_].parameters)
    except (ImportError, AttributeError) as error:
        message = f"the parameters of '{type_}' cannot be loaded: {error}"
        return [lines.problem((*path, "type"), message)]
    problems = [
        lines.problem((*path, "parameters", problem.key), problem.message)
        for problem in ros_parameters.validate(parameters, values)
    ]
    known = ros_parameters.specs(parameters)
    for key, value in values.items():
        # rcl leaves an empty list of a parameter file out, and the default would come instead.
        if value == [] and key in known and known[key].is_array and known[key].default:
            message = "ROS parameter files cannot carry an empty list; allowed: at least one entry"
            problems.append(lines.problem((*path, "parameters", key), message))
    return problems
