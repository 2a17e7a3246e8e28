"""The inspector: one frame in, one outcome out. The node and the offline evaluation both use it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shopfloor.inspection.detections import Detections
from shopfloor.inspection.engines import Engine, EngineError, EngineInfo
from shopfloor.inspection.letterbox import Geometry, Letterbox
from shopfloor.inspection.model import ModelPackage
from shopfloor.inspection.quality import NOT_MEASURED, FrameQuality, measure
from shopfloor.inspection.verdict import (
    Criteria,
    Decision,
    Reason,
    Verdict,
    decide,
    quality_complaint,
    unknown,
)
from shopfloor.inspection.yolo import OutputError, YoloDecoder
from shopfloor.ros.images import ImageError, check, to_bgr8
from shopfloor.ros.timing import Rolling, StageTimer

AnyImage = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class InspectionOutcome:
    """What was found in one frame.

    detections: in pixels of the frame, all at or above the score floor, best first.
    image: the frame as it was inspected, H x W or H x W x 3 (BGR) uint8; None if it could not be
        read. stages_ms: time per stage, in the order in which they ran.
    criteria: those that decided; None where the frame was not inspected.
    output, geometry: the model's raw output and how the picture lay in its input, for the score
        map; None where the model gave nothing that can be read.
    """

    decision: Decision
    detections: Detections
    quality: FrameQuality
    image: npt.NDArray[np.uint8] | None
    stages_ms: dict[str, float]
    criteria: Criteria | None = None
    output: npt.NDArray[np.float32] | None = None
    geometry: Geometry | None = None


def failed(reason: Reason, text: str) -> InspectionOutcome:
    """The outcome of a frame that was not inspected: UNKNOWN, with the reason."""
    return InspectionOutcome(unknown(reason, text), Detections.empty(), NOT_MEASURED, None, {})


class Inspector:
    """Runs one model; belongs to one thread.

    package, engine: the loaded model; the engine is not closed here.
    criteria: what decides, see `Criteria`; may be replaced between two frames.
    score_floor: detections below are not reported, 0-1.
    nms_iou: of two boxes of one class that overlap by more, the weaker goes; None: the model's.
    max_detections: at most so many are reported.

    `infer_ms` holds the times of the last inferences, from begin to outputs, milliseconds.

    The first inference is done here, on an empty frame: it allocates the engine's memory, and an
    output that can't be decoded shows before the first part. Raises EngineError, OutputError.
    """

    def __init__(
        self,
        package: ModelPackage,
        engine: Engine,
        criteria: Criteria,
        *,
        score_floor: float = 0.05,
        nms_iou: float | None = None,
        max_detections: int = 300,
    ) -> None:
        self.package = package
        self.criteria = criteria
        self._engine = engine
        form = package.input
        self._letterbox = Letterbox.of(form, as_bytes=engine.takes_bytes)
        self._decoder = YoloDecoder(
            package.output,
            score_floor=score_floor,
            nms_iou=package.thresholds.nms_iou if nms_iou is None else nms_iou,
            max_detections=max_detections,
        )
        self.infer_ms = Rolling()
        self._letterbox(np.full((form.height, form.width), form.pad, dtype=np.uint8))
        self._decoder(engine.infer(self._letterbox.batch)[0])

    @property
    def score_floor(self) -> float:
        """Detections below are not seen at all, 0-1."""
        return self._decoder.score_floor

    def describe(self) -> EngineInfo:
        """The engine that runs the model."""
        return self._engine.describe()

    def inspect(
        self, image: AnyImage, encoding: str, meanwhile: Callable[[], object] = lambda: None
    ) -> InspectionOutcome:
        """Judge one frame, in any encoding that `shopfloor.ros.images` reads.

        meanwhile: what else there is to do for the frame, done while the engine is at work; it is
        not called for a frame that can't be read.
        Raises nothing for a bad frame, a failing engine or an output that is not a number: the
        outcome is UNKNOWN with the reason.
        """
        timer = StageTimer()
        criteria = self.criteria  # one set for the whole frame, whoever sets another meanwhile
        pixels: npt.NDArray[np.uint8] | None = None
        quality = NOT_MEASURED
        try:
            pixels = _pixels(image, encoding)
            timer.lap("convert")
            geometry = self._letterbox(pixels)
            timer.lap("preprocess")
            outputs = self._engine.begin(self._letterbox.batch)
            timer.lap("infer")
            try:
                # Both cost nothing where the engine has a thread of its own.
                quality = measure(pixels)
                timer.lap("gauges")
                meanwhile()
                timer.lap("meanwhile")
            finally:
                try:
                    output = outputs()[0]
                finally:
                    timer.lap("infer")
            stages = timer.stages_ms
            beside_ms = stages["gauges"] + stages["meanwhile"] if self._engine.works_beside else 0.0
            self.infer_ms.add(stages["infer"] + beside_ms)
            found = self._decoder(output)
            detections = _in_image(found, geometry.to_image(found.xyxy))
            timer.lap("postprocess")
            decision = decide(detections, quality, self.package.classes, criteria)
            timer.lap("decide")
        except ImageError as error:
            decision = unknown(Reason.FRAME_INVALID, str(error))
        except EngineError as error:
            decision = unknown(Reason.ENGINE_FAULT, str(error))
        except OutputError as error:
            decision = unknown(Reason.OUTPUT_INVALID, str(error))
        else:
            return InspectionOutcome(
                decision, detections, quality, pixels, timer.stages_ms, criteria, output, geometry
            )
        nothing = Detections.empty()
        return InspectionOutcome(decision, nothing, quality, pixels, timer.stages_ms, criteria)

    def hand_over(self, image: AnyImage, encoding: str, text: str) -> InspectionOutcome:
        """A frame that the detail tier shall judge: SUSPECT with `text`, or UNKNOWN, never PASS."""
        timer = StageTimer()
        criteria = self.criteria
        try:
            pixels = _pixels(image, encoding)
            timer.lap("convert")
        except ImageError as error:
            return failed(Reason.FRAME_INVALID, str(error))
        quality = measure(pixels)
        timer.lap("gauges")
        complaint = quality_complaint(quality, criteria)
        decision = Decision(Verdict.SUSPECT, Reason.DEGRADED, text)
        if complaint:
            decision = unknown(Reason.FRAME_QUALITY, complaint)
        timer.lap("decide")
        nothing = Detections.empty()
        return InspectionOutcome(decision, nothing, quality, pixels, timer.stages_ms, criteria)


def _pixels(image: AnyImage, encoding: str) -> npt.NDArray[np.uint8]:
    """Grey images stay one plane: the letterbox takes them, for a third of the work."""
    if encoding == "mono8":
        check(image, encoding)
        return image.astype(np.uint8, copy=False)
    return to_bgr8(image, encoding)


def _in_image(found: Detections, xyxy: npt.NDArray[np.float32]) -> Detections:
    """The detections at their place in the image; those that lie in the padding are left out."""
    inside = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
    return Detections(xyxy, found.scores, found.class_ids)[inside]
