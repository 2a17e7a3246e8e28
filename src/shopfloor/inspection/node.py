"""inspector: finds defects in the frames of a camera and gives each frame a verdict."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import count
from typing import Any

from shopfloor_msgs.msg import InspectionResult

from shopfloor.inspection import messages
from shopfloor.inspection.counters import FAULTS, Counters
from shopfloor.inspection.engines import Engine, EngineError, EngineOptions
from shopfloor.inspection.model import ModelPackage
from shopfloor.inspection.node_crops import CropSender
from shopfloor.inspection.node_rungs import RungControl
from shopfloor.inspection.node_views import Shown, Views
from shopfloor.inspection.parameters import InspectorParameters
from shopfloor.inspection.parity import open_engine
from shopfloor.inspection.pipeline import InspectionOutcome, Inspector, failed
from shopfloor.inspection.rungs import Mode, Rung
from shopfloor.inspection.variants import Variants
from shopfloor.inspection.verdict import Criteria, Reason
from shopfloor.inspection.yolo import OutputError
from shopfloor.ros.diagnostics import Level, Status
from shopfloor.ros.frame_endpoints import FrameSubscription
from shopfloor.ros.frames import Frame
from shopfloor.ros.main import run_node
from shopfloor.ros.node import NodeError, ShopfloorNode
from shopfloor.ros.parameters import configuration_sha256
from shopfloor.ros.worker import Done, Worker

STATION_BYTES = 64
_COUNTED = (Reason.FRAME_INVALID, *FAULTS)


@dataclass(frozen=True, eq=False)
class _Serving:
    """What judges frames at one rung. `ticks` counts the frames since it came into force."""

    rung: Rung
    inspector: Inspector
    origin: messages.Origin
    ticks: Iterator[int] = field(default_factory=count)


class _Session:
    """From one activation to its end. What was begun in it is not said in another, or after it."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.frames: FrameSubscription | None = None
        self.lock = threading.Lock()
        self.ended = False

    def knows(self, frame: Frame) -> bool:
        """Whether part and sequence of the frame are known by now."""
        frames = self.frames
        return frames is None or frames.knows(frame)

    def complete(self, frame: Frame) -> Frame:
        """The frame with part and sequence, where they came beside it."""
        frames = self.frames
        return frame if frames is None else frames.complete(frame)

    def end(self) -> None:
        """When this returns, nothing more is published, and no frames come."""
        with self.lock:
            self.ended = True
        frames, self.frames = self.frames, None
        if frames is not None:
            frames.close()


@dataclass(frozen=True)
class _Job:
    """A frame, and the activation that it came in."""

    frame: Frame
    session: _Session


@dataclass(frozen=True)
class _Judged:
    """What was found in a frame, and its result, published or not yet."""

    shown: Shown
    result: InspectionResult
    published: bool


class InspectorNode(ShopfloorNode[InspectorParameters]):
    """Takes the latest frame, inspects it on its worker, publishes the result."""

    PARAMETERS = InspectorParameters

    def __init__(self, name: str = "inspector", **node_arguments: Any) -> None:
        self._variants: Variants | None = None
        self._rungs: RungControl | None = None
        self._serving: _Serving | None = None
        self._session = _Session()
        self._worker: Worker[_Job, _Judged] | None = None
        super().__init__(name, **node_arguments)

    # Lifecycle ----------------------------------------------------------------------------------

    def setup(self) -> None:
        """Load and check the models of all rungs, and run each of them."""
        params = self.params
        if len(params.station.encode()) > STATION_BYTES:
            raise NodeError(f"station {params.station!r} is longer than {STATION_BYTES} bytes")
        try:
            self._variants = Variants(params.rungs(), self._load_engine, self._build_inspector)
        except (EngineError, OutputError) as error:
            raise NodeError(str(error)) from error
        self._set_criteria(params)
        self._serve(self._variants.rungs[0])
        self._rungs = RungControl(
            self, self._variants, self._serve, follow_thermal=params.follow_thermal
        )
        self._results = self.publisher("inspection_result")
        self._worker = self.worker("inference", self._inspect, self._inspected, quiet=True)
        self._views = Views(self, params.annotated_jpeg_quality, params.pixel_size_mm)
        self._crops = CropSender(self)
        self.diagnostics.add("inspection", self._inspection_status)
        inspector = self._variants.of(self._variants.rungs[0])
        package, criteria = inspector.package, inspector.criteria
        self.get_logger().info(
            f"{package.name}/{package.version} on {inspector.describe().name}, "
            f"fail from {criteria.fail:g}, suspect from {criteria.suspect:g}; "
            f"rungs: {', '.join(rung.name for rung in self._variants.rungs)}"
        )

    def start(self) -> None:
        """Subscribe to the camera."""
        self._session.end()  # an error may have come between
        session = self._session = _Session()
        session.frames = FrameSubscription(
            self, self.params.camera, partial(self._on_frame, session), road=self.params.road
        )

    def stop(self) -> None:
        """No more frames."""
        self._session.end()

    def teardown(self) -> None:
        """Free the models."""
        self.diagnostics.remove("inspection")
        self._worker = None
        self._serving = None
        if self._rungs is not None:
            self._rungs.close()
            self._rungs = None
        if self._variants is not None:
            self._variants.close()
            self._variants = None

    def parameters_changed(self, old: InspectorParameters, new: InspectorParameters) -> None:
        """Thresholds take effect with the next frame; a pair that does not fit is left out."""
        if self._rungs is None:
            return
        try:
            self._set_criteria(new)
        except ValueError as error:
            self.fault("thresholds", f"{error}; the ones before stay in force")
            return
        self._serve(self._rungs.in_force)

    def _load_engine(self, package: ModelPackage) -> Engine:
        options = EngineOptions(self.params.threads, self.params.precision)
        return open_engine(self.params.engine, package, options)

    def _build_inspector(self, package: ModelPackage, engine: Engine) -> Inspector:
        params, thresholds = self.params, package.thresholds
        try:
            return Inspector(
                package,
                engine,
                Criteria(fail=thresholds.fail, suspect=thresholds.suspect),
                score_floor=params.score_floor,
                nms_iou=params.nms_iou or None,
                max_detections=params.max_detections,
            )
        except OutputError as error:
            raise OutputError(f"{package.path}: {error}") from error

    def _set_criteria(self, params: InspectorParameters) -> None:
        assert self._variants is not None
        self._variants.set_criteria(lambda package: _criteria(params, package), params.caution)

    def _serve(self, rung: Rung) -> None:
        """The next frame is judged at `rung`."""
        assert self._variants is not None
        inspector = self._variants.of(rung)
        package = inspector.package
        origin = messages.Origin(
            package=package,
            engine=inspector.describe(),
            configuration_sha256=configuration_sha256(self.params, model=package.sha256),
            host=self.host,
            node=self.get_fully_qualified_name(),
            rung=rung.index,
        )
        self._serving = _Serving(rung, inspector, origin)

    # Frames in: capture thread or executor ------------------------------------------------------

    def _on_frame(self, session: _Session, frame: Frame) -> None:
        counters, worker, serving = session.counters, self._worker, self._serving
        if worker is None or serving is None:
            return
        counters.received += 1
        counters.last_frame_ns = frame.received_ns
        if next(serving.ticks) % serving.rung.stride:
            counters.stride += 1
            return
        if worker.put(_Job(frame, session)):
            counters.superseded += 1

    # On the worker's thread ---------------------------------------------------------------------

    def _inspect(self, job: _Job) -> _Judged | None:
        """Judge a frame and say so from here: waking the executor first takes longer than that.

        None: nothing is left to do for the executor.
        """
        frame, session = job.frame, job.session
        waited_ms = max((self.steady_ns() - frame.received_ns) / 1e6, 0.0)
        serving = self._serving
        if serving is None or session.ended:
            return None
        draft = cache(partial(self._draft, frame, serving))
        failure: Exception | None = None
        try:
            outcome = self._judge(frame, serving, draft)
        except Exception as error:  # a frame that breaks the code still gets a verdict
            outcome, failure = failed(Reason.UNKNOWN, f"{type(error).__name__}: {error}"), error
        stages_ms = {"queue": waited_ms, **outcome.stages_ms}
        criteria = outcome.criteria or serving.inspector.criteria
        package, result = serving.inspector.package, draft()
        messages.complete(result, outcome, package.classes, criteria, stages_ms)
        shown = Shown(frame, outcome, package, serving.rung, criteria.floor)
        # Where the part travels beside the image, it may lie in the executor's queue still.
        published = session.knows(frame) and self._publish(session, shown, result)
        if failure is not None and published:
            raise failure
        if session.ended:
            return None  # what wakes the executor may be gone
        judged = _Judged(shown, result, published)
        return judged if self._has_more(judged) else None

    def _judge(
        self, frame: Frame, serving: _Serving, meanwhile: Callable[[], object]
    ) -> InspectionOutcome:
        if not frame.readable:
            return failed(Reason.FRAME_INVALID, frame.cause)
        rung = serving.rung
        if rung.mode is Mode.HOLD:
            return failed(Reason.DEGRADED, f"rung {rung.index} '{rung.name}': no frame is judged")
        age_ms = (self.now_ns() - frame.stamp_ns) / 1e6
        if 0.0 < self.params.max_frame_age_ms < age_ms:
            allowed = self.params.max_frame_age_ms
            return failed(Reason.STALE, f"the frame is {age_ms:.0f} ms old; allowed: {allowed:g}")
        if rung.mode is Mode.OFFLOAD:
            text = f"rung {rung.index} '{rung.name}': handed to the detail tier"
            return serving.inspector.hand_over(frame.image, frame.encoding, text)
        outcome = serving.inspector.inspect(frame.image, frame.encoding, meanwhile)
        if not frame.intact():
            return failed(Reason.STALE, "the frame was overwritten in its ring while it was read")
        return outcome

    def _draft(self, frame: Frame, serving: _Serving) -> InspectionResult:
        """The result as far as it is known before the frame is judged."""
        celsius = self._rungs.board_celsius if self._rungs is not None else math.nan
        result = messages.draft(serving.origin, celsius)
        result.header.stamp = self.stamp(frame.stamp_ns)
        result.header.frame_id = frame.camera
        result.station = self.params.station or self.get_name()
        return result

    def _has_more(self, judged: _Judged) -> bool:
        outcome = judged.shown.outcome
        return (
            not judged.published
            or outcome.decision.reason in _COUNTED
            or self._crops.wants(outcome, judged.result)
            or self._views.wants(outcome)
        )

    # On the worker's thread, or the executor's --------------------------------------------------

    def _publish(self, session: _Session, shown: Shown, result: InspectionResult) -> bool:
        """Fill in what is known only now, and publish; False where the session has ended."""
        with session.lock:
            if session.ended:
                return False
            frame, counters = session.complete(shown.frame), session.counters
            counters.judged(shown.outcome.decision)
            result.part_id = frame.part_id
            result.frame_sequence = frame.sequence
            result.frames_received = counters.received
            result.frames_processed = counters.processed
            result.dropped_superseded = counters.superseded
            result.dropped_stale = counters.stale
            result.dropped_stride = counters.stride
            result.dropped_invalid = counters.invalid
            result.frame_age_ms = (self.now_ns() - frame.stamp_ns) / 1e6
            self._results.publish(result)
            counters.age_ms.add(result.frame_age_ms)
            return True

    # After the result: executor -----------------------------------------------------------------

    def _inspected(self, done: Done[_Job, _Judged]) -> None:
        session, judged = done.item.session, done.result
        if done.error is not None:
            self.fault(Reason.UNKNOWN.value, f"{type(done.error).__name__}: {done.error}")
        if judged is None or session.ended:
            return
        shown, result = judged.shown, judged.result
        if not judged.published and not self._publish(session, shown, result):
            return
        decision = shown.outcome.decision
        if decision.reason in _COUNTED:
            self.fault(decision.reason.value, decision.text)
        shown = replace(shown, frame=session.complete(shown.frame))
        self._crops.offer(shown.frame, shown.outcome, result)
        self._views.show(shown)

    def _inspection_status(self) -> Status:
        session, serving, rungs = self._session, self._serving, self._rungs
        counters, frames = session.counters, session.frames
        if serving is None or rungs is None:
            return Status(Level.STALE, "not configured")
        rung, origin = serving.rung, serving.origin
        values: dict[str, object] = {
            "model": f"{origin.package.name}/{origin.package.version}",
            "engine": f"{origin.engine.name} {origin.engine.precision}",
            "rung": f"{rung.index} {rung.name}",
            "board_celsius": rungs.board_celsius,
            "road": frames.road if frames is not None else "none",
            "crops sent": self._crops.sent,
            "crops not sent": self._crops.not_sent,
            **counters.values(),
        }
        if not self.is_active:
            return Status(Level.STALE, "not active", values)
        if counters.last_frame_ns is None:
            return Status(Level.STALE, f"no frame from {self.params.camera} yet", values)
        silent_s = (self.steady_ns() - counters.last_frame_ns) / 1e9
        if silent_s > self.params.silence_s:
            text = f"no frame from {self.params.camera} for {silent_s:.1f} s"
            return Status(Level.STALE, text, values)
        if counters.last is not None and counters.last.reason in FAULTS:
            return Status(Level.ERROR, counters.last.text, values)
        if rung.index:
            return Status(Level.WARN, f"rung {rung.index} '{rung.name}'", values)
        return Status(Level.OK, f"{counters.rate.hz():.1f} Hz", values)


def _criteria(params: InspectorParameters, package: ModelPackage) -> Criteria:
    """The parameters' criteria over the model's; raises ValueError when they don't fit."""
    return Criteria(
        fail=params.fail_threshold or package.thresholds.fail,
        suspect=params.suspect_threshold or package.thresholds.suspect,
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
