"""Every endpoint that a running node really has is in its policy."""

from __future__ import annotations

import socket
import sys
from collections import defaultdict
from pathlib import Path

import yaml
from harness import ACTIVE, Graph
from shopfloor_msgs.msg import HostState

from shopfloor.plant.endpoints import endpoints
from shopfloor.plant.nodes import NODE_TYPES
from shopfloor.plant.plant_file import Plant, load_plant
from shopfloor.plant.security import Rights, rights_of
from shopfloor.ros.endpoint_node import message_type
from shopfloor.ros.interfaces import Kind, interface
from shopfloor.ros.qos import subscription_qos

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from tiny_model import write_package

TEXT = """\
plant: trial
hosts:
  here: {{hostname: "*", role: single, capabilities: [camera]}}
cells:
  line_1:
    nodes:
      belt: {{type: line_simulator, parameters: {{camera: eye}}}}
      eye: {{type: camera, parameters: {{source: folder, address: {folder}}}}}
      inspector: {{type: inspector, parameters: {{camera: eye, model: {model}}}}}
      detail: {{type: detail_inspector, parameters: {{model: {model}}}}}
      gate: {{type: quality_gate, parameters: {{cameras: [eye], detail_deadline_ms: 3000}}}}
      heat: {{type: thermal_watchdog}}
      pump: {{type: machine_simulator, parameters: {{machines: [pump_1]}}}}
      shaft: {{type: vibration_source, parameters: {{address: "127.0.0.1:{udp}"}}}}
      monitor: {{type: vibration_monitor}}
      scheduler:
        type: scheduler
        parameters:
          problem_file: demo_orders.json
          processes: 0
          feeders: [inspector=feeder_boards]
          thermal_machines: [here=press]
          health_machines: [pump_1=press]
      state: {{type: line_state, parameters: {{hosts: [here]}}}}
      plc: {{type: plc_bridge, parameters: {{mapping: {mapping}}}}}
      mqtt:
        type: mqtt_bridge
        parameters:
          port: 1
          tls: false
          topics: [part_verdict, thermal_state host=here, plan_events]
      tape: {{type: recorder, parameters: {{folder: {folder}/bags}}}}
      manager: {{type: line_manager}}
processes:
  all:
    host: here
    nodes: [belt, eye, inspector, detail, gate, heat, pump, shaft, monitor, scheduler, state, plc,
            mqtt, tape]
  manager: {{host: here, nodes: [manager]}}
"""
SEEN = {
    "heartbeat", "diagnostics", "frame_info", "inspection_result", "suspect_crop", "detail_result",
    "part_verdict", "thermal_state", "vibration_block", "vibration_features", "plan", "line_state",
    "host_state", "packml_command", "set_rung", "plan_schedule", "manage_line",
}  # fmt: skip
"""Rows whose servers are waited for, so that the look at the graph is no look at half of it."""


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def whole_plant(folder: Path) -> Plant:
    """One node of every type."""
    cameras = folder / "pictures"
    cameras.mkdir()
    mapping = folder / "plc.yaml"
    source = Path(__file__).resolve().parents[2] / "config" / "plc" / "plc1.yaml"
    content = yaml.safe_load(source.read_text("utf-8"))
    del content["opcua"]
    content["modbus"]["port"] = free_port(socket.SOCK_STREAM)
    mapping.write_text(yaml.safe_dump(content), "utf-8")
    path = folder / "plant.yaml"
    text = TEXT.format(
        folder=cameras,
        model=write_package(folder / "model"),
        mapping=mapping,
        udp=free_port(socket.SOCK_DGRAM),
    )
    path.write_text(text, "utf-8")
    return load_plant(path)


def actual(graph: Graph, node: str, namespace: str) -> set[tuple[Kind, bool, str]]:
    """What the graph says that a node has, with the parts of an action as the action."""
    ask = graph.node
    found = {
        (kind, serves, name)
        for kind, serves, names in (
            (Kind.TOPIC, True, ask.get_publisher_names_and_types_by_node(node, namespace)),
            (Kind.TOPIC, False, ask.get_subscriber_names_and_types_by_node(node, namespace)),
            (Kind.SERVICE, True, ask.get_service_names_and_types_by_node(node, namespace)),
            (Kind.SERVICE, False, ask.get_client_names_and_types_by_node(node, namespace)),
        )
        for name, _ in names
    }
    # The server of an action serves its three services and publishes its two topics; who only hears
    # these, as a recorder does, is no client.
    acts = {
        (serves, name.partition("/_action/")[0])
        for kind, serves, name in found
        if kind is Kind.SERVICE and "/_action/" in name
    }
    return {
        (Kind.ACTION, serves, action) if (serves, action) in acts else (kind, serves, name)
        for kind, serves, name in found
        for action in (name.partition("/_action/")[0],)
    }


def test_every_endpoint_of_every_node_type_is_granted(graph: Graph, tmp_path: Path) -> None:
    plant = whole_plant(tmp_path)
    assert {node.type for node in plant.nodes.values()} == set(NODE_TYPES)
    row = interface("host_state")
    states: list[HostState] = []
    graph.node.create_subscription(
        message_type(row.type), "/line_1/" + row.resolve(host="here"), states.append,
        subscription_qos(row.qos),
    )  # fmt: skip
    graph.python("-m", "shopfloor.plant", "up", "--plant", str(tmp_path / "plant.yaml"))
    graph.until(lambda: states and len(states[-1].nodes) == len(plant.nodes) - 1, "the host state")
    graph.until(
        lambda: all(node.lifecycle_state == ACTIVE for node in states[-1].nodes),
        "all nodes active",
        60.0,
    )
    ends = endpoints(plant)
    rights: dict[str, Rights] = {
        one.node.name: one
        for process in plant.processes.values()
        for one in rights_of(plant, process, ends)
    }
    expected = defaultdict(set)
    for end in ends:
        if end.serves and end.row.key in SEEN:
            expected[end.node.name].add((end.row.kind, True, end.name))
    for name in rights:
        graph.until(
            lambda name=name: expected[name] <= actual(graph, name, "/line_1"),
            f"endpoints of {name}: {expected[name]}",
        )
    refused = {
        name: too_many
        for name, one in rights.items()
        if (too_many := [end for end in actual(graph, name, "/line_1") if not one.allows(*end)])
    }
    assert refused == {}
