"""The ears of `plant status`: a plain node that takes in host states and heartbeats."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from shopfloor_msgs.msg import Heartbeat, HostState, NodeStatus

from shopfloor.plant.bringup import Health, HostHealth, State
from shopfloor.plant.plant_file import Plant
from shopfloor.plant.status import FRESH_S, HostRow, NodeRow, PlantStatus, Progress
from shopfloor.ros.endpoint_node import message_type
from shopfloor.ros.interfaces import interface
from shopfloor.ros.qos import subscription_qos

_WINDOW_S = 2.0


class StatusListener:
    """Listens to `hosts` of a plant in the domain of the environment; close it at the end."""

    def __init__(self, plant: Plant, hosts: Collection[str]) -> None:
        self._plant = plant.name
        managed = _managers(plant)
        self._hosts = [host for host in plant.hosts if host in hosts]
        self._managers = {host: managed[host] for host in self._hosts if host in managed}
        self._states: dict[str, tuple[HostState, float]] = {}
        self._beats: dict[str, list[tuple[float, Heartbeat]]] = {}
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        self._node = Node("plant_status", start_parameter_services=False, enable_rosout=False)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        for host, namespace in self._managers.items():
            topic = interface("host_state").resolve(host=host)
            self._hear("host_state", f"{namespace}/{topic}", partial(self._on_state, host))
        for namespace in sorted({node.namespace for node in plant.nodes.values()}):
            self._hear("heartbeat", f"{namespace}/{interface('heartbeat').name}", self._on_beat)

    def look(self, seconds: float) -> PlantStatus:
        """Listen for `seconds`, then say how the plant is."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=left)
        now = time.monotonic()
        return PlantStatus(self._plant, [self._host(host, now) for host in self._hosts])

    def close(self) -> None:
        """End listening."""
        self._executor.shutdown(timeout_sec=1.0)
        self._node.destroy_node()
        rclpy.try_shutdown()

    def _hear(self, key: str, topic: str, callback: Any) -> None:
        row = interface(key)
        self._node.create_subscription(
            message_type(row.type), topic, callback, subscription_qos(row.qos)
        )

    def _on_state(self, host: str, message: HostState) -> None:
        self._states[host] = (message, time.monotonic())

    def _on_beat(self, message: Heartbeat) -> None:
        now = time.monotonic()
        kept = [row for row in self._beats.get(message.node, []) if now - row[0] <= _WINDOW_S]
        self._beats[message.node] = [*kept, (now, message)]

    def _host(self, host: str, now: float) -> HostRow:
        if host not in self._states:
            cause = "its line manager is not heard"
            if host not in self._managers:
                cause = "it has no line manager in the plant file"
            return HostRow(host, "", "UNKNOWN", math.nan, math.nan, math.nan, cause)
        message, heard = self._states[host]
        age_s = now - heard
        if age_s > FRESH_S:
            cause = f"its line manager was last heard {age_s:.0f} s ago"
            return HostRow(host, message.role, "UNKNOWN", age_s, math.nan, math.nan, cause)
        return HostRow(
            host,
            message.role,
            HostHealth(message.state).name,
            age_s,
            message.load.cpu_percent,
            message.load.memory_used_percent,
            message.cause,
            [self._row(node, now) for node in message.nodes],
        )

    def _row(self, node: NodeStatus, now: float) -> NodeRow:
        return NodeRow(
            node.node,
            node.group,
            node.pid,
            State(node.lifecycle_state).name.lower(),
            Health(node.health).name,
            node.essential,
            node.heartbeat_age_ms,
            self._progress(node.node, now),
            node.restarts,
            node.uptime_s,
            node.cpu_percent,
            node.memory_mb,
            node.cause,
        )

    def _progress(self, node: str, now: float) -> Progress | None:
        beats = [row for row in self._beats.get(node, []) if now - row[0] <= _WINDOW_S]
        if not beats:
            return None
        (first_s, first), (last_s, last) = beats[0], beats[-1]
        hz = (last.count - first.count) / (last_s - first_s) if last_s > first_s else math.nan
        longest = max(last.workers, key=lambda w: w.busy_for_ms, default=None)
        return Progress(
            hz,
            sum(worker.done for worker in last.workers),
            longest.name if longest is not None and longest.busy else "",
            longest.busy_for_ms if longest is not None else 0.0,
        )


def _managers(plant: Plant) -> Mapping[str, str]:
    """Namespace of each host's line manager, by host."""
    return {
        process.host: plant.nodes[key].namespace
        for process in plant.processes.values()
        for key in process.nodes
        if not plant.nodes[key].row.managed
    }
