"""Process specs: the one form in which every runner gets the plant, so that they cannot disagree.

`ros2 launch`, the runner for wheels and systemd units all start `command(FILE)` in
`environment`, with `parameters` written to FILE.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from shopfloor.plant.environment import (
    IMAGE_SEGMENT_BYTES,
    SMALL_SEGMENT_BYTES,
    plant_environment,
)
from shopfloor.plant.nodes import load
from shopfloor.plant.placement import THIS_HOST, need_problems, placement_problems, select
from shopfloor.plant.plant_file import Node, Plant, Process, RestartPolicy
from shopfloor.plant.plant_schema import defaults
from shopfloor.plant.problems import PlantError
from shopfloor.plant.security import enclave
from shopfloor.ros import parameters as ros_parameters


@dataclass(frozen=True)
class NodeSpec:
    """A node as it is started: type, full ROS name, and what its line manager must know."""

    type: str
    name: str
    namespace: str
    stage: int
    managed: bool
    images: bool

    @property
    def full_name(self) -> str:
        """The fully qualified ROS name."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class ProcessSpec:
    """One process.

    name: process group of the plant file; host: its host there.
    arguments: command line after the interpreter, without the parameter file.
    environment: variables to lay over the caller's.
    parameters: content of the ROS parameter file.
    watchdog_s: longest time without progress. memory_mb: what it may have, in MB (1e6 bytes).
    nice: how far it stands back where cores are short; part of the command line as well.
    """

    name: str
    host: str
    nodes: tuple[NodeSpec, ...]
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    parameters: str
    restart: RestartPolicy
    essential: bool
    watchdog_s: float = 0.0
    memory_mb: int = 0
    nice: int = 0

    def command(self, parameters_file: str) -> list[str]:
        """The command line, with the parameter file at `parameters_file`."""
        return [sys.executable, *self.arguments, "--params-file", parameters_file]


def make_specs(
    plant: Plant,
    host: str = THIS_HOST,
    only: Sequence[str] = (),
    *,
    domain_id: int | None = None,
    log_level: str = "",
    plant_file: str = "",
) -> list[ProcessSpec]:
    """The processes of `plant` to start for `host` (a name, `auto` or `all`).

    only: start just these nodes. domain_id, log_level: beat the plant file's and ROS's own.
    plant_file: where the plant file will lie for the recorder; empty: where it was read.
    Raises PlantError with everything that is wrong with the placement, here or on another host.
    """
    problems = placement_problems(plant)
    if problems:
        raise PlantError(problems)
    processes = select(plant, host, only)
    problems = need_problems(plant, processes)
    if problems:
        raise PlantError(problems)
    plant_file = plant_file or str(Path(plant.lines.file).resolve())
    return [
        _spec(plant, process, processes, domain_id, log_level, plant_file) for process in processes
    ]


def shared_memory_warning(specs: Sequence[ProcessSpec], folder: str = "/dev/shm") -> str:
    """What to tell a person when /dev/shm is too small for `specs`; empty where it is not."""
    needed = sum(
        IMAGE_SEGMENT_BYTES if any(node.images for node in spec.nodes) else SMALL_SEGMENT_BYTES
        for spec in specs
    )
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return f"{folder} cannot be used ({error.strerror}): images will get lost"
    if free >= needed:
        return ""
    return (
        f"{folder} has {free // 2**20} MiB free and the processes need {needed // 2**20} MiB: "
        "images will get lost; make it larger (in a container: --shm-size=1g)"
    )


def _spec(
    plant: Plant,
    process: Process,
    all_processes: Sequence[Process],
    domain_id: int | None,
    log_level: str,
    plant_file: str,
) -> ProcessSpec:
    nodes = [plant.nodes[key] for key in process.nodes]
    arguments = ["-m", "shopfloor.plant.group"]
    if process.nice:
        arguments += ["--nice", str(process.nice)]
    for node in nodes:
        arguments += ["--node", f"{node.type}:{node.full_name}"]
    arguments += ["--ros-args"]
    if plant.security is not None:
        arguments += ["--enclave", enclave(plant, process)]
    if log_level:
        arguments += ["--log-level", log_level]
    for node in nodes:
        for name, new_name in node.remaps.items():
            arguments += ["--remap", f"{node.name}:{name}:={new_name}"]
    return ProcessSpec(
        name=process.name,
        host=process.host,
        nodes=tuple(_node_spec(node) for node in nodes),
        arguments=tuple(arguments),
        environment={
            **plant_environment(plant, {node.type for node in nodes}, process.host, domain_id),
            **process.env,
        },
        parameters=_parameter_file(plant, process, all_processes, plant_file),
        restart=process.restart,
        essential=process.essential,
        watchdog_s=float(
            defaults("process")["watchdog_s"] if process.watchdog_s is None else process.watchdog_s
        ),
        memory_mb=process.memory_mb,
        nice=process.nice,
    )


def _node_spec(node: Node) -> NodeSpec:
    return NodeSpec(
        node.type, node.name, node.namespace, node.row.stage, node.row.managed, node.row.images
    )


def _parameter_file(
    plant: Plant, process: Process, all_processes: Sequence[Process], plant_file: str
) -> str:
    here = [other for other in all_processes if other.host == process.host]
    managed = _managed(plant, here)
    content: dict[str, Any] = {}
    for node in (plant.nodes[key] for key in process.nodes):
        values: dict[str, Any] = {"host_name": process.host}
        if not node.row.managed:
            values.update(_line_manager_values(plant, process.host, managed))
        elif managed:
            values["autostart"] = False
        if node.type == "recorder":
            values["plant_file"] = plant_file
        values.update(node.parameters)
        content[node.full_name] = {"ros__parameters": _typed(node, values)}
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _managed(plant: Plant, processes: Sequence[Process]) -> list[tuple[Node, Process]]:
    """The nodes of a host that its line manager brings up, in order; empty without a manager."""
    placed = [(plant.nodes[key], process) for process in processes for key in process.nodes]
    if all(node.row.managed for node, _ in placed):
        return []
    managed = [(node, process) for node, process in placed if node.row.managed]
    return sorted(managed, key=lambda pair: pair[0].row.stage)


def _line_manager_values(
    plant: Plant, host: str, managed: Sequence[tuple[Node, Process]]
) -> dict[str, Any]:
    return {
        "role": plant.hosts[host].role,
        "nodes": [node.full_name for node, _ in managed],
        "node_types": [node.type for node, _ in managed],
        "groups": [process.name for _, process in managed],
        "essential": [process.essential for _, process in managed],
        **_peers(plant, host),
    }


def _peers(plant: Plant, host: str) -> dict[str, Any]:
    """The line managers of the other hosts, and where they are."""
    found = [
        (plant.nodes[key].full_name, process.host)
        for process in plant.processes.values()
        for key in process.nodes
        if process.host != host and not plant.nodes[key].row.managed
    ]
    return {"peers": [name for name, _ in found], "peer_hosts": [other for _, other in found]}


def _typed(node: Node, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with the types that the node declares: 10 for a rate becomes 10.0."""
    known = ros_parameters.specs(load(node.row.parameters))
    typed = {}
    for key, value in values.items():
        converted = ros_parameters.coerce(known[key], value)
        if isinstance(converted, tuple):
            if converted:  # empty is the default then: the plant file's check saw to that
                typed[key] = list(converted)
        else:
            typed[key] = converted
    return typed


class _Dumper(yaml.SafeDumper):
    """Text always in quotes: the reader in rcl guesses types in its own way."""


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')


_Dumper.add_representer(str, _quoted)
