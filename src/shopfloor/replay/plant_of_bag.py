"""The plant of a replay: which of the nodes run, with which parameters."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from shopfloor.plant.plant_file import Node, Plant, load_plant
from shopfloor.plant.problems import did_you_mean, listed
from shopfloor.plant.specs import ProcessSpec, make_specs
from shopfloor.replay.board_files import Boards
from shopfloor.ros.interfaces import interface
from shopfloor.ros.parameters import ParameterError, build

DRIVEN = (
    "inspector", "detail_inspector", "quality_gate", "vibration_monitor", "thermal_watchdog",
    "line_state", "scheduler",
)  # fmt: skip
"""Types that a replay can drive: what they do follows from topics and commands."""


class ReplayError(RuntimeError):
    """The replay cannot run; the message says why and what is allowed."""


def load(path: Path | None, text: str) -> Plant:
    """The plant file at `path`, or else `text`, which came with the bag.

    Raises ReplayError and PlantError.
    """
    if path is not None:
        return load_plant(path)
    if not text:
        raise ReplayError("this bag does not say which plant it is of; name one: --plant FILE")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "plant_of_the_bag.yaml"
        file.write_text(text, encoding="utf-8")
        return load_plant(file)


def choose(plant: Plant, names: Sequence[str]) -> list[Node]:
    """The nodes of these names or types; none named: all that can be driven."""
    drivable = [node for node in plant.nodes.values() if node.type in DRIVEN]
    if not names:
        return drivable
    chosen: list[Node] = []
    for name in names:
        found = [n for n in drivable if name in (n.name, n.type, n.key)]
        if not found:
            known = sorted({n.name for n in drivable} | {n.type for n in drivable})
            hint = did_you_mean(name, known)
            raise ReplayError(f"no node '{name}' to replay; {hint}allowed: {listed(known)}")
        chosen += [node for node in found if node not in chosen]
    return chosen


def settings(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`NODE.PARAMETER=VALUE` by node; values in YAML. Raises ReplayError."""
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        target, equals, value = text.partition("=")
        node, dot, parameter = target.rpartition(".")
        if not (equals and dot and node and parameter):
            raise ReplayError(f"--set {text}: allowed: NODE.PARAMETER=VALUE")
        try:
            found.setdefault(node, {})[parameter] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ReplayError(f"--set {text}: no YAML value: {error}") from None
    return found


def replay_specs(
    plant: Plant,
    nodes: Sequence[Node],
    topics: Collection[str],
    changes: Mapping[str, Mapping[str, Any]],
    boards: Boards,
) -> list[ProcessSpec]:
    """Processes of these nodes alone, as a replay needs them.

    topics: of the bag. changes: parameters by node's name or type. boards: of the watchdogs.
    Raises ReplayError and PlantError.
    """
    known = {name for node in nodes for name in (node.name, node.type)}
    for name in changes:
        if name not in known:
            raise ReplayError(f"--set {name}: allowed: {listed(sorted(known))}")
    hosts = {key: process.host for process in plant.processes.values() for key in process.nodes}
    changed = {}
    for node in nodes:
        host = str(node.parameters.get("host_name") or hosts[node.key])
        values = {**node.parameters, **_for_replay(node, topics, boards, host)}
        values |= {**changes.get(node.type, {}), **changes.get(node.name, {})}
        try:
            build(_parameters(node), values)
        except ParameterError as error:
            raise ReplayError(f"{node.name}: {error}") from None
        changed[node.key] = replace(node, parameters=values)
    wanted = set(changed)
    processes = {
        name: replace(process, nodes=tuple(key for key in process.nodes if key in wanted))
        for name, process in plant.processes.items()
        if wanted & set(process.nodes)
    }
    alone = replace(
        plant, nodes=changed, processes=processes,
        # On this machine, with nobody: neither the plant's servers nor its keys are here.
        discovery="localhost", peers=(), discovery_servers=(), security=None,
    )  # fmt: skip
    return make_specs(alone, "all")


def _parameters(node: Node) -> Any:
    from shopfloor.plant.nodes import load as load_reference

    return load_reference(node.row.parameters)


def _for_replay(node: Node, topics: Collection[str], boards: Boards, host: str) -> dict[str, Any]:
    if node.type == "inspector":
        name = interface("image").resolve(camera=str(node.value("camera")))
        name = node.remaps.get(name, name)
        topic = name if name.startswith("/") else f"{node.namespace}/{name}"
        return {"road": "image" if topic in topics else "compressed"}
    if node.type == "thermal_watchdog":
        return {"system_root": str(boards.folder(host)), "nvml": False}
    # In the replay's own state folder: never what the plant works with.
    if node.type == "scheduler":
        return {"journal": ""}
    if node.type == "vibration_monitor":
        return {"baseline_folder": ""}
    return {}
