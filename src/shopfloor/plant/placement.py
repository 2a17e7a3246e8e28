"""Which processes run on which host, and whether each host has what its nodes need."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from shopfloor.plant.plant_file import Host, Node, Plant, Process
from shopfloor.plant.problems import PlantError, Problem, did_you_mean, listed
from shopfloor.ros.paths import model_folder

ANY_HOST = "all"
THIS_HOST = "auto"


def machine_id() -> str:
    """Content of /etc/machine-id; empty where there is none."""
    try:
        return Path("/etc/machine-id").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def this_host(plant: Plant, hostname: str = "", id_: str = "") -> Host:
    """The host of the plant file that this machine is.

    hostname, id_: of the machine, asked from it by default. A machine id beats a host name, a plain
    host name beats a pattern. Raises PlantError where none fits, or more than one equally well.
    """
    hostname = hostname or socket.gethostname()
    id_ = id_ or machine_id()
    hosts = plant.hosts.values()
    short = hostname.partition(".")[0]
    by_rank = (
        [host for host in hosts if host.machine_id and host.machine_id == id_],
        [host for host in hosts if host.hostname in (hostname, short) and host.hostname],
        [host for host in hosts if host.hostname and fnmatchcase(hostname, host.hostname)],
    )
    for found in by_rank:
        if len(found) == 1:
            return found[0]
        if found:
            names = listed(host.name for host in found)
            message = f"this machine ('{hostname}') fits more than one host: {names}"
            raise PlantError([plant.lines.problem(("hosts",), message)])
    wanted = listed(
        f"{host.name} ({f'hostname {host.hostname}' if host.hostname else 'machine_id'})"
        for host in hosts
    )
    message = (
        f"this machine is none of the hosts: its hostname is '{hostname}', its machine id "
        f"'{id_ or 'unknown'}'; known: {wanted}; or say which with --host NAME"
    )
    raise PlantError([plant.lines.problem(("hosts",), message)])


def select(plant: Plant, host: str = THIS_HOST, only: Sequence[str] = ()) -> list[Process]:
    """The processes to run here.

    host: `auto` (the one this machine is), `all`, or a name from the file.
    only: node names (`NODE`, `CELL/NODE` or `/full/name`); processes are cut down to these.
    Raises PlantError for a host or node that is not there, or when nothing is left to run.
    """
    if host == ANY_HOST:
        processes = list(plant.processes.values())
    else:
        name = this_host(plant).name if host == THIS_HOST else host
        if name not in plant.hosts:
            hint = did_you_mean(name, plant.hosts)
            message = (
                f"no host '{name}'; {hint}known: {listed(plant.hosts)}, {THIS_HOST}, {ANY_HOST}"
            )
            raise PlantError([plant.lines.problem(("hosts",), message)])
        processes = [process for process in plant.processes.values() if process.host == name]
        if not processes:
            message = f"nothing is placed on the host '{name}'"
            raise PlantError([plant.lines.problem(("processes",), message)])
    return _cut(plant, processes, only) if only else processes


def placement_problems(plant: Plant) -> list[Problem]:
    """Unknown hosts and nodes, nodes placed twice or nowhere."""
    problems: list[Problem] = []
    say = plant.lines.problem
    placed: dict[str, str] = {}
    for process in plant.processes.values():
        if process.host not in plant.hosts:
            hint = did_you_mean(process.host, plant.hosts)
            message = f"no host '{process.host}'; {hint}allowed: {listed(plant.hosts)}"
            problems.append(say((*process.path, "host"), message))
        for index, key in enumerate(process.nodes):
            path = (*process.path, "nodes", index)
            if key not in plant.nodes:
                problems.append(say(path, _unknown_node(plant, key)))
            elif key in placed:
                there = f"already placed in process '{placed[key]}'"
                problems.append(say(path, f"the node '{key}' is {there}; allowed: once"))
            else:
                placed[key] = process.name
    problems += _manager_problems(plant)
    for key, node in plant.nodes.items():
        if key not in placed:
            message = "is in no process; name it under 'nodes' of one"
            problems.append(say(node.path, message))
    return problems


def need_problems(plant: Plant, processes: Iterable[Process]) -> list[Problem]:
    """Capabilities and model files that nodes of `processes` need and that are not there."""
    processes = tuple(processes)
    problems = _ladder_problems(plant, processes)
    for process in processes:
        host = plant.hosts[process.host]
        for node in (plant.nodes[key] for key in process.nodes):
            problems += _capability_problems(plant, host, node)
            problems += _model_problems(plant, node)
    return problems


def _cut(plant: Plant, processes: Sequence[Process], only: Sequence[str]) -> list[Process]:
    here = [plant.nodes[key] for process in processes for key in process.nodes]
    wanted: set[str] = set()
    problems = []
    for name in only:
        found = {node.key for node in here if name in (node.name, node.key, node.full_name)}
        if not found:
            keys = [node.key for node in here]
            hint = did_you_mean(name, [*keys, *(node.name for node in here)])
            message = f"no node '{name}' to run here; {hint}known: {listed(keys)}"
            problems.append(plant.lines.problem(("processes",), message))
        wanted |= found
    if problems:
        raise PlantError(problems)
    cut = [
        replace(process, nodes=tuple(key for key in process.nodes if key in wanted))
        for process in processes
    ]
    return [process for process in cut if process.nodes]


def _manager_problems(plant: Plant) -> list[Problem]:
    """Two line managers of one host would work against each other."""
    problems: list[Problem] = []
    first: dict[str, str] = {}
    for process in plant.processes.values():
        for index, key in enumerate(process.nodes):
            node = plant.nodes.get(key)
            if node is None or node.row.managed:
                continue
            other = first.setdefault(process.host, key)
            if other != key:
                message = f"'{process.host}' has the line manager '{other}' already; allowed: one"
                problems.append(plant.lines.problem((*process.path, "nodes", index), message))
    return problems


def _unknown_node(plant: Plant, key: str) -> str:
    cells = [node.cell for node in plant.nodes.values() if node.name == key]
    if cells:
        return f"more than one cell has a node '{key}'; allowed: " + listed(
            f"{c}/{key}" for c in cells
        )
    known = [*plant.nodes, *(node.name for node in plant.nodes.values())]
    return f"no node '{key}'; {did_you_mean(key, known)}known: {listed(plant.nodes)}"


def _capability_problems(plant: Plant, host: Host, node: Node) -> list[Problem]:
    problems = []
    for need in node.row.needs:
        value = node.value(need.parameter)
        if value in need.values and need.capability not in host.capabilities:
            message = (
                f"{value!r} needs a host with '{need.capability}', and '{host.name}' has "
                f"{listed(host.capabilities)}"
            )
            path = (*node.path, "parameters", need.parameter)
            problems.append(plant.lines.problem(path, message))
    return problems


def _ladder_problems(plant: Plant, processes: Iterable[Process]) -> list[Problem]:
    """An inspector obeys the rung of its host's watchdog by number: both know the same names."""
    ladders: dict[str, list[Node]] = {}
    for process in processes:
        for node in (plant.nodes[key] for key in process.nodes):
            if node.type in ("thermal_watchdog", "inspector"):
                ladders.setdefault(process.host, []).append(node)
    problems = []
    for nodes in ladders.values():
        watchdog = next((node for node in nodes if node.type == "thermal_watchdog"), None)
        if watchdog is None:
            continue
        for node in nodes:
            names, wanted = node.value("rung_names"), watchdog.value("rung_names")
            if list(names) != list(wanted):
                message = (
                    f"rung_names {list(names)} are not those of '{watchdog.key}' on the same host; "
                    f"allowed: {list(wanted)}"
                )
                problems.append(plant.lines.problem((*node.path, "parameters"), message))
    return problems


def _model_problems(plant: Plant, node: Node) -> list[Problem]:
    parameter = node.row.model_parameter
    if not parameter:
        return []
    message = ""
    try:
        folder = model_folder(str(node.value(parameter)))
    except FileNotFoundError as error:
        message = str(error)
    else:
        if not (folder / "model.onnx").is_file():
            message = f"the model folder {folder} has no model.onnx"
    if not message:
        return []
    return [plant.lines.problem((*node.path, "parameters", parameter), message)]
