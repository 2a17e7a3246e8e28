"""The demo's eyes: one ROS node that feeds the tally from the graph's own topics."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

import psutil
from rclpy.node import Node
from rclpy.time import Time
from shopfloor_msgs.msg import (
    CameraState,
    DetailResult,
    Detection,
    FrameInfo,
    HostState,
    InspectionResult,
    MachineHealth,
    PartExit,
    PartVerdict,
    Plan,
    PlanEvent,
    RejectCommand,
    ThermalState,
)

from shopfloor.demo.floor import HealthPoint, Heat, MachineHealthSeen, PlanSeen
from shopfloor.demo.tally import Box, Part, Tally
from shopfloor.ros.endpoint_node import message_type
from shopfloor.ros.interfaces import INTERFACES, Interface
from shopfloor.ros.qos import subscription_qos
from shopfloor.scheduling.messages import assignment_from, problem_from
from shopfloor.scheduling.problem import ProblemError, Weights

_SEARCH_PERIOD_S = 0.25
_KEPT_PICTURES = 60
_KEPT_ESCAPES = 20
_KEPT_KEYS = 200
"""Frames of which pictures may still come."""
_WATCHED = (
    "frame_info",
    "inspection_result", "part_verdict", "part_truth", "camera_state", "host_state",
    "annotated_compressed", "score_map_compressed", "detail_result", "part_exit", "reject_command",
    "thermal_state", "machine_health", "plan", "plan_events",
)  # fmt: skip


def constants(message: type[Any], prefix: str) -> dict[int, str]:
    """The names of a message's constants by value: VERDICT_PASS=1 gives {1: "PASS"}."""
    names = (n for n in dir(type(message)) if n.startswith(prefix))
    return {getattr(message, name): name.removeprefix(prefix) for name in names}


class MonitorNode(Node):
    """Subscribes to what the table offers, in whichever cell it appears."""

    def __init__(self, tally: Tally, cells: Iterable[str], started_s: float) -> None:
        super().__init__("demo_monitor")
        self.tally = tally
        self.camera_states: dict[str, str] = {}
        self.host_states: dict[str, Any] = {}
        self._cells = tuple(cells)
        self._started_s = started_s
        self._verdicts = constants(PartVerdict, "VERDICT_")
        self._refinements = constants(PartVerdict, "REFINEMENT_")
        self._outcomes = constants(DetailResult, "OUTCOME_")
        self._timings = constants(PartVerdict, "TIMING_")
        self._states = constants(CameraState, "STATE_")
        self._findings = constants(InspectionResult, "VERDICT_")
        self._hosts = constants(HostState, "STATE_")
        self._tiers = constants(MachineHealth, "TIER_")
        self._diagnoses = constants(MachineHealth, "DIAGNOSIS_")
        self._baselines = constants(MachineHealth, "BASELINE_")
        self._plan_events = constants(PlanEvent, "KIND_")
        self._part_of_frame: dict[tuple[str, int], str] = {}
        self._subscribed: set[str] = set()
        self._camera_changed_s = 0.0
        self._patterns = [
            (row, _pattern(row, cell)) for row in INTERFACES if row.key in _WATCHED
            for cell in self._cells
        ]  # fmt: skip
        self.create_timer(_SEARCH_PERIOD_S, self._search)
        self._search()

    def _search(self) -> None:
        for name, types in self.get_topic_names_and_types():
            for row, pattern in self._patterns:
                if name not in self._subscribed and row.type in types and pattern.fullmatch(name):
                    self._subscribed.add(name)
                    handler = getattr(self, f"_on_{row.key}")
                    self.create_subscription(
                        message_type(row.type), name, partial(handler, name),
                        subscription_qos(row.qos),
                    )  # fmt: skip

    def _on_part_truth(self, _: str, message: Any) -> None:
        self.tally.truth(message.part_id, message.part_kind, _boxes(message.defects))

    def _on_frame_info(self, _: str, message: FrameInfo) -> None:
        if message.part_id:
            self.tally.part(message.part_id)

    def _on_inspection_result(self, _: str, message: InspectionResult) -> None:
        provenance = message.provenance
        station = self.tally.result(
            message.part_id,
            message.station,
            # What lies under the suspect threshold is there for curves, not for verdicts.
            [b for b in _boxes(message.detections) if b[1] >= message.suspect_threshold],
            frame_age_ms=message.frame_age_ms,
            at_s=time.monotonic() - self._started_s,
            stages_ms={stage.name: stage.duration_ms for stage in provenance.stages},
            drops={
                "superseded": message.dropped_superseded,
                "stale": message.dropped_stale,
                "stride": message.dropped_stride,
                "invalid": message.dropped_invalid,
            },
            received=message.frames_received,
            processed=message.frames_processed,
            image_size=(message.image_width, message.image_height),
        )
        station.model = f"{provenance.model}/{provenance.model_version}"
        station.engine = f"{provenance.engine} {provenance.precision}"
        if message.part_id and (
            message.verdict != InspectionResult.VERDICT_PASS
            or self.tally.part(message.part_id).defective
        ):
            key = (message.header.frame_id, _nanoseconds(message.header.stamp))
            self._part_of_frame[key] = message.part_id
            while len(self._part_of_frame) > _KEPT_KEYS:
                self._part_of_frame.pop(next(iter(self._part_of_frame)))

    def _on_part_verdict(self, _: str, message: PartVerdict) -> None:
        if self.tally.started_to_verdict_s is None:
            self.tally.started_to_verdict_s = round(time.monotonic() - self._started_s, 2)
        self.tally.verdict(
            message.part_id,
            message.revision,
            self._verdicts.get(message.verdict, "UNKNOWN"),
            self._timings.get(message.timing, "UNKNOWN"),
            tuple(message.reasons),
            self._refinements.get(message.refinement, "NONE"),
        )

    def _on_part_exit(self, _: str, message: PartExit) -> None:
        self.tally.exit(message.part_id, message.rejected)

    def _on_reject_command(self, _: str, message: RejectCommand) -> None:
        if message.action == RejectCommand.ACTION_LATE_REJECT:
            self.tally.late_reject(message.part_id)

    def _on_detail_result(self, _: str, message: DetailResult) -> None:
        model = f"{message.provenance.model}/{message.provenance.model_version}"
        outcome = self._outcomes.get(message.outcome, "UNKNOWN")
        self.tally.detail(outcome, message.age_ms, model)

    def _on_thermal_state(self, _: str, message: ThermalState) -> None:
        self.tally.floor.heat[message.host] = Heat(
            celsius=round(message.board_temperature_celsius, 1),
            headroom_celsius=round(message.headroom_celsius, 1),
            rung=message.rung,
            rung_name=message.rung_name,
            steps=message.steps_down + message.steps_up,
        )

    def _on_machine_health(self, _: str, message: MachineHealth) -> None:
        seen = self.tally.floor.machines.setdefault(message.machine_id, MachineHealthSeen())
        seen.tier = self._tiers.get(message.tier, "UNKNOWN")
        seen.reason = message.reason
        seen.diagnosis = self._diagnoses.get(message.diagnosis, "UNKNOWN")
        seen.diagnosis_text = message.diagnosis_text
        seen.baseline = self._baselines.get(message.baseline, "UNKNOWN")
        seen.baseline_windows = message.baseline_windows
        seen.act_threshold, seen.watch_threshold = message.act_threshold, message.watch_threshold
        at_s = time.monotonic() - self._started_s
        point = HealthPoint(at_s, seen.tier, message.act_score, message.watch_score)
        seen.trend.append(point)

    def _on_plan(self, _: str, message: Plan) -> None:
        if message.state != Plan.STATE_COMMITTED:
            return
        try:
            problem = problem_from(message.problem, 0, Weights())
        except ProblemError as error:
            self.tally.alarms[f"plan {message.version} cannot be read: {error}"] += 1
            return
        self.tally.floor.plan = PlanSeen(
            version=message.version,
            solver_stage=message.solver_stage,
            solve_ms=round(message.solve_ms, 1),
            objective=round(message.score.objective, 4),
            baseline_rule=message.baseline_rule,
            baseline_objective=round(message.baseline_score.objective, 4),
            utilisation=round(message.score.utilisation, 4),
            late_jobs=message.score.late_jobs,
            problem=problem,
            assignments=[assignment_from(a) for a in message.assignments],
        )

    def _on_plan_events(self, _: str, message: PlanEvent) -> None:
        self.tally.floor.plan_events[self._plan_events.get(message.kind, "UNKNOWN")] += 1

    def _on_annotated_compressed(self, _: str, message: Any) -> None:
        part = self._pictured(message)
        if part is not None:
            part.picture = bytes(message.data)

    def _on_score_map_compressed(self, _: str, message: Any) -> None:
        part = self._pictured(message)
        if part is not None:
            part.score_map = bytes(message.data)

    def _pictured(self, message: Any) -> Part | None:
        """The part on a picture, while there is room for pictures of another part."""
        key = (message.header.frame_id, _nanoseconds(message.header.stamp))
        part_id = self._part_of_frame.get(key, "")
        if not part_id:
            return None
        part = self.tally.part(part_id)
        kept = sum(bool(p.picture or p.score_map) for p in self.tally.parts.values())
        # Nothing was found on a defective part: of these there are few, and they are worth most.
        room = _KEPT_PICTURES if part.detections else _KEPT_PICTURES + _KEPT_ESCAPES
        return part if kept < room or part.picture or part.score_map else None

    def _on_camera_state(self, name: str, message: CameraState) -> None:
        state = self._states.get(message.state, "UNKNOWN")
        before = self.camera_states.get(name)
        if state in ("LOST", "FAILED") and before != state:
            self.tally.alarms[f"{message.header.frame_id} {state}: {message.cause_text}"] += 1
        if before != state:
            self._camera_changed_s = time.monotonic()
        self.camera_states[name] = state

    def all_ended_s(self) -> float:
        """For how long every camera has been at the end of its pictures; 0 while one is not."""
        states = self.camera_states.values()
        if not states or any(state != "ENDED" for state in states):
            return 0.0
        return time.monotonic() - self._camera_changed_s

    def _on_host_state(self, name: str, message: HostState) -> None:
        self.host_states[name] = message

    def host_lines(self) -> list[tuple[str, str, str]]:
        """Host, state and cause of each line manager heard."""
        return [
            (m.host, self._hosts.get(m.state, "UNKNOWN"), m.cause)
            for m in self.host_states.values()
        ]


class ProcessMeter:
    """CPU and memory of the graph's processes since they were first seen."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[psutil.Process, float, float]] = {}

    def sample(self, pid: int) -> tuple[float, float]:
        """CPU in per cent of one core since the first sample, and resident MB; zeros if gone."""
        now = time.monotonic()
        try:
            if pid not in self._known:
                process = psutil.Process(pid)
                self._known[pid] = (process, now, sum(process.cpu_times()[:2]))
            process, since, used = self._known[pid]
            cpu = sum(process.cpu_times()[:2]) - used
            return 100.0 * cpu / max(now - since, 1e-3), process.memory_info().rss / 1e6
        except psutil.Error:
            return 0.0, 0.0


def _pattern(row: Interface, cell: str) -> re.Pattern[str]:
    name = row.resolve(**dict.fromkeys(row.placeholders, "PLACE"))
    absolute = name if name.startswith("/") else f"{cell.rstrip('/')}/{name}"
    return re.compile(re.escape(absolute).replace("PLACE", "[^/]+"))


def _boxes(detections: Iterable[Detection]) -> list[Box]:
    return [
        (d.class_id, d.score, d.x_px, d.y_px, d.x_px + d.width_px, d.y_px + d.height_px)
        for d in detections
    ]


def _nanoseconds(stamp: Any) -> int:
    return int(Time.from_msg(stamp).nanoseconds)
