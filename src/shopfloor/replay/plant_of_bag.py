"""The plant of a replay: which of the nodes run, with which parameters."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from shopfloor.plant.plant_file import Node, Plant, load_plant
from shopfloor.plant.problems import did_you_mean, listed
from shopfloor.plant.specs import ProcessSpec, make_specs
from shopfloor.replay.topics import row_of
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
        found.setdefault(node, {})[parameter] = yaml.safe_load(value)
    return found


def replay_specs(
    plant: Plant,
    nodes: Sequence[Node],
    topics: Sequence[str],
    changes: Mapping[str, Mapping[str, Any]],
    system_root: Path,
) -> list[ProcessSpec]:
    """Processes of these nodes alone, as a replay needs them.

    topics: of the bag. changes: parameters by node's name or type. system_root: of the watchdog.
    Raises ReplayError and PlantError.
    """
    known = {name for node in nodes for name in (node.name, node.type)}
    for name in changes:
        if name not in known:
            raise ReplayError(f"--set {name}: allowed: {listed(sorted(known))}")
    changed = {}
    for node in nodes:
        values = {**node.parameters, **_for_replay(node, topics, system_root)}
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
    alone = replace(plant, nodes=changed, processes=processes, discovery="localhost", peers=())
    return make_specs(alone, "all")


def _parameters(node: Node) -> Any:
    from shopfloor.plant.nodes import load as load_reference

    return load_reference(node.row.parameters)


def _for_replay(node: Node, topics: Sequence[str], system_root: Path) -> dict[str, Any]:
    if node.type == "inspector":
        keys = {row.key for topic in topics if (row := row_of(topic)) is not None}
        return {"road": "image" if "image" in keys else "compressed"}
    if node.type == "thermal_watchdog":
        return {"system_root": str(system_root), "nvml": False}
    if node.type == "scheduler":
        return {"journal": ""}  # in the replay's own state folder: never the one of the plant
    return {}
