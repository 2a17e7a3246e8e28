"""The detail tier's look at one crop: many views of it, one answer.

The edge sees a part once. Here the model sees the neighbourhood at several magnifications, mirrored
both ways, and the scores are averaged: what was noise in one view is not there in the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from shopfloor.inspection.detections import Detections
from shopfloor.inspection.pipeline import Inspector
from shopfloor.inspection.verdict import Criteria, Reason
from shopfloor.ros.timing import StageTimer

Image = npt.NDArray[np.uint8]
Box = npt.NDArray[np.float32]

SAME_IOU = 0.2
"""Boxes of two views that overlap by this much mean the same place: small boxes jitter."""


class Outcome(Enum):
    """The names are those of DetailResult.OUTCOME_*."""

    DEFECT = "defect"
    NO_DEFECT = "no_defect"
    UNDECIDED = "undecided"
    NOT_EXAMINED = "not_examined"


@dataclass(frozen=True, slots=True, eq=False)
class Examination:
    """The answer. box: the defect, in pixels of the picture, None where no view shows one.

    class_scores: (C,) float32, mean over the views, 0-1. stages_ms: time per stage.
    """

    outcome: Outcome
    reason: str
    box: Box | None
    class_scores: npt.NDArray[np.float32]
    stages_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class Size:
    """longer, shorter side of a defect, millimetres; NaN where the scale is not known."""

    length_mm: float
    width_mm: float


def size_of(width_px: float, height_px: float, pixel_size_mm: float) -> Size:
    """Sides of a box in pixels of the frame; the scale is millimetres a pixel, NaN: not known."""
    if not pixel_size_mm > 0.0:
        return Size(math.nan, math.nan)
    return Size(max(width_px, height_px) * pixel_size_mm, min(width_px, height_px) * pixel_size_mm)


def not_examined(reason: str) -> Examination:
    """Nobody looked, and why."""
    nothing = np.empty(0, np.float32)
    return Examination(Outcome.NOT_EXAMINED, reason, None, nothing, {})


class _ModelFault(Exception):
    """The engine failed, or its output is not a number."""


class _Interrupted(Exception):
    """Somebody waits for the thread to end."""


class Examiner:
    """Looks at crops with one model; belongs to one thread.

    criteria: DEFECT from `fail`, NO_DEFECT below `suspect`, by the mean score over the views.
    zooms: share of the picture's side that a view shows, each 0-1. mirrored: four views of each.
    """

    def __init__(
        self, inspector: Inspector, criteria: Criteria, *, zooms: tuple[float, ...], mirrored: bool
    ) -> None:
        self.inspector = inspector
        self.criteria = criteria
        self._zooms = zooms
        self._flips = range(4) if mirrored else range(1)
        self.interrupted = False
        """Set from any thread: no further view is looked at."""

    @property
    def views(self) -> int:
        """Inferences for one crop."""
        return len(self._zooms) * len(self._flips)

    def examine(self, image: Image, target: Box | None) -> Examination:
        """What is at `target` (corners in pixels of the H x W x 3 image); None: anywhere in it.

        Raises nothing for a failing engine or model, or when it is interrupted: NOT_EXAMINED with
        the reason.
        """
        timer = StageTimer()
        try:
            with timer.stage("views"):
                seen = self._see(image, target)
        except _ModelFault as fault:
            return not_examined(f"no model: {fault}")
        except _Interrupted:
            return not_examined("interrupted: the node was stopped")
        with timer.stage("decide"):
            scores, box = _merge(seen, len(self.inspector.package.classes))
            outcome, reason = self._decide(scores, len(seen))
        return Examination(outcome, reason, box, scores, timer.stages_ms)

    def _see(self, image: Image, target: Box | None) -> list[Detections]:
        """What each view shows at the target, in pixels of the image."""
        if target is None:
            found = self._look(image, 0)
            if not len(found):
                return [found]
            target = found.xyxy[0]
        seen = []
        for zoom in self._zooms:
            view, offset = _view(image, target, zoom)
            for flip in self._flips:
                seen.append(_at(_moved(self._look(view, flip), offset), target))
        return seen

    def _look(self, image: Image, flip: int) -> Detections:
        """Detections in pixels of the image before it was mirrored."""
        if self.interrupted:
            raise _Interrupted
        step_x, step_y = (-1 if flip & 1 else 1), (-1 if flip & 2 else 1)
        outcome = self.inspector.inspect(np.ascontiguousarray(image[::step_y, ::step_x]), "bgr8")
        if outcome.decision.reason in (Reason.ENGINE_FAULT, Reason.OUTPUT_INVALID):
            raise _ModelFault(outcome.decision.text)
        found = outcome.detections
        boxes = found.xyxy.copy()
        height, width = image.shape[:2]
        if flip & 1:
            boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
        if flip & 2:
            boxes[:, [1, 3]] = height - boxes[:, [3, 1]]
        return Detections(boxes, found.scores, found.class_ids)

    def _decide(self, scores: npt.NDArray[np.float32], views: int) -> tuple[Outcome, str]:
        best = int(scores.argmax())
        score = float(scores[best])
        name = self.inspector.package.classes[best]
        low, high = self.criteria.suspect, self.criteria.fail
        mean = f"{name} {score:.2f} in the mean of {max(views, 1)} views"
        if score >= high:
            return Outcome.DEFECT, f"{mean}, a defect from {high:.2f}"
        if score >= low:
            return Outcome.UNDECIDED, f"{mean}, between {low:.2f} and {high:.2f}"
        return Outcome.NO_DEFECT, f"{mean}, none below {low:.2f}"


def _view(image: Image, target: Box, zoom: float) -> tuple[Image, tuple[int, int]]:
    """The part of the image around the target that a zoom shows, and where it begins."""
    height, width = image.shape[:2]
    starts, sizes = [], []
    for centre, box_side, length in (
        ((target[0] + target[2]) / 2, target[2] - target[0], width),
        ((target[1] + target[3]) / 2, target[3] - target[1], height),
    ):
        size = min(length, max(32, round(length * zoom), math.ceil(float(box_side) * 1.5)))
        starts.append(max(0, min(round(float(centre) - size / 2), length - size)))
        sizes.append(size)
    x, y = starts
    return image[y : y + sizes[1], x : x + sizes[0]], (x, y)


def _moved(found: Detections, offset: tuple[int, int]) -> Detections:
    shift = np.array([*offset, *offset], np.float32)
    return Detections(found.xyxy + shift, found.scores, found.class_ids)


def _at(found: Detections, target: Box) -> Detections:
    """Those at the target's place."""
    if not len(found):
        return found
    boxes = found.xyxy
    sides = np.minimum(boxes[:, 2:], target[2:]) - np.maximum(boxes[:, :2], target[:2])
    common = np.clip(sides, 0.0, None).prod(axis=1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    union = area + float((target[2:] - target[:2]).prod()) - common
    return found[common >= SAME_IOU * union]


def _merge(seen: list[Detections], classes: int) -> tuple[npt.NDArray[np.float32], Box | None]:
    """Mean score of each class over the views, and the mean box of the best class by score."""
    scores = np.zeros((max(len(seen), 1), classes), np.float32)
    for row, found in zip(scores, seen, strict=False):
        np.maximum.at(row, found.class_ids, found.scores)
    mean = scores.mean(axis=0)
    best = int(mean.argmax())
    boxes, weights = [], []
    for found in seen:
        rows = np.flatnonzero(found.class_ids == best)
        if len(rows):  # best first
            boxes.append(found.xyxy[rows[0]])
            weights.append(float(found.scores[rows[0]]))
    if not boxes:
        return mean, None
    return mean, np.average(boxes, axis=0, weights=weights).astype(np.float32)
