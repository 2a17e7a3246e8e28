"""Outcomes as messages."""

from __future__ import annotations

import math
from dataclasses import dataclass

from shopfloor_msgs.msg import Detection, InspectionResult, Provenance, StageTime
from shopfloor_msgs.msg import FrameQuality as FrameQualityMessage

from shopfloor.inspection.detections import Detections
from shopfloor.inspection.engines import EngineInfo
from shopfloor.inspection.model import ModelPackage
from shopfloor.inspection.pipeline import InspectionOutcome
from shopfloor.inspection.quality import FrameQuality
from shopfloor.inspection.verdict import Criteria

_REASON_BYTES = 254


@dataclass(frozen=True, slots=True)
class Origin:
    """What all results of one configured node have in common at one rung.

    node: fully qualified name of the node; configuration_sha256: of its effective parameters.
    """

    package: ModelPackage
    engine: EngineInfo
    configuration_sha256: str
    host: str
    node: str
    rung: int = 0


def provenance(
    origin: Origin, stages_ms: dict[str, float], board_celsius: float = math.nan
) -> Provenance:
    """Where a result came from. board_celsius: temperature of the board, NaN: not known."""
    return Provenance(
        model=origin.package.name,
        model_version=origin.package.version,
        model_sha256=origin.package.sha256,
        engine=origin.engine.name,
        precision=origin.engine.precision,
        configuration_sha256=origin.configuration_sha256,
        stages=stages(stages_ms),
        rung=origin.rung,
        board_temperature_celsius=board_celsius,
        host=origin.host,
        node=origin.node,
    )


def stages(stages_ms: dict[str, float]) -> list[StageTime]:
    """Times by stage, in their order."""
    return [StageTime(name=name, duration_ms=ms) for name, ms in stages_ms.items()]


def bounded(text: str) -> str:
    """Text for a bounded field of a message, which counts bytes."""
    return text.encode()[:_REASON_BYTES].decode(errors="ignore")


def detections(found: Detections, classes: tuple[str, ...]) -> list[Detection]:
    """One message a box."""
    # Plain lists: taking numpy scalars one by one costs several times as much. The types are known
    # here, and checking each field again takes longer than all the rest of a box.
    rows = zip(found.xyxy.tolist(), found.scores.tolist(), found.class_ids.tolist(), strict=True)
    return [
        Detection(
            check_fields=False,
            class_id=class_id,
            class_name=classes[class_id],
            score=score,
            x_px=x1,
            y_px=y1,
            width_px=x2 - x1,
            height_px=y2 - y1,
        )
        for (x1, y1, x2, y2), score, class_id in rows
    ]


def quality(measured: FrameQuality) -> FrameQualityMessage:
    """The gauges."""
    return FrameQualityMessage(
        mean_grey=measured.mean_grey,
        contrast=measured.contrast,
        sharpness=measured.sharpness,
        saturated_fraction=measured.saturated_fraction,
    )


def draft(origin: Origin, board_celsius: float = math.nan) -> InspectionResult:
    """What is known of a result before its frame is judged."""
    return InspectionResult(provenance=provenance(origin, {}, board_celsius))


def complete(
    result: InspectionResult,
    outcome: InspectionOutcome,
    classes: tuple[str, ...],
    criteria: Criteria,
    stages_ms: dict[str, float],
) -> None:
    """Fill a draft with all that does not depend on the frame's place in the stream."""
    decision = outcome.decision
    result.verdict = getattr(InspectionResult, f"VERDICT_{decision.verdict.name}")
    result.reason_code = getattr(InspectionResult, f"REASON_{decision.reason.name}")
    result.reason = bounded(decision.text)
    result.score = decision.score
    result.fail_threshold, result.suspect_threshold = criteria.fail, criteria.floor
    result.detections = detections(outcome.detections, classes)
    if outcome.image is not None:
        result.image_height, result.image_width = outcome.image.shape[:2]
    result.quality = quality(outcome.quality)
    result.provenance.stages = stages(stages_ms)
