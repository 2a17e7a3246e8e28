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
        stages=[StageTime(name=name, duration_ms=ms) for name, ms in stages_ms.items()],
        rung=origin.rung,
        board_temperature_celsius=board_celsius,
        host=origin.host,
        node=origin.node,
    )


def bounded(text: str) -> str:
    """Text for a bounded field of a message, which counts bytes."""
    return text.encode()[:_REASON_BYTES].decode(errors="ignore")


def detections(found: Detections, classes: tuple[str, ...]) -> list[Detection]:
    """One message a box."""
    # Plain lists: taking numpy scalars one by one costs several times as much.
    rows = zip(found.xyxy.tolist(), found.scores.tolist(), found.class_ids.tolist(), strict=True)
    return [
        Detection(
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


def result(
    outcome: InspectionOutcome,
    origin: Origin,
    criteria: Criteria,
    stages_ms: dict[str, float],
    board_celsius: float = math.nan,
) -> InspectionResult:
    """All of a result that does not depend on the frame's place in the stream."""
    decision = outcome.decision
    height, width = outcome.image.shape[:2] if outcome.image is not None else (0, 0)
    return InspectionResult(
        verdict=getattr(InspectionResult, f"VERDICT_{decision.verdict.name}"),
        reason_code=getattr(InspectionResult, f"REASON_{decision.reason.name}"),
        reason=bounded(decision.text),
        score=decision.score,
        fail_threshold=criteria.fail,
        suspect_threshold=criteria.floor,
        detections=detections(outcome.detections, origin.package.classes),
        image_width=width,
        image_height=height,
        quality=quality(outcome.quality),
        provenance=provenance(origin, stages_ms, board_celsius),
    )
