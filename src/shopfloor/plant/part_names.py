"""Whether the parts that a quality gate judges have names. Needs no ROS."""

from __future__ import annotations

from shopfloor.plant.nodes import load
from shopfloor.plant.plant_file import Plant
from shopfloor.plant.problems import Problem
from shopfloor.ros.parameters import build


def part_name_problems(plant: Plant) -> list[Problem]:
    """Cameras of a quality gate whose frames name no part: it would judge none of them."""
    cameras = {node.full_name: node for node in plant.nodes.values() if node.type == "camera"}
    problems = []
    for gate in (node for node in plant.nodes.values() if node.type == "quality_gate"):
        for name in gate.value("cameras"):
            camera = cameras.get(f"{gate.namespace}/{name}")
            if camera is None:
                continue
            reason = build(load(camera.row.parameters), camera.parameters).nameless
            if reason:
                path = (*gate.path, "parameters", "cameras")
                problems.append(plant.lines.problem(path, f"'{camera.key}': {reason}"))
    return problems
