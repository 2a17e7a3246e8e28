"""Crops for the detail tier: the neighbourhood of each suspect box, as JPEG of a bounded size."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from shopfloor.inspection.detections import Detections
from shopfloor.inspection.metrics import iou_matrix
from shopfloor.ros.images import encode_jpeg

Image = npt.NDArray[np.uint8]

BOX_SHARE = 1.5
"""A box that is large for the crop still has a quarter of its own size around it."""

MAX_PLACES = 64
"""A message can announce so many; a frame sends fewer, so that one of more is never cleared."""

SAME_IOU = 0.5
"""Boxes of one frame, of different classes, that overlap by this much are one place."""

_QUALITY_STEP, _QUALITY_MIN = 15, 40


@dataclass(frozen=True, slots=True)
class CropLimits:
    """side_px: of the square around a box. max_crops: a frame sends at most so many, the best;
    below MAX_PLACES.

    max_side_px: a larger picture is scaled down. max_bytes: a larger JPEG is made again with less
    quality, then smaller. quality: of the first try, 1-100.
    """

    side_px: int = 640
    max_side_px: int = 1280
    max_crops: int = 4
    max_bytes: int = 262_144
    quality: int = 92


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """x, y, width, height: in pixels of the frame. detection: its row in the detections, or None.

    margin_px: what is asked for around the box. The JPEG may be smaller than the region it shows.
    """

    x: int
    y: int
    width: int
    height: int
    margin_px: float
    detection: int | None
    jpeg: bytes


def places(found: Detections, floor: float) -> list[int]:
    """Rows of the detections that each show another place, from `floor` up, best first."""
    rows = np.flatnonzero(found.scores >= floor)
    overlaps = iou_matrix(found.xyxy[rows], found.xyxy[rows])
    kept: list[int] = []
    for index in range(len(rows)):
        # Suppression is by class: one spot may come as several.
        if not (overlaps[index, kept] >= SAME_IOU).any():
            kept.append(index)
    return [int(rows[index]) for index in kept]


def announced(found: Detections, floor: float, max_detections: int) -> int:
    """How many crops of a frame have to be answered before it is cleared, 1 to MAX_PLACES.

    All of its places, also those that are not sent, and one more where `max_detections` may have
    cut some off: a place that nobody looks at keeps its part from passing.
    """
    cut_off = int((found.scores >= floor).sum()) >= max_detections
    return min(max(len(places(found, floor)) + cut_off, 1), MAX_PLACES)


def cut_crops(image: Image, found: Detections, floor: float, limits: CropLimits) -> list[Crop]:
    """A crop for each place from `floor` up, best first; the whole image where there is none.

    image: H x W (grey) or H x W x 3 (BGR) uint8. Raises ImageError where JPEG fails.
    """
    height, width = image.shape[:2]
    rows = places(found, floor)[: limits.max_crops]
    if not rows:
        return [Crop(0, 0, width, height, 0.0, None, _jpeg(image, limits))]
    crops = []
    for row in rows:
        box = found.xyxy[row]
        longer = float(max(box[2] - box[0], box[3] - box[1]))
        side = max(limits.side_px, round(longer * BOX_SHARE))
        x, crop_width = _window((box[0] + box[2]) / 2, side, width)
        y, crop_height = _window((box[1] + box[3]) / 2, side, height)
        region = image[y : y + crop_height, x : x + crop_width]
        margin = (side - longer) / 2
        crops.append(Crop(x, y, crop_width, crop_height, margin, row, _jpeg(region, limits)))
    return crops


def _window(centre: float, side: int, length: int) -> tuple[int, int]:
    """Start and length of `side` pixels around `centre`, moved so that they lie inside."""
    side = min(side, length)
    return max(0, min(round(float(centre) - side / 2), length - side)), side


def _jpeg(region: Image, limits: CropLimits) -> bytes:
    longer = max(region.shape[:2])
    scale = min(1.0, limits.max_side_px / longer)
    quality = limits.quality
    while True:
        picture = region
        if scale < 1.0:
            size = (max(1, round(region.shape[1] * scale)), max(1, round(region.shape[0] * scale)))
            picture = np.asarray(cv2.resize(region, size, interpolation=cv2.INTER_AREA), np.uint8)
        data = encode_jpeg(np.ascontiguousarray(picture), quality)
        if len(data) <= limits.max_bytes or max(picture.shape[:2]) <= 32:
            return data
        if quality > _QUALITY_MIN:
            quality = max(_QUALITY_MIN, quality - _QUALITY_STEP)
        else:
            scale *= 0.7
