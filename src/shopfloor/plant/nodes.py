"""The node types as data. Classes are named by string and imported only when they are needed.

So `plant/` depends on no feature, a process loads only the nodes that run in it, and the plant file
is checked without ROS.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shopfloor.plant.problems import did_you_mean, listed


@dataclass(frozen=True)
class Need:
    """The node needs `capability` of its host where `parameter` has one of `values`."""

    parameter: str
    values: tuple[str, ...]
    capability: str


@dataclass(frozen=True)
class NodeType:
    """One row.

    name: the executable, as in `ros2 run shopfloor NAME`.
    node: "module:Class" of the node, parameters: the same of its parameter dataclass.
    stage: nodes of a lower stage become active first, so that nobody speaks before its listeners;
    in tens, so that a new one finds room.
    needs: what its host must have; model_parameter: the parameter that names a model, if any.
    managed: whether a line manager brings it up; images: whether it publishes any.
    """

    name: str
    node: str
    parameters: str
    stage: int
    meaning: str
    needs: tuple[Need, ...] = ()
    model_parameter: str = ""
    managed: bool = True
    images: bool = False


_TYPES = (
    NodeType(
        "line_manager",
        "shopfloor.plant.line_manager:LineManagerNode",
        "shopfloor.plant.line_manager_parameters:LineManagerParameters",
        stage=0,
        meaning="Brings the nodes of a host up in order, and reports.",
        managed=False,
    ),
    NodeType(
        "recorder",
        "shopfloor.replay.recorder:RecorderNode",
        "shopfloor.replay.parameters:RecorderParameters",
        stage=10,
        meaning="Records the graph's topics into an MCAP bag.",
    ),
    NodeType(
        "mqtt_bridge",
        "shopfloor.plc.mqtt_node:MqttBridgeNode",
        "shopfloor.plc.mqtt_parameters:MqttBridgeParameters",
        stage=10,
        meaning="Verdicts, states and crops to an MQTT broker.",
    ),
    NodeType(
        "plc_bridge",
        "shopfloor.plc.node:PlcBridgeNode",
        "shopfloor.plc.parameters:PlcBridgeParameters",
        stage=20,
        meaning="The line for a PLC, over OPC UA and Modbus TCP.",
    ),
    NodeType(
        "line_state",
        "shopfloor.plc.line_node:LineStateNode",
        "shopfloor.plc.line_parameters:LineStateParameters",
        stage=30,
        meaning="The line's PackML state, counters and OEE.",
    ),
    NodeType(
        "quality_gate",
        "shopfloor.quality.node:QualityGateNode",
        "shopfloor.quality.parameters:QualityGateParameters",
        stage=40,
        meaning="Joins results into one verdict per part.",
    ),
    NodeType(
        "detail_inspector",
        "shopfloor.inspection.detail_node:DetailInspectorNode",
        "shopfloor.inspection.detail_parameters:DetailInspectorParameters",
        stage=45,
        meaning="Looks again at suspect crops: class and size of the defect.",
        model_parameter="model",
    ),
    NodeType(
        "scheduler",
        "shopfloor.scheduling.node:SchedulerNode",
        "shopfloor.scheduling.parameters:SchedulerParameters",
        stage=25,
        meaning="Plans jobs on machines, repairs plans, dispatches.",
    ),
    NodeType(
        "thermal_watchdog",
        "shopfloor.thermal.node:ThermalWatchdogNode",
        "shopfloor.thermal.parameters:ThermalWatchdogParameters",
        stage=55,
        meaning="Forecasts the heat of its host and says at which rung it may work.",
    ),
    NodeType(
        "inspector",
        "shopfloor.inspection.node:InspectorNode",
        "shopfloor.inspection.parameters:InspectorParameters",
        stage=50,
        meaning="Finds defects in frames.",
        model_parameter="model",
        images=True,
    ),
    NodeType(
        "vibration_monitor",
        "shopfloor.vibration.node:VibrationMonitorNode",
        "shopfloor.vibration.parameters:VibrationMonitorParameters",
        stage=30,
        meaning="Machine health from vibration: features, baselines, diagnoses.",
    ),
    NodeType(
        "vibration_source",
        "shopfloor.vibration.source_node:VibrationSourceNode",
        "shopfloor.vibration.source_parameters:VibrationSourceParameters",
        stage=60,
        meaning="Publishes vibration from recorded files or from the network.",
    ),
    NodeType(
        "machine_simulator",
        "shopfloor.sim.machine_node:MachineSimulatorNode",
        "shopfloor.sim.machine_parameters:MachineSimulatorParameters",
        stage=60,
        meaning="Simulates machines with sensors, wear and faults of the acquisition.",
    ),
    NodeType(
        "camera",
        "shopfloor.camera.node:CameraNode",
        "shopfloor.camera.parameters:CameraParameters",
        stage=70,
        meaning="Publishes the frames of a camera, a stream, files, a bag or the simulator.",
        needs=(Need("source", ("v4l2", "gstreamer", "genicam"), "camera"),),
        images=True,
    ),
    NodeType(
        "line_simulator",
        "shopfloor.sim.node:LineSimulatorNode",
        "shopfloor.sim.parameters:LineSimulatorParameters",
        stage=60,  # before the camera: a device is plugged in before somebody reads it
        meaning="Simulates the floor: parts on a belt with known defects.",
    ),
)

NODE_TYPES: Mapping[str, NodeType] = {row.name: row for row in _TYPES}


def node_type(name: str) -> NodeType:
    """The row of `name`; raises KeyError naming the known types."""
    if name in NODE_TYPES:
        return NODE_TYPES[name]
    hint = did_you_mean(name, NODE_TYPES)
    raise KeyError(f"no node type '{name}'; {hint}allowed: {listed(NODE_TYPES)}")


def load(reference: str) -> Any:
    """What a "module:Name" of a row stands for; raises ImportError or AttributeError."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
