"""inspector: finds defects in the frames of a camera and gives each frame a verdict."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from shopfloor.inspection import messages
from shopfloor.inspection.counters import FAULTS, Counters
from shopfloor.inspection.engines import Engine, EngineError, EngineOptions, load_engine
from shopfloor.inspection.model import load_model_package
from shopfloor.inspection.overlay import annotate
from shopfloor.inspection.parameters import InspectorParameters
from shopfloor.inspection.pipeline import InspectionOutcome, Inspector, failed
from shopfloor.inspection.verdict import Criteria, Reason
from shopfloor.inspection.yolo import OutputError
from shopfloor.ros import images
from shopfloor.ros.diagnostics import Level, Status
from shopfloor.ros.frame_endpoints import FrameSubscription
from shopfloor.ros.frames import Frame
from shopfloor.ros.main import run_node
from shopfloor.ros.node import NodeError, ShopfloorNode
from shopfloor.ros.parameters import configuration_sha256
from shopfloor.ros.paths import model_folder
from shopfloor.ros.worker import Done, Worker

STATION_BYTES = 64


@dataclass(frozen=True)
class _Shown:
    """What the annotating worker draws."""

    frame: Frame
    outcome: InspectionOutcome
    suspect: float


class InspectorNode(ShopfloorNode[InspectorParameters]):
    """Takes the latest frame, inspects it on its worker, publishes the result."""

    PARAMETERS = InspectorParameters

    def __init__(self, name: str = "inspector", **node_arguments: Any) -> None:
        self._engine: Engine | None = None
        self._inspector: Inspector | None = None
        self._frames: FrameSubscription | None = None
        self._worker: Worker[Frame, InspectionOutcome] | None = None
        self._counters = Counters()
        super().__init__(name, **node_arguments)

    # Lifecycle ----------------------------------------------------------------------------------

    def setup(self) -> None:
        """Load and check model and engine, and run the model once."""
        params = self.params
        if len(params.station.encode()) > STATION_BYTES:
            raise NodeError(f"station {params.station!r} is longer than {STATION_BYTES} bytes")
        package = load_model_package(model_folder(params.model))
        criteria = _criteria(params, package.thresholds.fail, package.thresholds.suspect)
        try:
            options = EngineOptions(threads=params.threads)
            self._engine = load_engine(params.engine, package, options)
            self._inspector = Inspector(
                package,
                self._engine,
                criteria,
                score_floor=params.score_floor,
                nms_iou=params.nms_iou or None,
                max_detections=params.max_detections,
            )
        except EngineError as error:
            raise NodeError(str(error)) from error
        except OutputError as error:
            raise NodeError(f"{package.path}: {error}") from error
        self._origin = self._make_origin(self._inspector)
        self._results = self.publisher("inspection_result")
        self._annotated = self.publisher("annotated", inspector=self.get_name())
        self._annotated_jpeg = self.publisher("annotated_compressed", inspector=self.get_name())
        self._worker = self.worker("inference", self._inspect, self._inspected)
        self._painter: Worker[_Shown, None] = self.worker("annotate", self._paint, self._painted)
        self.diagnostics.add("inspection", self._inspection_status)
        self.get_logger().info(
            f"{package.name}/{package.version} on {self._origin.engine.name}, "
            f"fail from {criteria.fail:g}, suspect from {criteria.suspect:g}"
        )

    def start(self) -> None:
        """Subscribe to the camera."""
        self._counters = Counters()
        self._frames = FrameSubscription(
            self, self.params.camera, self._on_frame, road=self.params.road
        )

    def stop(self) -> None:
        """No more frames."""
        frames, self._frames = self._frames, None
        if frames is not None:
            frames.close()

    def teardown(self) -> None:
        """Free the model."""
        self.diagnostics.remove("inspection")
        self._worker = None
        self._inspector = None
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def parameters_changed(self, old: InspectorParameters, new: InspectorParameters) -> None:
        """Thresholds take effect with the next frame; a pair that does not fit is left out."""
        if self._inspector is None:
            return
        thresholds = self._inspector.package.thresholds
        try:
            criteria = _criteria(new, thresholds.fail, thresholds.suspect)
        except ValueError as error:
            self.fault("thresholds", f"{error}; the ones before stay in force")
            return
        self._inspector.criteria = criteria
        self._origin = self._make_origin(self._inspector)

    def _make_origin(self, inspector: Inspector) -> messages.Origin:
        package = inspector.package
        return messages.Origin(
            package=package,
            engine=inspector.describe(),
            configuration_sha256=configuration_sha256(self.params, model=package.sha256),
            host=self.host,
            node=self.get_fully_qualified_name(),
        )

    # Frames in: capture thread or executor ------------------------------------------------------

    def _on_frame(self, frame: Frame) -> None:
        counters, worker = self._counters, self._worker
        if worker is None:
            return
        counters.received += 1
        counters.last_frame_ns = frame.received_ns
        if worker.put(frame):
            counters.superseded += 1

    # On the worker's thread ---------------------------------------------------------------------

    def _inspect(self, frame: Frame) -> InspectionOutcome:
        inspector = self._inspector
        if inspector is None:
            return failed(Reason.UNKNOWN, "the node was cleaned up")
        if not frame.readable:
            return failed(Reason.FRAME_INVALID, frame.cause)
        age_ms = (self.now_ns() - frame.stamp_ns) / 1e6
        if 0.0 < self.params.max_frame_age_ms < age_ms:
            allowed = self.params.max_frame_age_ms
            return failed(Reason.STALE, f"the frame is {age_ms:.0f} ms old; allowed: {allowed:g}")
        return inspector.inspect(frame.image, frame.encoding)

    def _paint(self, shown: _Shown) -> None:
        frame, outcome = shown.frame, shown.outcome
        assert outcome.image is not None
        package = self._origin.package
        picture = annotate(
            outcome.image,
            outcome.detections,
            outcome.decision,
            package.classes,
            part_id=frame.part_id,
            note=f"{package.name}/{package.version}",
            suspect=shown.suspect,
        )
        stamp = self.stamp(frame.stamp_ns)
        if self._annotated.get_subscription_count():
            self._annotated.publish(images.to_message(picture, "bgr8", stamp, frame.camera))
        if self._annotated_jpeg.get_subscription_count():
            quality = self.params.annotated_jpeg_quality
            self._annotated_jpeg.publish(
                images.to_compressed(picture, "bgr8", stamp, frame.camera, quality)
            )

    # Results out: executor ----------------------------------------------------------------------

    def _inspected(self, done: Done[Frame, InspectionOutcome]) -> None:
        outcome = done.result
        if outcome is None:
            outcome = failed(Reason.UNKNOWN, f"{type(done.error).__name__}: {done.error}")
        waited_ms = (done.started_ns - done.item.received_ns) / 1e6
        self._publish(done.item, outcome, {"queue": max(waited_ms, 0.0), **outcome.stages_ms})

    def _publish(
        self, frame: Frame, outcome: InspectionOutcome, stages_ms: dict[str, float]
    ) -> None:
        inspector, frames, counters = self._inspector, self._frames, self._counters
        if inspector is None or frames is None:
            return
        frame = frames.complete(frame)
        counters.judged(outcome.decision)
        if outcome.decision.reason in (Reason.FRAME_INVALID, *FAULTS):
            self.fault(outcome.decision.reason.value, outcome.decision.text)
        criteria = outcome.criteria or inspector.criteria
        result = messages.result(outcome, self._origin, criteria, stages_ms)
        now_ns = self.now_ns()
        result.header.stamp = self.stamp(frame.stamp_ns)
        result.header.frame_id = frame.camera
        result.part_id = frame.part_id
        result.station = self.params.station or self.get_name()
        result.frame_sequence = frame.sequence
        result.frame_age_ms = (now_ns - frame.stamp_ns) / 1e6
        result.frames_received = counters.received
        result.frames_processed = counters.processed
        result.dropped_superseded = counters.superseded
        result.dropped_stale = counters.stale
        result.dropped_invalid = counters.invalid
        self._results.publish(result)
        counters.age_ms.add(result.frame_age_ms)
        wanted = self._annotated, self._annotated_jpeg
        if outcome.image is not None and any(p.get_subscription_count() for p in wanted):
            self._painter.put(_Shown(frame, outcome, criteria.suspect))

    def _painted(self, done: Done[_Shown, None]) -> None:
        if done.error is not None:
            self.fault("annotate", f"{type(done.error).__name__}: {done.error}")

    def _inspection_status(self) -> Status:
        counters = self._counters
        values: dict[str, object] = {
            "model": f"{self._origin.package.name}/{self._origin.package.version}",
            "engine": f"{self._origin.engine.name} {self._origin.engine.precision}",
            "road": self._frames.road if self._frames is not None else "none",
            **counters.values(),
        }
        if not self.is_active:
            return Status(Level.STALE, "not active", values)
        if counters.last_frame_ns is None:
            return Status(Level.STALE, f"no frame from {self.params.camera} yet", values)
        silent_s = (time.monotonic_ns() - counters.last_frame_ns) / 1e9
        if silent_s > self.params.silence_s:
            text = f"no frame from {self.params.camera} for {silent_s:.1f} s"
            return Status(Level.STALE, text, values)
        if counters.last is not None and counters.last.reason in FAULTS:
            return Status(Level.ERROR, counters.last.text, values)
        return Status(Level.OK, f"{counters.rate.hz():.1f} Hz", values)


def _criteria(params: InspectorParameters, fail: float, suspect: float) -> Criteria:
    """The parameters' criteria over the model's; raises ValueError when they don't fit."""
    return Criteria(
        fail=params.fail_threshold or fail,
        suspect=params.suspect_threshold or suspect,
        min_contrast=params.min_contrast,
        min_mean_grey=params.min_mean_grey,
        max_mean_grey=params.max_mean_grey,
        min_sharpness=params.min_sharpness,
    )


def main() -> None:
    """`ros2 run shopfloor inspector`."""
    raise SystemExit(run_node(InspectorNode))


if __name__ == "__main__":
    main()
