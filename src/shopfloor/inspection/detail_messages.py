"""Crops and answers between the two tiers, as messages."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from shopfloor_msgs.msg import DetailResult, Detection, InspectionResult, SuspectCrop

from shopfloor.inspection import messages
from shopfloor.inspection.crops import Crop
from shopfloor.inspection.detail import Examination, size_of

_MAX_CROPS = 64
_MAX_CLASSES = 32


def suspect_crop(
    crop: Crop, index: int, count: int, result: InspectionResult, pixel_size_mm: float
) -> SuspectCrop:
    """A crop of the frame that `result` is about, but for its deadline."""
    message = SuspectCrop(
        header=result.header,
        part_id=result.part_id,
        station=result.station,
        frame_sequence=result.frame_sequence,
        crop_index=index,
        crop_count=count,
        crop_x_px=crop.x,
        crop_y_px=crop.y,
        crop_width_px=crop.width,
        crop_height_px=crop.height,
        margin_px=crop.margin_px,
        pixel_size_mm=pixel_size_mm or math.nan,
        provenance=result.provenance,
    )
    if crop.detection is not None:
        message.detection = result.detections[crop.detection]
    message.image.header = result.header
    message.image.format = "bgr8; jpeg compressed bgr8"
    message.image.data.frombytes(crop.jpeg)
    return message


class CropError(ValueError):
    """A crop that cannot be examined; the message says what is wrong with it."""


@dataclass(frozen=True)
class Place:
    """Where the JPEG of a crop lies in its frame: frame pixel = origin + JPEG pixel * scale."""

    x: float
    y: float
    scale_x: float
    scale_y: float

    def into_crop(self, detection: Detection) -> npt.NDArray[np.float32] | None:
        """The edge's box, corners in pixels of the JPEG; None where it saw none."""
        if not (detection.width_px > 0.0 and detection.height_px > 0.0):
            return None
        left, top = detection.x_px - self.x, detection.y_px - self.y
        box = [left, top, left + detection.width_px, top + detection.height_px]
        scale = [self.scale_x, self.scale_y] * 2
        return np.array(np.array(box) / np.array(scale), np.float32)

    def into_frame(self, box: npt.NDArray[np.float32]) -> tuple[float, float, float, float]:
        """left, top, width, height in pixels of the frame."""
        left, top, right, bottom = (float(v) for v in box)
        return (
            self.x + left * self.scale_x,
            self.y + top * self.scale_y,
            (right - left) * self.scale_x,
            (bottom - top) * self.scale_y,
        )


def place(crop: SuspectCrop, width: int, height: int) -> Place:
    """The place of a crop whose JPEG is `width` x `height`. Raises CropError."""
    if not 0 < crop.crop_count <= _MAX_CROPS or crop.crop_index >= crop.crop_count:
        raise CropError(f"crop {crop.crop_index} of {crop.crop_count}; allowed: 0 up to its count")
    if not crop.crop_width_px or not crop.crop_height_px:
        raise CropError(f"the crop covers {crop.crop_width_px} x {crop.crop_height_px} pixels")
    made = Place(
        crop.crop_x_px, crop.crop_y_px, crop.crop_width_px / width, crop.crop_height_px / height
    )
    box = made.into_crop(crop.detection)
    if box is not None and not (
        np.isfinite(box).all() and (box[:2] < (width, height)).all() and (box[2:] > 0.0).all()
    ):
        raise CropError("the edge's box does not lie in the crop")
    return made


def detail_result(
    crop: SuspectCrop,
    examined: Examination,
    where: Place | None,
    classes: tuple[str, ...],
) -> DetailResult:
    """The answer to a crop, but for age and provenance."""
    message = DetailResult(
        header=crop.header,
        part_id=crop.part_id,
        station=crop.station,
        frame_sequence=crop.frame_sequence,
        crop_index=crop.crop_index,
        crop_count=crop.crop_count,
        outcome=getattr(DetailResult, f"OUTCOME_{examined.outcome.name}"),
        reason=messages.bounded(examined.reason),
        length_mm=math.nan,
        width_mm=math.nan,
        area_px=math.nan,
    )
    scores = examined.class_scores
    if len(scores):
        best = np.argsort(-scores, kind="stable")[:_MAX_CLASSES].tolist()
        message.class_names = [classes[i] for i in best]
        message.class_scores.extend(float(scores[i]) for i in best)
    if examined.box is not None and where is not None:
        left, top, width, height = where.into_frame(examined.box)
        class_id = int(scores.argmax())
        message.detection = Detection(
            class_id=class_id, class_name=classes[class_id], score=float(scores[class_id]),
            x_px=left, y_px=top, width_px=width, height_px=height,
        )  # fmt: skip
        size = size_of(width, height, crop.pixel_size_mm)
        message.length_mm, message.width_mm = size.length_mm, size.width_mm
    return message
