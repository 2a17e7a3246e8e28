"""The detail tier's look at one crop: many views of it, one answer.

The edge sees a part once. Here the model sees the neighbourhood at several magnifications, mirrored
both ways, and the scores are averaged: what was noise in one view is not there in the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
import numpy.typing as npt

from shopfloor.inspection.crops import places
from shopfloor.inspection.detections import Detections
from shopfloor.inspection.pipeline import Inspector
from shopfloor.inspection.verdict import Criteria, Reason
from shopfloor.ros.timing import StageTimer

Image = npt.NDArray[np.uint8]
Box = npt.NDArray[np.float32]

SAME_IOU = 0.2
"""Boxes of two views that overlap by this much mean the same place: small boxes jitter."""

SAME_SHARE = 0.5
"""So do boxes of which one lies in the other by this share: the edge may box a fragment."""

LOOKS = 4
"""Places of a whole frame that are looked at; where it shows more, it is not cleared."""


class Outcome(Enum):
    """The names are those of DetailResult.OUTCOME_*."""

    DEFECT = "defect"
    NO_DEFECT = "no_defect"
    UNDECIDED = "undecided"
    NOT_EXAMINED = "not_examined"


_WORST = (Outcome.DEFECT, Outcome.UNDECIDED, Outcome.NO_DEFECT)


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


@dataclass(frozen=True, slots=True)
class _Look:
    """One view: what it shows at the target, and what elsewhere; in pixels of the picture."""

    there: Detections
    elsewhere: Detections


class Examiner:
    """Looks at crops with one model; belongs to one thread.

    criteria: DEFECT where the mean score of a class over the views reaches `fail`. NO_DEFECT where
        the mean of the best score of any class stays below `suspect`, and no view shows a box from
        `fail` up elsewhere in the crop. UNDECIDED between.
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
        self._seen: dict[tuple[int, ...], Detections] = {}

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
        self._seen.clear()
        try:
            if target is None:
                return self._examine_whole(image, timer)
            return self._examine_place(image, target, timer)
        except _ModelFault as fault:
            return not_examined(f"no model: {fault}")
        except _Interrupted:
            return not_examined("interrupted: the node was stopped")

    def _examine_whole(self, image: Image, timer: StageTimer) -> Examination:
        """All places that a first look finds suspect, or its best one; the worst answer counts."""
        first = self._look(image, (0, 0), 0)
        timer.lap("views")
        if not len(first):
            return self._answer([_Look(first, first)], timer)
        found = places(first, self.criteria.suspect) or [0]
        worst: Examination | None = None
        for row in found[:LOOKS]:
            seen = self._examine_place(image, first.xyxy[row], timer)
            if worst is None or _WORST.index(seen.outcome) < _WORST.index(worst.outcome):
                worst = seen
            if seen.outcome is Outcome.DEFECT:
                return seen
        assert worst is not None
        if worst.outcome is Outcome.NO_DEFECT and len(found) > LOOKS:
            reason = f"{len(found)} suspect places, of which {LOOKS} were looked at"
            return replace(worst, outcome=Outcome.UNDECIDED, reason=reason)
        return worst

    def _examine_place(self, image: Image, target: Box, timer: StageTimer) -> Examination:
        looks = []
        for zoom in self._zooms:
            view, offset = _view(image, target, zoom)
            for flip in self._flips:
                looks.append(_split(self._look(view, offset, flip), target))
        timer.lap("views")
        return self._answer(looks, timer)

    def _answer(self, looks: list[_Look], timer: StageTimer) -> Examination:
        there = [look.there for look in looks]
        scores = _scores(there, len(self.inspector.package.classes))
        mean = scores.mean(axis=0)
        outcome, reason = self._decide(
            mean, float(scores.max(axis=1).mean()), [look.elsewhere for look in looks]
        )
        box = _mean_box(there, int(mean.argmax()))
        timer.lap("decide")
        return Examination(outcome, reason, box, mean, timer.stages_ms)

    def _look(self, view: Image, offset: tuple[int, int], flip: int) -> Detections:
        """What a mirrored view shows, in pixels of the picture, in which it begins at `offset`.

        Places of one picture share the views that show all of it.
        """
        key = (*offset, *view.shape[:2], flip)
        if key not in self._seen:
            self._seen[key] = _moved(self._infer(view, flip), offset)
        return self._seen[key]

    def _infer(self, image: Image, flip: int) -> Detections:
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

    def _decide(
        self, scores: npt.NDArray[np.float32], any_class: float, elsewhere: list[Detections]
    ) -> tuple[Outcome, str]:
        """scores, any_class: means over the views, of each class and of the best in each view."""
        classes = self.inspector.package.classes
        best = int(scores.argmax())
        score = float(scores[best])
        low, high = self.criteria.suspect, self.criteria.fail
        views = f"in the mean of {len(elsewhere)} views"
        mean = f"{classes[best]} {score:.2f} {views}"
        if score >= high:
            return Outcome.DEFECT, f"{mean}, a defect from {high:.2f}"
        if score >= low:
            return Outcome.UNDECIDED, f"{mean}, between {low:.2f} and {high:.2f}"
        if any_class >= low:
            text = f"some defect {any_class:.2f} {views}, of no one class; none below {low:.2f}"
            return Outcome.UNDECIDED, text
        other = max(elsewhere, key=lambda found: found.top_score)
        if len(other) and other.top_score >= high:
            name = classes[int(other.class_ids[int(other.scores.argmax())])]
            text = f"a defect elsewhere in the crop: {name} {other.top_score:.2f} in one view"
            return Outcome.UNDECIDED, text
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


def _split(found: Detections, target: Box) -> _Look:
    """What lies at the target's place, and what elsewhere."""
    boxes = found.xyxy
    sides = np.minimum(boxes[:, 2:], target[2:]) - np.maximum(boxes[:, :2], target[:2])
    common = np.clip(sides, 0.0, None).prod(axis=1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    whole = float((target[2:] - target[:2]).prod())
    same = common >= SAME_IOU * (area + whole - common)
    same |= common >= SAME_SHARE * np.minimum(area, whole)
    return _Look(found[same], found[~same])


def _scores(seen: list[Detections], classes: int) -> npt.NDArray[np.float32]:
    """Best score (views, classes) at the target; 0 where a view shows none."""
    scores = np.zeros((len(seen), classes), np.float32)
    for row, found in zip(scores, seen, strict=True):
        np.maximum.at(row, found.class_ids, found.scores)
    return scores


def _mean_box(seen: list[Detections], class_id: int) -> Box | None:
    """The mean over the views of the best box of a class, by score; None where none shows one."""
    boxes, weights = [], []
    for found in seen:
        rows = np.flatnonzero(found.class_ids == class_id)
        if len(rows):  # best first
            boxes.append(found.xyxy[rows[0]])
            weights.append(float(found.scores[rows[0]]))
    if not boxes:
        return None
    return np.asarray(np.average(boxes, axis=0, weights=weights), np.float32)
