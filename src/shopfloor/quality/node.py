"""quality_gate: one verdict per part, from what the inspectors say of it."""

from __future__ import annotations

import math
from typing import Any

from rclpy.time import Time
from shopfloor_msgs.msg import FrameInfo, InspectionResult, PartVerdict, StationEvidence

from shopfloor.quality.ledger import Decision, Evidence, Finding, PartLedger, Timing, Verdict
from shopfloor.quality.parameters import QualityGateParameters
from shopfloor.ros.diagnostics import Level, Status
from shopfloor.ros.main import run_node
from shopfloor.ros.node import ShopfloorNode

_EXPIRY_PERIOD_S = 0.05
_TEXT_MAX = 254


class QualityGateNode(ShopfloorNode[QualityGateParameters]):
    """Feeds the ledger with frames and results, and publishes its decisions."""

    PARAMETERS = QualityGateParameters

    def __init__(self, name: str = "quality_gate", **node_arguments: Any) -> None:
        self._ledger: PartLedger[InspectionResult] | None = None
        self._decided = dict.fromkeys(Verdict, 0)
        super().__init__(name, **node_arguments)

    def setup(self) -> None:
        """Subscribe to the cameras listed and to every inspector of the cell."""
        params = self.params
        self._ledger = PartLedger(
            params.cameras,
            every_camera=params.every_camera,
            deadline_ms=params.deadline_ms,
            remember_s=params.remember_s,
        )
        self._verdicts = self.publisher("part_verdict")
        for camera in params.cameras:
            self.subscription("frame_info", self._on_frame_info, camera=camera)
        self.subscription("inspection_result", self._on_result)
        self.steady_timer(_EXPIRY_PERIOD_S, self._expire)
        self.diagnostics.add("parts", self._parts_status)

    def teardown(self) -> None:
        """Forget the parts."""
        self.diagnostics.remove("parts")
        self._ledger = None

    def parameters_changed(self, old: QualityGateParameters, new: QualityGateParameters) -> None:
        """The deadline takes effect at once."""
        if self._ledger is not None:
            self._ledger.deadline_ms = new.deadline_ms

    def _on_frame_info(self, info: FrameInfo) -> None:
        if not self.is_active or self._ledger is None:
            return
        if not info.part_id:
            self.fault("frame_without_part", f"{info.header.frame_id} frame {info.sequence}")
            return
        exposure_ns = _nanoseconds(info.header.stamp)
        self._publish(
            self._ledger.seen(info.part_id, info.header.frame_id, exposure_ns, self.steady_ns())
        )

    def _on_result(self, result: InspectionResult) -> None:
        if not self.is_active or self._ledger is None:
            return
        if not result.part_id:
            self.fault("result_without_part", f"{result.station} frame {result.frame_sequence}")
            return
        try:
            finding = Finding(result.verdict)
        except ValueError:
            self.fault("unknown_verdict", f"{result.station} sent verdict {result.verdict}")
            finding = Finding.UNKNOWN
        evidence = Evidence(
            result.header.frame_id, result.frame_sequence, finding, result.reason, result
        )
        exposure_ns = _nanoseconds(result.header.stamp)
        self._publish(self._ledger.add(result.part_id, evidence, exposure_ns, self.steady_ns()))

    def _expire(self) -> None:
        if self.is_active and self._ledger is not None:
            self._publish(self._ledger.expire(self.steady_ns()))

    def _publish(self, decisions: list[Decision[InspectionResult]]) -> None:
        for decision in decisions:
            if decision.revision == 1:
                self._decided[decision.verdict] += 1
            self._verdicts.publish(self._message(decision))

    def _message(self, decision: Decision[InspectionResult]) -> PartVerdict:
        now = self.now_ns()
        steady_to_ros = now - self.steady_ns()
        first = decision.exposure_ns
        newest = max(
            (_nanoseconds(e.source.header.stamp) for e in decision.evidence), default=first
        )
        deadline_ns = decision.first_seen_ns + int(self.params.deadline_ms * 1e6)
        message = PartVerdict(
            part_id=decision.part_id,
            line=self.params.line,
            revision=decision.revision,
            verdict=decision.verdict.value,
            stage=PartVerdict.STAGE_FINAL,
            timing=decision.timing.value,
            reasons=[reason[:_TEXT_MAX] for reason in decision.reasons[:16]],
            evidence=[_evidence(e, now) for e in decision.evidence[:16]],
            first_exposure=self.stamp(first),
            decided_stamp=self.stamp(now),
            deadline=self.stamp(max(deadline_ns + steady_to_ros, 0)),
            latency_ms=(now - first) / 1e6 if first else math.nan,
            reject=decision.verdict is not Verdict.PASS,
        )
        message.header.stamp = self.stamp(newest)
        message.header.frame_id = self.params.line
        message.station = decision.evidence[0].source.station if len(decision.evidence) == 1 else ""
        message.evidence += [
            StationEvidence(
                station=camera, tier=StationEvidence.TIER_EDGE, timing=Timing.MISSING.value
            )
            for camera in decision.missing[: 16 - len(message.evidence)]
        ]
        return message

    def _parts_status(self) -> Status:
        if self._ledger is None:
            return Status(Level.STALE, "not configured")
        counts = self._ledger.counts
        values: dict[str, object] = {f"verdict {v.name}": n for v, n in self._decided.items()}
        values |= {"open parts": self._ledger.open_parts, **counts}
        if counts["missing evidence"] or counts["late evidence"]:
            return Status(Level.WARN, "evidence came late or not at all", values)
        if not sum(self._decided.values()):
            return Status(Level.STALE, "no part yet", values)
        return Status(Level.OK, "every part judged in time", values)


def _evidence(evidence: Evidence[InspectionResult], now_ns: int) -> StationEvidence:
    result = evidence.source
    deciding = result.detections[0] if result.detections else None
    return StationEvidence(
        station=result.station,
        tier=StationEvidence.TIER_EDGE,
        verdict=evidence.finding.value,
        timing=evidence.timing.value,
        class_name=deciding.class_name if deciding is not None else "",
        score=result.score,
        reason=result.reason[:_TEXT_MAX],
        data_stamp=result.header.stamp,
        received_stamp=Time(nanoseconds=now_ns).to_msg(),
        frame_sequence=result.frame_sequence,
        provenance=result.provenance,
    )


def _nanoseconds(stamp: Any) -> int:
    return int(Time.from_msg(stamp).nanoseconds)


def main() -> int:
    """`ros2 run shopfloor quality_gate`."""
    return run_node(QualityGateNode)


if __name__ == "__main__":
    raise SystemExit(main())
