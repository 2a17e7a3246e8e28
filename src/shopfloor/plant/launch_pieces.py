"""One node as a launch file: its parameters are the launch arguments, with what they allow.

`ros2 launch shopfloor camera.launch.py --show-args` lists them from the node's declaration, so that
neither can be behind the other. A piece is a plant of one node: the same checks, process, transport
and restart as in a plant file.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import yaml
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration

from shopfloor.plant.launch_actions import spec_actions
from shopfloor.plant.nodes import NODE_TYPES, load
from shopfloor.plant.plant_file import load_plant
from shopfloor.ros import parameters as ros_parameters
from shopfloor.ros.parameters import ParameterSpec

_CELL = "cell"


def piece(type_: str) -> LaunchDescription:
    """The launch description of a node type of the plant file."""
    row = NODE_TYPES[type_]
    declared = ros_parameters.specs(load(row.parameters))
    arguments = [
        DeclareLaunchArgument("node_name", default_value=type_, description="Name of the node."),
        DeclareLaunchArgument(
            "namespace",
            default_value="/cell_1",
            description="Namespace of the cell, /NAME; nodes of one cell find each other by it.",
        ),
        DeclareLaunchArgument(
            "domain_id", default_value="", description="ROS domain, 0 to 101; empty: ROS_DOMAIN_ID."
        ),
        DeclareLaunchArgument(
            "log_level",
            default_value="info",
            choices=["debug", "info", "warn", "error"],
            description="Log level of the node.",
        ),
        *(_argument(spec) for spec in declared.values()),
    ]

    def actions(context: LaunchContext) -> list[LaunchDescriptionEntity]:
        def value(name: str) -> str:
            return str(LaunchConfiguration(name).perform(context))

        given = {
            name: _read(spec, value(name))
            for name, spec in declared.items()
            if value(name) != _text(spec.default)
        }
        if "plant_file" in declared:  # else a runner names its own, and a piece's is gone by then
            given["plant_file"] = value("plant_file")
        content = _plant(type_, value("node_name"), value("namespace"), given)
        with tempfile.TemporaryDirectory(prefix="shopfloor-") as folder:
            # Named for what a person typed: errors begin with it.
            file = Path(folder) / f"{type_}.launch.py"
            file.write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
            plant = load_plant(file)
        return spec_actions(plant, "all", domain=value("domain_id"), log_level=value("log_level"))

    return LaunchDescription([*arguments, OpaqueFunction(function=actions)])


def _argument(spec: ParameterSpec) -> DeclareLaunchArgument:
    more: dict[str, Any] = {}
    if spec.choices is not None and not spec.is_array:
        more["choices"] = [*spec.choices]
    allowed = "" if more else f" Allowed: {spec.allowed}."
    default = _text(spec.default)
    return DeclareLaunchArgument(
        spec.name, default_value=default, description=spec.description + allowed, **more
    )


def _text(default: Any) -> str:
    """A default as a person types it: YAML, and text without quotes."""
    if isinstance(default, str):
        return default
    if isinstance(default, tuple):
        default = list(default)
    return str(yaml.safe_dump(default, default_flow_style=True)).replace("\n...", "").strip()


def _read(spec: ParameterSpec, text: str) -> Any:
    """What was typed: text as it is, all else as YAML; the plant's check judges it."""
    if spec.type is str and not spec.is_array:
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _plant(type_: str, name: str, namespace: str, parameters: dict[str, Any]) -> dict[str, Any]:
    capabilities = sorted({need.capability for need in NODE_TYPES[type_].needs})
    node = {"type": type_, "parameters": parameters}
    return {
        "plant": "piece",
        "hosts": {"here": {"hostname": "*", "capabilities": capabilities}},
        "cells": {_CELL: {"namespace": namespace, "nodes": {name: node}}},
        "processes": {"piece": {"host": "here", "nodes": [name]}},
    }
