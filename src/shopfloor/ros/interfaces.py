"""The one table of every topic and service: key, name, type, quality of service, meaning.

Nodes create endpoints by key; the recorder, the docs page and the QoS test read the same rows.
No endpoint name is typed anywhere else. Nothing here needs ROS.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import dataclass, replace
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


def _action(key: str, name: str, type_: str, server: str, clients: str, meaning: str) -> Interface:
    row = _service(key, name, type_, server, clients, meaning)
    return replace(row, kind=Kind.ACTION)


INTERFACES: tuple[Interface, ...] = (
    _topic("image", "{camera}/image_raw", "sensor_msgs/msg/Image", Qos.FRAMES,
           "camera", "inspector",
           "Frames; published only while someone outside the process subscribes.", record=False),
    _topic("image_compressed", "{camera}/image_raw/compressed", "sensor_msgs/msg/CompressedImage",
           Qos.FRAMES, "camera", "inspector recorder",
           "The same frames as JPEG, for other hosts and for the bag; lazy too."),
    _topic("frame_handle", "{camera}/frame_handle", "shopfloor_msgs/msg/FrameHandle", Qos.RESULTS,
           "camera", "inspector",
           "Where the frame lies in a shared-memory ring, for other processes of the host; lazy.",
           record=False),
    _topic("frame_info", "{camera}/frame_info", "shopfloor_msgs/msg/FrameInfo", Qos.RESULTS,
           "camera", "inspector quality_gate recorder",
           "One small message a frame: part, sequence, stamps; has the image's stamp."),
    _topic("camera_state", "{camera}/state", "shopfloor_msgs/msg/CameraState", Qos.STATE,
           "camera", "recorder", "Streaming, lost or failed, why, and the counters."),
    _topic("camera_info", "{camera}/camera_info", "sensor_msgs/msg/CameraInfo", Qos.FRAMES,
           "camera", "recorder",
           "The calibration, with the stamp of each frame, where there is a calibration file."),
    _service("trigger_camera", "{camera}/trigger", "std_srvs/srv/Trigger", "camera", "",
             "Take one picture now; for a camera with a software trigger."),
    _topic("inspection_result", "inspection/result", "shopfloor_msgs/msg/InspectionResult",
           Qos.RESULTS, "inspector", "quality_gate thermal_watchdog recorder",
           "Verdict, detections and provenance of one frame."),
    _topic("annotated", "{inspector}/annotated", "sensor_msgs/msg/Image", Qos.FRAMES,
           "inspector", "", "The frame with boxes, scores and verdict, for rqt and rviz; lazy.",
           record=False),
    _topic("annotated_compressed", "{inspector}/annotated/compressed",
           "sensor_msgs/msg/CompressedImage", Qos.FRAMES, "inspector", "recorder",
           "The same as JPEG; lazy too."),
    _topic("score_map", "{inspector}/score_map", "sensor_msgs/msg/Image", Qos.FRAMES,
           "inspector", "", "A FAIL with the model's scores as heat; lazy.", record=False),
    _topic("score_map_compressed", "{inspector}/score_map/compressed",
           "sensor_msgs/msg/CompressedImage", Qos.FRAMES, "inspector", "recorder",
           "The same as JPEG; lazy too."),
    _topic("markers", "{inspector}/markers", "visualization_msgs/msg/MarkerArray", Qos.FRAMES,
           "inspector", "", "Boxes and labels in metres on the part's plane, for rviz; lazy.",
           record=False),
    _topic("image_markers", "{inspector}/image_markers", "visualization_msgs/msg/ImageMarker",
           Qos.FRAMES, "inspector", "",
           "Boxes in pixels of the frame, for viewers that draw them over the raw image; lazy.",
           record=False),
    _topic("detections_2d", "{inspector}/detections_2d", "vision_msgs/msg/Detection2DArray",
           Qos.FRAMES, "inspector", "",
           "The boxes for tools that know vision_msgs; only where that package is there; lazy.",
           record=False),
    _topic("suspect_crop", "inspection/suspects", "shopfloor_msgs/msg/SuspectCrop", Qos.RESULTS,
           "inspector", "detail_inspector mqtt_bridge recorder",
           "Neighbourhood of a suspect box, as JPEG."),
    _topic("detail_result", "inspection/detail", "shopfloor_msgs/msg/DetailResult", Qos.RESULTS,
           "detail_inspector", "quality_gate recorder",
           "What the detail tier says of one crop: class and size, or why not."),
    _service("set_inspector_rung", "{inspector}/set_rung", "shopfloor_msgs/srv/SetInspectorRung",
             "inspector", "", "Serve at another rung of the ladder; the node stays active."),
    _topic("thermal_state", "hosts/{host}/thermal", "shopfloor_msgs/msg/ThermalState", Qos.STATE,
           "thermal_watchdog", "inspector scheduler plc_bridge recorder line_simulator",
           "How hot a host is, and the rung that follows; 2 Hz and at once on change."),
    _topic("temperature", "hosts/{host}/temperature/{zone}", "sensor_msgs/msg/Temperature",
           Qos.RESULTS, "thermal_watchdog", "",
           "One zone for rqt_plot, NaN while it cannot be believed; lazy.", record=False),
    _service("set_rung", "hosts/{host}/set_rung", "shopfloor_msgs/srv/SetRung",
             "thermal_watchdog", "", "Pin a host's rung for a time, or give it back."),
    _topic("part_verdict", "parts/verdict", "shopfloor_msgs/msg/PartVerdict", Qos.RESULTS,
           "quality_gate", "line_state plc_bridge scheduler recorder",
           "The one verdict per part; LATE and MISSING are said."),
    _service("override_verdict", "parts/override", "shopfloor_msgs/srv/OverrideVerdict",
             "quality_gate", "", "A person decides about a part, by name and with a reason."),
    _topic("reject_command", "parts/reject", "shopfloor_msgs/msg/RejectCommand", Qos.RESULTS,
           "quality_gate", "line_simulator recorder",
           "What the reject output does with a part, and in which window."),
    _topic("belt_encoder", "belt/encoder", "shopfloor_msgs/msg/BeltEncoder", Qos.RESULTS,
           "line_simulator", "quality_gate recorder", "The counter of the belt's encoder."),
    _topic("part_truth", "simulator/truth", "shopfloor_msgs/msg/PartTruth", Qos.RESULTS,
           "line_simulator", "recorder", "What the simulated part really is. Simulation only."),
    _topic("part_exit", "simulator/exits", "shopfloor_msgs/msg/PartExit", Qos.RESULTS,
           "line_simulator", "recorder",
           "Whether a simulated part left at the reject output. Simulation only."),
    _topic("vibration_block", "vibration/blocks", "shopfloor_msgs/msg/VibrationBlock",
           Qos.RESULTS, "vibration_source machine_simulator", "vibration_monitor recorder",
           "Samples of one sensor as they came; all sensors of the cell."),
    _topic("tachometer", "vibration/tachometer", "shopfloor_msgs/msg/Tachometer", Qos.RESULTS,
           "vibration_source machine_simulator", "vibration_monitor recorder",
           "Shaft speed of a machine."),
    _topic("vibration_features", "vibration/features", "shopfloor_msgs/msg/VibrationFeatures",
           Qos.RESULTS, "vibration_monitor", "recorder",
           "Quality, levels, bands and lines of one sensor over one window."),
    _topic("machine_health", "machines/{machine}/health", "shopfloor_msgs/msg/MachineHealth",
           Qos.STATE, "vibration_monitor", "scheduler plc_bridge recorder",
           "Tier, scores, contributions, diagnosis and alert of one machine; latched."),
    _topic("host_state", "hosts/{host}/state", "shopfloor_msgs/msg/HostState", Qos.STATE,
           "line_manager", "line_state recorder",
           "Every node of a host: lifecycle state, cause, restarts."),
    _topic("line_state", "line/state", "shopfloor_msgs/msg/LineState", Qos.STATE,
           "line_state", "plc_bridge recorder",
           "PackML state, mode, stop reason, counters and OEE; 1 Hz and at once on change."),
    _topic("plc_picture", "plc/{plc}/picture", "shopfloor_msgs/msg/PlcPicture", Qos.STATE,
           "plc_bridge", "recorder", "What the PLC sees, and how its link is; every cycle."),
    _topic("heartbeat", "heartbeat", "shopfloor_msgs/msg/Heartbeat", Qos.HEARTBEAT,
           "*", "line_manager", "Alive and moving: 10 Hz from each node, liveliness lease 0.5 s."),
    _topic("diagnostics", "/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", Qos.DIAGNOSTICS,
           "*", "line_manager recorder",
           "Level, cause and numbers of every node, at 1 Hz and on change."),
    _topic("commands", "commands", "shopfloor_msgs/msg/ReplayMessage", Qos.RESULTS,
           "inspector line_manager line_state quality_gate scheduler thermal_watchdog "
           "vibration_monitor", "recorder",
           "Each command and goal that a node took up, as it came: what a replay repeats."),
    _service("learn_baseline", "{monitor}/learn_baseline", "shopfloor_msgs/srv/LearnBaseline",
             "vibration_monitor", "", "Learn, freeze or reset what is normal for a machine."),
    _service("acknowledge_alert", "{monitor}/acknowledge_alert",
             "shopfloor_msgs/srv/AcknowledgeAlert",
             "vibration_monitor", "", "A person has seen an alert, and what it was."),
    _service("manage_line", "hosts/{host}/manage", "shopfloor_msgs/srv/ManageLine",
             "line_manager", "", "Start, stop or reset the nodes of a host."),
    _service("packml_command", "line/packml_command", "shopfloor_msgs/srv/PackMLCommand",
             "line_state", "plc_bridge quality_gate",
             "A PackML command or change of mode for the line."),
    _topic("plan", "plan", "shopfloor_msgs/msg/Plan", Qos.STATE, "scheduler", "plc_bridge recorder",
           "The plan in force with its problem, score and changes; latched."),
    _topic("plan_events", "plan_events", "shopfloor_msgs/msg/PlanEvent", Qos.RESULTS,
           "scheduler", "recorder", "What happened to machines, jobs and plans, numbered."),
    _action("plan_schedule", "plan_schedule", "shopfloor_msgs/action/PlanSchedule", "scheduler",
            "", "Make a plan, repair one, or try one out; a newer goal supersedes."),
    _action("execute_job", "execute_job", "shopfloor_msgs/action/ExecuteJob", "scheduler", "",
            "Run one assignment of the plan in force on its machine."),
    _service("set_machine_state", "set_machine_state", "shopfloor_msgs/srv/SetMachineState",
             "scheduler", "", "A machine is up, down, held or derated; the plan is repaired."),
    _service("hold_job", "hold_job", "shopfloor_msgs/srv/HoldJob", "scheduler", "",
             "Hold a job, or resume it."),
    _service("pin_operation", "pin_operation", "shopfloor_msgs/srv/PinOperation", "scheduler", "",
             "Pin an operation to a machine or a start, or take the pin away."),
    _service("commit_plan", "commit_plan", "shopfloor_msgs/srv/CommitPlan", "scheduler", "",
             "Put a draft in force, if the plan in force is the one that the caller saw."),
    _service("rollback_plan", "rollback_plan", "shopfloor_msgs/srv/RollbackPlan", "scheduler", "",
             "Put an earlier plan in force again, less what has run since."),
    _service("explain_assignment", "explain_assignment", "shopfloor_msgs/srv/ExplainAssignment",
             "scheduler", "", "Why an operation is where it is, and why not elsewhere."),
    _service("diff_plans", "diff_plans", "shopfloor_msgs/srv/DiffPlans", "scheduler", "",
             "What differs between two plans."),
    _service("cut_bag", "{recorder}/cut_bag", "std_srvs/srv/Trigger", "recorder", "",
             "Write a bag of the seconds before and after now."),
    replace(_service("replay_step", "{node}/replay_step", "shopfloor_msgs/srv/ReplayStep", "", "",
                     "One step of a replay; only in processes started for one."), servers=()),
)  # fmt: skip


def _hidden_topics() -> Iterator[Interface]:
    for row in INTERFACES:
        rows = []
        if row.kind is Kind.SERVICE:
            rows = [("events", "_service_event", f"{row.type}_Event", Qos.RESULTS)]
        elif row.kind is Kind.ACTION:
            feedback = f"{row.type}_FeedbackMessage"
            rows = [
                ("feedback", "_action/feedback", feedback, Qos.RESULTS),
                ("status", "_action/status", "action_msgs/msg/GoalStatusArray", Qos.STATE),
            ]
        for key, name, type_, qos in rows:
            yield _topic(
                f"{row.key}_{key}", f"{row.name}/{name}", type_, qos,
                " ".join(row.servers), "recorder", f"{key} of {row.name}",
            )  # fmt: skip


HIDDEN_TOPICS: tuple[Interface, ...] = tuple(_hidden_topics())
"""What ROS itself publishes for services (where a node's `service_events` is on) and actions."""

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
        servers = ", ".join(everyone.get(s, s) for s in row.servers) or "replayed nodes"
        clients = ", ".join(row.clients) or "tools"
        lines.append(
            f"| `{row.name}` | {row.kind.value} | `{row.type}` | {row.qos.value} | {servers} "
            f"| {clients} | {row.meaning} |"
        )
    return "\n".join(lines)
