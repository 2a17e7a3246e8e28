"""quality_gate: one verdict per part, from what the inspectors say of it."""

from __future__ import annotations

from typing import Any

from shopfloor_msgs.msg import DetailResult, FrameInfo, InspectionResult, PartVerdict

from shopfloor.quality.evidence import Decision, Examined, Finding, Refinement, Stage, Verdict
from shopfloor.quality.ledger import PartLedger
from shopfloor.quality.messages import (
    Source,
    detail_evidence,
    edge_evidence,
    nanoseconds,
    part_verdict,
)
from shopfloor.quality.node_override import OverrideService
from shopfloor.quality.node_reject import RejectOutput
from shopfloor.quality.parameters import QualityGateParameters
from shopfloor.ros.diagnostics import Level, Status
from shopfloor.ros.line_hold import CHECK as LINE_HOLD_CHECK
from shopfloor.ros.main import run_node
from shopfloor.ros.node import ShopfloorNode

_EXPIRY_PERIOD_S = 0.05


class QualityGateNode(ShopfloorNode[QualityGateParameters]):
    """Feeds the ledger with frames and results, and publishes its decisions."""

    PARAMETERS = QualityGateParameters

    def __init__(self, name: str = "quality_gate", **node_arguments: Any) -> None:
        self._ledger: PartLedger[Source] | None = None
        self._reject: RejectOutput | None = None
        self._overrides: OverrideService | None = None
        self._overridden = 0
        self._decided = dict.fromkeys(Verdict, 0)
        self._refined = dict.fromkeys(Refinement, 0)
        super().__init__(name, **node_arguments)

    def setup(self) -> None:
        """Subscribe to the cameras listed and to every inspector of the cell."""
        params = self.params
        self._ledger = PartLedger(
            params.cameras,
            every_camera=params.every_camera,
            deadline_ms=params.deadline_ms,
            remember_s=params.remember_s,
            detail_deadline_ms=params.detail_deadline_ms,
            scrap_from_mm=params.scrap_from_mm,
        )
        self._verdicts = self.publisher("part_verdict")
        for camera in params.cameras:
            self.subscription("frame_info", self._on_frame_info, camera=camera)
        self.subscription("inspection_result", self._on_result)
        self.subscription("detail_result", self._on_detail)
        self._overrides = OverrideService(self, self._ledger, self._publish_one)
        if params.reject_by != "none":
            self._reject = RejectOutput(self)
        self.steady_timer(_EXPIRY_PERIOD_S, self._expire)
        self.diagnostics.add("parts", self._parts_status)

    def start(self) -> None:
        """Evidence from before may be lost from here on."""
        if self._ledger is not None:
            self._ledger.begin(self.steady_ns(), self.now_ns())

    def teardown(self) -> None:
        """Forget the parts."""
        self.diagnostics.remove("parts")
        self.diagnostics.remove("reject output")
        self.diagnostics.remove(LINE_HOLD_CHECK)
        if self._overrides is not None:
            self._overrides.close()
        self._ledger = self._reject = self._overrides = None

    def parameters_changed(self, old: QualityGateParameters, new: QualityGateParameters) -> None:
        """The deadlines take effect at once."""
        if self._ledger is not None:
            self._ledger.deadline_ms = new.deadline_ms
            self._ledger.detail_deadline_ms = new.detail_deadline_ms
            self._ledger.scrap_from_mm = new.scrap_from_mm

    def _on_frame_info(self, info: FrameInfo) -> None:
        if not self.is_active or self._ledger is None:
            return
        exposure_ns = nanoseconds(info.header.stamp)
        count = info.encoder_count if info.encoder_valid else None
        if not info.part_id:
            self.fault("frame_without_part", f"{info.header.frame_id} frame {info.sequence}")
            self._follow("", info.header.frame_id, exposure_ns, count)
            return
        self._follow(info.part_id, info.header.frame_id, exposure_ns, count)
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
            evidence = edge_evidence(result, self.params.review_from_rung)
        except ValueError:
            self.fault("unknown_verdict", f"{result.station} sent verdict {result.verdict}")
            result.verdict = Finding.UNKNOWN.value
            evidence = edge_evidence(result)
        exposure_ns = nanoseconds(result.header.stamp)
        self._follow(result.part_id, result.header.frame_id, exposure_ns)
        self._publish(self._ledger.add(result.part_id, evidence, exposure_ns, self.steady_ns()))

    def _on_detail(self, result: DetailResult) -> None:
        if not self.is_active or self._ledger is None:
            return
        if not result.part_id:
            self.fault("detail_without_part", f"{result.station} frame {result.frame_sequence}")
            return
        try:
            detail = detail_evidence(result)
        except ValueError:
            self.fault("unknown_outcome", f"detail of {result.station}: outcome {result.outcome}")
            result.outcome = Examined.UNKNOWN.value
            detail = detail_evidence(result)
        exposure_ns = nanoseconds(result.header.stamp)
        self._follow(result.part_id, result.header.frame_id, exposure_ns)
        self._publish(
            self._ledger.add_detail(result.part_id, detail, exposure_ns, self.steady_ns())
        )

    def _follow(
        self, part_id: str, camera: str, exposure_ns: int, count: int | None = None
    ) -> None:
        """Whatever message of a part comes first tells its place on the belt."""
        if self._reject is None or self._ledger is None or self._ledger.is_forgotten(part_id):
            return
        self._reject.seen(part_id, camera, exposure_ns, count)

    def _expire(self) -> None:
        if self.is_active and self._ledger is not None:
            self._publish(self._ledger.expire(self.steady_ns()))

    def _publish(self, decisions: list[Decision[Source]]) -> None:
        for decision in decisions:
            self._publish_one(decision)

    def _publish_one(self, decision: Decision[Source]) -> PartVerdict:
        if decision.override is not None:
            self._overridden += 1
        elif decision.revision == 1:
            self._decided[decision.verdict] += 1
        elif decision.refinement:
            self._refined[decision.refinement] += 1
        now_ns = self.now_ns()
        final = decision.stage is Stage.FINAL and not decision.details
        limit_ms = self.params.deadline_ms if final else self.params.detail_deadline_ms
        to_ros_ns = now_ns - self.steady_ns()
        deadline_ns = decision.first_seen_ns + int(limit_ms * 1e6) + to_ros_ns
        reject_ns = 0
        if self._reject is not None:
            reject_ns = self._reject.due_ns(decision.part_id)
            self._reject.judged(decision)
        message = part_verdict(decision, self.params.line, now_ns, deadline_ns, reject_ns)
        self._verdicts.publish(message)
        return message

    def _parts_status(self) -> Status:
        if self._ledger is None:
            return Status(Level.STALE, "not configured")
        counts = self._ledger.counts
        values: dict[str, object] = {f"verdict {v.name}": n for v, n in self._decided.items()}
        values |= {f"refined {r.name}": n for r, n in self._refined.items() if r}
        values |= {"overridden": self._overridden, "open parts": self._ledger.open_parts, **counts}
        untimely = ("missing evidence", "late evidence", "missing detail", "late detail")
        if any(counts[name] for name in untimely):
            return Status(Level.WARN, "evidence came late or not at all", values)
        if not sum(self._decided.values()):
            return Status(Level.STALE, "no part yet", values)
        return Status(Level.OK, "every part judged in time", values)


def main() -> int:
    """`ros2 run shopfloor quality_gate`."""
    return run_node(QualityGateNode)


if __name__ == "__main__":
    raise SystemExit(main())
