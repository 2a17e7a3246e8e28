"""Findings and answers from messages, decisions as messages."""

from __future__ import annotations

import math
from typing import Any

from rclpy.time import Time
from shopfloor_msgs.msg import (
    DetailResult,
    InspectionResult,
    PartVerdict,
    RejectCommand,
    StationEvidence,
)

from shopfloor.quality.evidence import (
    Decision,
    DetailEvidence,
    Evidence,
    Examined,
    Finding,
    Override,
    Stage,
    Timing,
    Verdict,
)
from shopfloor.quality.reject import RejectOrder
from shopfloor.quality.rules import believed

Source = Any
"""An InspectionResult or a DetailResult."""

_TEXT_BYTES = 254
_MAX_ITEMS = 16

_AS_VERDICT = {
    Examined.DEFECT: InspectionResult.VERDICT_FAIL,
    Examined.NO_DEFECT: InspectionResult.VERDICT_PASS,
    Examined.UNDECIDED: InspectionResult.VERDICT_SUSPECT,
}
_AS_FINDING = {
    Verdict.PASS: InspectionResult.VERDICT_PASS,
    Verdict.FAIL: InspectionResult.VERDICT_FAIL,
    Verdict.REVIEW: InspectionResult.VERDICT_SUSPECT,
}
_WORST = (
    Examined.NO_DEFECT,
    Examined.UNDECIDED,
    Examined.NOT_EXAMINED,
    Examined.UNKNOWN,
    Examined.DEFECT,
)


def edge_evidence(result: InspectionResult, review_from_rung: int = 0) -> Evidence[Source]:
    """What a station said; raises ValueError on a verdict that is not defined.

    review_from_rung: see `rules.believed`.
    """
    rung = result.provenance.rung
    finding, reason = believed(Finding(result.verdict), result.reason, rung, review_from_rung)
    return Evidence(result.header.frame_id, result.frame_sequence, finding, reason, result)


def detail_evidence(result: DetailResult) -> DetailEvidence[Source]:
    """What the detail tier said; raises ValueError on an outcome that is not defined."""
    return DetailEvidence(
        result.header.frame_id,
        result.frame_sequence,
        result.crop_index,
        max(result.crop_count, 1),
        Examined(result.outcome),
        result.reason,
        result,
        result.length_mm,
    )


def part_verdict(
    decision: Decision[Source], line: str, now_ns: int, deadline_ns: int, reject_ns: int = 0
) -> PartVerdict:
    """A decision; now_ns, deadline_ns, reject_ns (0: not known): ROS time."""
    first = decision.exposure_ns
    newest = max((nanoseconds(e.source.header.stamp) for e in decision.evidence), default=first)
    message = PartVerdict(
        part_id=decision.part_id,
        line=line,
        revision=decision.revision,
        verdict=decision.verdict.value,
        refinement=decision.refinement.value,
        stage=decision.stage.value,
        timing=decision.timing.value,
        reasons=[_bounded(reason) for reason in decision.reasons[:_MAX_ITEMS]],
        first_exposure=_stamp(first),
        decided_stamp=_stamp(now_ns),
        deadline=_stamp(max(deadline_ns, 0)),
        latency_ms=(now_ns - first) / 1e6 if first else math.nan,
        reject=decision.verdict is not Verdict.PASS,
        reject_stamp=_stamp(max(reject_ns, 0)),
    )
    message.header.stamp = _stamp(newest)
    message.header.frame_id = line
    message.station = decision.evidence[0].source.station if len(decision.evidence) == 1 else ""
    rows = []
    if decision.override is not None:
        message.overridden_by = decision.override.person
        message.override_reason = _bounded(decision.override.reason)
        rows.append(_human_row(decision.override, now_ns))
    rows += [_edge_row(e, now_ns) for e in decision.evidence]
    rows += [_detail_row(d, now_ns) for d in _worst_by_camera(decision.details)]
    rows += [_missing_row(c, StationEvidence.TIER_EDGE) for c in decision.missing]
    if decision.stage in (Stage.FINAL, Stage.OVERRIDDEN):
        cameras = dict.fromkeys(camera for camera, _ in decision.awaited)
        rows += [_missing_row(c, StationEvidence.TIER_DETAIL) for c in cameras]
    message.evidence = rows[:_MAX_ITEMS]
    return message


def reject_command(order: RejectOrder, line: str, number: int) -> RejectCommand:
    """An order without its window, which only the belt can tell."""
    message = RejectCommand(
        part_id=order.part_id,
        line=line,
        number=number % (1 << 32),
        revision=order.revision,
        action=order.action.value,
        reason=_bounded(order.reason),
    )
    message.header.stamp = _stamp(order.exposure_ns)
    message.header.frame_id = line
    return message


def nanoseconds(stamp: Any) -> int:
    """A builtin_interfaces/Time in nanoseconds."""
    return int(Time.from_msg(stamp).nanoseconds)


def _worst_by_camera(details: tuple[DetailEvidence[Source], ...]) -> list[DetailEvidence[Source]]:
    """One row a station and tier: the answer that weighs most."""
    worst: dict[str, DetailEvidence[Source]] = {}
    for detail in details:
        known = worst.get(detail.camera)
        if known is None or _WORST.index(detail.outcome) > _WORST.index(known.outcome):
            worst[detail.camera] = detail
    return list(worst.values())


def _edge_row(evidence: Evidence[Source], now_ns: int) -> StationEvidence:
    result = evidence.source
    deciding = result.detections[0] if result.detections else None
    return StationEvidence(
        station=result.station,
        tier=StationEvidence.TIER_EDGE,
        verdict=evidence.finding.value,
        timing=evidence.timing.value,
        class_name=deciding.class_name if deciding is not None else "",
        score=result.score,
        reason=_bounded(evidence.reason),
        data_stamp=result.header.stamp,
        received_stamp=_stamp(now_ns),
        frame_sequence=result.frame_sequence,
        provenance=result.provenance,
    )


def _human_row(override: Override, now_ns: int) -> StationEvidence:
    return StationEvidence(
        station=override.person,
        tier=StationEvidence.TIER_HUMAN,
        verdict=_AS_FINDING[override.verdict],
        timing=Timing.ON_TIME.value,
        reason=_bounded(override.reason),
        received_stamp=_stamp(now_ns),
    )


def _detail_row(detail: DetailEvidence[Source], now_ns: int) -> StationEvidence:
    result = detail.source
    return StationEvidence(
        station=result.station,
        tier=StationEvidence.TIER_DETAIL,
        verdict=_AS_VERDICT.get(detail.outcome, InspectionResult.VERDICT_UNKNOWN),
        timing=detail.timing.value,
        class_name=result.detection.class_name,
        score=result.detection.score,
        reason=_bounded(result.reason),
        data_stamp=result.header.stamp,
        received_stamp=_stamp(now_ns),
        frame_sequence=result.frame_sequence,
        provenance=result.provenance,
    )


def _missing_row(station: str, tier: int) -> StationEvidence:
    return StationEvidence(station=station, tier=tier, timing=Timing.MISSING.value)


def _bounded(text: str) -> str:
    return text.encode()[:_TEXT_BYTES].decode(errors="ignore")


def _stamp(ns: int) -> Any:
    return Time(nanoseconds=ns).to_msg()
