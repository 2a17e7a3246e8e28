"""Part of the inspector node: crops for the detail tier, cut and encoded beside the inference."""

from __future__ import annotations

from dataclasses import dataclass

from rclpy.time import Time
from shopfloor_msgs.msg import InspectionResult

from shopfloor.inspection.crops import Crop, CropLimits, announced, cut_crops
from shopfloor.inspection.detail_messages import suspect_crop
from shopfloor.inspection.parameters import InspectorParameters
from shopfloor.inspection.pipeline import InspectionOutcome
from shopfloor.inspection.verdict import Verdict
from shopfloor.ros.frames import Frame
from shopfloor.ros.node import ShopfloorNode
from shopfloor.ros.worker import Done


@dataclass(frozen=True)
class _Cut:
    frame: Frame
    outcome: InspectionOutcome
    result: InspectionResult


class CropSender:
    """Sends the crops of frames whose verdict asks for a second look."""

    def __init__(self, node: ShopfloorNode[InspectorParameters]) -> None:
        self._node = node
        params = node.params
        wanted = {"none": (), "suspect": (Verdict.SUSPECT,)}
        self._verdicts = wanted.get(params.crops, (Verdict.SUSPECT, Verdict.FAIL))
        self._limits = CropLimits(
            side_px=params.crop_side_px,
            max_side_px=params.crop_max_side_px,
            max_crops=params.crop_max_count,
            max_bytes=params.crop_max_kb * 1024,
            quality=params.crop_jpeg_quality,
        )
        self.sent = self.not_sent = 0
        if self._verdicts:
            self._crops = node.publisher("suspect_crop")
            self._worker = node.worker("crops", self._cut, self._send)

    def wants(self, outcome: InspectionOutcome, result: InspectionResult) -> bool:
        """Whether the verdict asks for crops of this frame, and it has a part."""
        return outcome.decision.verdict in self._verdicts and bool(result.part_id)

    def offer(self, frame: Frame, outcome: InspectionOutcome, result: InspectionResult) -> None:
        """Send crops of this frame where they are wanted."""
        if not self.wants(outcome, result):
            return
        if self._worker.put(_Cut(frame, outcome, result)):
            self._node.fault("crops superseded", f"by those of frame {result.frame_sequence}")

    def _cut(self, cut: _Cut) -> list[Crop]:
        outcome = cut.outcome
        assert outcome.image is not None and outcome.criteria is not None
        crops = cut_crops(outcome.image, outcome.detections, outcome.criteria.floor, self._limits)
        if not cut.frame.intact():
            raise RuntimeError("the frame was overwritten in its ring before its crops were cut")
        return crops

    def _send(self, done: Done[_Cut, list[Crop]]) -> None:
        if done.result is None:
            self._node.fault("crops", f"{type(done.error).__name__}: {done.error}")
            return
        params, result, outcome = self._node.params, done.item.result, done.item.outcome
        exposed_ns = int(Time.from_msg(result.header.stamp).nanoseconds)
        assert outcome.criteria is not None
        count = announced(outcome.detections, outcome.criteria.floor, params.max_detections)
        self.not_sent += count - len(done.result)
        for index, crop in enumerate(done.result):
            message = suspect_crop(crop, index, count, result, params.pixel_size_mm)
            if params.detail_deadline_s:
                deadline_ns = exposed_ns + int(params.detail_deadline_s * 1e9)
                message.deadline = self._node.stamp(deadline_ns)
            self._crops.publish(message)
            self.sent += 1
