"""The one table of every topic and service: key, name, type, quality of service, meaning.

Nodes create endpoints by key; the recorder, the docs page and the QoS test read the same rows.
No endpoint name is typed anywhere else. Nothing here needs ROS.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What an endpoint is."""

    TOPIC = "topic"
    SERVICE = "service"
    ACTION = "action"


class Qos(Enum):
    """Named quality-of-service classes; their settings stand in `shopfloor.ros.qos`."""

    FRAMES = "frames"
    RESULTS = "results"
    STATE = "state"
    HEARTBEAT = "heartbeat"
    DIAGNOSTICS = "diagnostics"
    SERVICES = "services"


@dataclass(frozen=True)
class Interface:
    """One row. `name` is relative to the cell's namespace; `{camera}` and such are node names."""

    key: str
    kind: Kind
    name: str
    type: str
    qos: Qos
    servers: tuple[str, ...]
    clients: tuple[str, ...]
    meaning: str
    record: bool = True

    @property
    def placeholders(self) -> tuple[str, ...]:
        """The names to be filled in, in order."""
        return tuple(f for _, f, _, _ in string.Formatter().parse(self.name) if f)

    def resolve(self, **names: str) -> str:
        """The endpoint's name; raises KeyError naming the placeholder that is missing."""
        missing = [name for name in self.placeholders if name not in names]
        if missing:
            raise KeyError(f"interface '{self.key}' needs {', '.join(missing)}")
        return self.name.format(**names)


def _topic(
    key: str,
    name: str,
    type_: str,
    qos: Qos,
    publishers: str,
    subscribers: str,
    meaning: str,
    record: bool = True,
) -> Interface:
    return Interface(
        key,
        Kind.TOPIC,
        name,
        type_,
        qos,
        tuple(publishers.split()),
        tuple(subscribers.split()),
        meaning,
        record,
    )


def _service(key: str, name: str, type_: str, server: str, clients: str, meaning: str) -> Interface:
    return Interface(
        key,
        Kind.SERVICE,
        name,
        type_,
        Qos.SERVICES,
        (server,),
        tuple(clients.split()),
        meaning,
        record=False,
    )


INTERFACES: tuple[Interface, ...] = (
    _topic("image", "{camera}/image_raw", "sensor_msgs/msg/Image", Qos.FRAMES,
           "camera", "inspector",
           "Frames; published only while someone outside the process subscribes.", record=False),
    _topic("image_compressed", "{camera}/image_raw/compressed", "sensor_msgs/msg/CompressedImage",
           Qos.FRAMES, "camera", "inspector recorder",
           "The same frames as JPEG, for other hosts and for the bag; lazy too."),
    _topic("frame_info", "{camera}/frame_info", "shopfloor_msgs/msg/FrameInfo", Qos.RESULTS,
           "camera", "inspector quality_gate recorder",
           "One small message a frame: part, sequence, stamps; has the image's stamp."),
    _topic("camera_state", "{camera}/state", "shopfloor_msgs/msg/CameraState", Qos.STATE,
           "camera", "recorder", "Streaming, lost or failed, why, and the counters."),
    _topic("inspection_result", "inspection/result", "shopfloor_msgs/msg/InspectionResult",
           Qos.RESULTS, "inspector", "quality_gate recorder",
           "Verdict, detections and provenance of one frame."),
    _topic("annotated", "{inspector}/annotated", "sensor_msgs/msg/Image", Qos.FRAMES,
           "inspector", "", "The frame with boxes, scores and verdict, for rqt and rviz; lazy.",
           record=False),
    _topic("annotated_compressed", "{inspector}/annotated/compressed",
           "sensor_msgs/msg/CompressedImage", Qos.FRAMES, "inspector", "recorder",
           "The same as JPEG; lazy too."),
    _topic("part_verdict", "parts/verdict", "shopfloor_msgs/msg/PartVerdict", Qos.RESULTS,
           "quality_gate", "recorder", "The one verdict per part; LATE and MISSING are said."),
    _topic("part_truth", "simulator/truth", "shopfloor_msgs/msg/PartTruth", Qos.RESULTS,
           "line_simulator", "recorder", "What the simulated part really is. Simulation only."),
    _topic("host_state", "hosts/{host}/state", "shopfloor_msgs/msg/HostState", Qos.STATE,
           "line_manager", "recorder", "Every node of a host: lifecycle state, cause, restarts."),
    _topic("heartbeat", "heartbeat", "shopfloor_msgs/msg/Heartbeat", Qos.HEARTBEAT,
           "*", "line_manager", "Alive and moving: 10 Hz from each node, liveliness lease 0.5 s."),
    _topic("diagnostics", "/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", Qos.DIAGNOSTICS,
           "*", "line_manager recorder",
           "Level, cause and numbers of every node, at 1 Hz and on change."),
    _service("manage_line", "hosts/{host}/manage", "shopfloor_msgs/srv/ManageLine",
             "line_manager", "", "Start, stop or reset the nodes of a host."),
)  # fmt: skip

BY_KEY: dict[str, Interface] = {row.key: row for row in INTERFACES}


def interface(key: str) -> Interface:
    """The row of `key`; raises KeyError naming the known keys."""
    try:
        return BY_KEY[key]
    except KeyError:
        raise KeyError(f"no interface '{key}'; known: {', '.join(sorted(BY_KEY))}") from None


def markdown_table() -> str:
    """The whole table as Markdown for docs/."""
    lines = ["| name | kind | type | QoS | from | to | meaning |", "|---|---|---|---|---|---|---|"]
    for row in INTERFACES:
        everyone = {"*": "every node"}
        servers = ", ".join(everyone.get(s, s) for s in row.servers)
        clients = ", ".join(row.clients) or "tools"
        lines.append(
            f"| `{row.name}` | {row.kind.value} | `{row.type}` | {row.qos.value} | {servers} "
            f"| {clients} | {row.meaning} |"
        )
    return "\n".join(lines)
