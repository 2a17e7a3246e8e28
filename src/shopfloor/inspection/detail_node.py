"""detail_inspector: looks again at suspect crops, with more views and more time than the edge."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from rclpy.time import Time
from shopfloor_msgs.msg import SuspectCrop

from shopfloor.inspection import messages
from shopfloor.inspection.detail import Examination, Examiner, Outcome, not_examined
from shopfloor.inspection.detail_messages import CropError, Place, detail_result, place
from shopfloor.inspection.detail_parameters import DetailInspectorParameters
from shopfloor.inspection.detail_queue import DetailQueue, Waiting, WorkTime
from shopfloor.inspection.engines import Engine, EngineError, EngineOptions
from shopfloor.inspection.model import load_model_package
from shopfloor.inspection.parity import open_engine
from shopfloor.inspection.pipeline import Inspector
from shopfloor.inspection.verdict import Criteria, check_floor
from shopfloor.inspection.yolo import OutputError
from shopfloor.ros import images
from shopfloor.ros.diagnostics import Level, Status
from shopfloor.ros.main import run_node
from shopfloor.ros.node import NodeError, ShopfloorNode
from shopfloor.ros.parameters import configuration_sha256
from shopfloor.ros.paths import model_folder
from shopfloor.ros.timing import Rolling, StageTimer
from shopfloor.ros.worker import Done, Worker

_TICK_S = 0.05


@dataclass(frozen=True)
class _Answer:
    """What the worker found, and where the crop lies in its frame."""

    examination: Examination
    place: Place | None


class DetailInspectorNode(ShopfloorNode[DetailInspectorParameters]):
    """Queues crops by deadline, examines one at a time, answers every one of them."""

    PARAMETERS = DetailInspectorParameters

    def __init__(self, name: str = "detail_inspector", **node_arguments: Any) -> None:
        self._engine: Engine | None = None
        self._examiner: Examiner | None = None
        self._worker: Worker[Waiting[SuspectCrop], _Answer] | None = None
        self._reset(1)
        super().__init__(name, **node_arguments)

    def _reset(self, capacity: int) -> None:
        self._queue: DetailQueue[SuspectCrop] = DetailQueue(capacity)
        self._busy = False
        self._answers: Counter[str] = Counter()
        self._work_time = WorkTime()
        self._age_ms = Rolling()

    # Lifecycle ----------------------------------------------------------------------------------

    def setup(self) -> None:
        """Load and check the model, and run it once."""
        params = self.params
        package = load_model_package(model_folder(params.model))
        thresholds = package.thresholds
        criteria = _criteria(params, thresholds.fail, thresholds.suspect)
        try:
            options = EngineOptions(params.threads, params.precision)
            self._engine = open_engine(params.engine, package, options)
            # An empty part of a picture is no reason against it here.
            inspector = Inspector(
                package,
                self._engine,
                Criteria(thresholds.fail, thresholds.suspect, min_contrast=0.0),
                score_floor=params.score_floor,
            )
        except (EngineError, OutputError) as error:
            raise NodeError(f"{package.path}: {error}") from error
        self._examiner = Examiner(inspector, criteria, zooms=params.zooms, mirrored=params.mirrored)
        self._reset(params.queue)
        self._describe_origin()
        self._results = self.publisher("detail_result")
        self._worker = self.worker("detail", self._examine, self._examined)
        self.subscription("suspect_crop", self._on_crop)
        self.steady_timer(_TICK_S, self._pump)
        self.diagnostics.add("detail", self._detail_status)
        self.get_logger().info(
            f"{package.name}/{package.version} on {inspector.describe().name}, "
            f"{self._examiner.views} views a crop"
        )

    def start(self) -> None:
        """Look at crops."""
        assert self._examiner is not None
        self._examiner.interrupted = False

    def stop(self) -> None:
        """What waits is not answered any more, and the present look ends with its view."""
        self._queue.clear()
        if self._examiner is not None:
            self._examiner.interrupted = True

    def teardown(self) -> None:
        """Free the model."""
        self.diagnostics.remove("detail")
        self._worker = None
        self._examiner = None
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def parameters_changed(
        self, old: DetailInspectorParameters, new: DetailInspectorParameters
    ) -> None:
        """Thresholds take effect with the next crop; a pair that does not fit is left out."""
        if self._examiner is None:
            return
        thresholds = self._examiner.inspector.package.thresholds
        try:
            self._examiner.criteria = _criteria(new, thresholds.fail, thresholds.suspect)
        except ValueError as error:
            self.fault("thresholds", f"{error}; the ones before stay in force")
            return
        self._describe_origin()

    def _describe_origin(self) -> None:
        assert self._examiner is not None
        inspector = self._examiner.inspector
        self._origin = messages.Origin(
            package=inspector.package,
            engine=inspector.describe(),
            configuration_sha256=configuration_sha256(self.params, model=inspector.package.sha256),
            host=self.host,
            node=self.get_fully_qualified_name(),
        )

    # Crops in, one at a time to the worker ------------------------------------------------------

    def _on_crop(self, crop: SuspectCrop) -> None:
        if not self.is_active:
            return
        stamp = _nanoseconds(crop.header.stamp)
        key = (crop.part_id, crop.header.frame_id, stamp, crop.frame_sequence, crop.crop_index)
        if self._queue.is_repeated(key):
            return
        gave_way = self._queue.put(crop, _nanoseconds(crop.deadline), self.steady_ns())
        if gave_way is not None:
            self._refuse(gave_way, f"queue full: {self.params.queue} crops wait")
        self._pump()

    def _pump(self) -> None:
        if not self.is_active or self._worker is None:
            return
        late = self._queue.expire(self.now_ns(), self._work_time.expected_ns)
        self._work_time.refused(len(late))
        for crop in late:
            self._refuse(crop, "late: it could not be answered by its deadline")
        if self._busy:
            return
        waiting = self._queue.take()
        if waiting is not None:
            self._busy = True
            self._worker.put(waiting)

    # On the worker's thread ---------------------------------------------------------------------

    def _examine(self, waiting: Waiting[SuspectCrop]) -> _Answer:
        examiner = self._examiner
        if examiner is None:
            return _Answer(not_examined("the node was cleaned up"), None)
        crop = waiting.item
        timer = StageTimer()
        try:
            picture = images.decode(crop.image.data)
            timer.lap("decode")
            where = place(crop, picture.shape[1], picture.shape[0])
        except (images.ImageError, CropError) as error:
            return _Answer(not_examined(f"bad crop: {error}"), None)
        found = examiner.examine(picture, where.into_crop(crop.detection))
        found.stages_ms.update(timer.stages_ms)
        return _Answer(found, where)

    # Answers out: executor ----------------------------------------------------------------------

    def _examined(self, done: Done[Waiting[SuspectCrop], _Answer]) -> None:
        self._busy = False
        answer = done.result
        if answer is None:
            text = f"{type(done.error).__name__}: {done.error}"
            answer = _Answer(not_examined(f"fault: {text}"), None)
        waiting, examination = done.item, answer.examination
        if examination.outcome is Outcome.NOT_EXAMINED:
            self.fault(examination.reason.partition(":")[0], examination.reason)
        else:
            self._work_time.took((done.finished_ns - done.started_ns) / 1e6)
        waited_ms = max((done.started_ns - waiting.arrived_ns) / 1e6, 0.0)
        self._publish(waiting.item, answer, {"queue": waited_ms, **examination.stages_ms})
        self._pump()

    def _refuse(self, crop: SuspectCrop, reason: str) -> None:
        self.fault(f"crop {reason.partition(':')[0]}", f"part {crop.part_id}: {reason}")
        self._publish(crop, _Answer(not_examined(reason), None), {})

    def _publish(self, crop: SuspectCrop, answer: _Answer, stages_ms: dict[str, float]) -> None:
        if not self.is_active:
            return
        result = detail_result(crop, answer.examination, answer.place, self._origin.package.classes)
        result.provenance = messages.provenance(self._origin, stages_ms)
        age_ms = (self.now_ns() - _nanoseconds(crop.header.stamp)) / 1e6
        result.age_ms = age_ms
        self._age_ms.add(age_ms)
        self._answers[answer.examination.outcome.name] += 1
        self._results.publish(result)

    def _detail_status(self) -> Status:
        origin, queue = self._origin, self._queue
        values: dict[str, object] = {
            "model": f"{origin.package.name}/{origin.package.version}",
            "engine": f"{origin.engine.name} {origin.engine.precision}",
            "waiting": len(queue),
            "oldest_ms": queue.oldest_ms(self.steady_ns()),
            "examined_p50_ms": self._work_time.taken_ms.percentile(50),
            "age_p50_ms": self._age_ms.percentile(50),
            "age_p99_ms": self._age_ms.percentile(99),
            **{f"answer {name}": count for name, count in self._answers.items()},
            **{f"crops {name}": count for name, count in queue.counts.items()},
        }
        if not self.is_active:
            return Status(Level.STALE, "not active", values)
        if queue.counts["full"] or queue.counts["late"]:
            return Status(Level.WARN, "crops were not examined for lack of time", values)
        return Status(Level.OK, f"{self._work_time.taken_ms.count} crops examined", values)


def _criteria(params: DetailInspectorParameters, fail: float, suspect: float) -> Criteria:
    """The parameters' criteria over the model's; raises ValueError when they don't fit."""
    criteria = Criteria(params.fail_threshold or fail, params.suspect_threshold or suspect)
    check_floor(criteria, params.score_floor)
    return criteria


def _nanoseconds(stamp: Any) -> int:
    return int(Time.from_msg(stamp).nanoseconds)


def main() -> int:
    """`ros2 run shopfloor detail_inspector`."""
    return run_node(DetailInspectorNode)


if __name__ == "__main__":
    raise SystemExit(main())
