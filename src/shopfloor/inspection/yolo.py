"""Decoding of YOLO outputs on the host: checks, prefilter, boxes, non-maximum suppression.

Layouts, for C classes and N candidates, boxes as centre and size in pixels of the input:
    yolox   (1, N, 5 + C): box, objectness, class scores, all after the sigmoid. Undecoded, the box
            is still relative to its grid cell: centre = (value + cell) * stride,
            size = exp(value) * stride (https://arxiv.org/abs/2107.08430, `decode_outputs`).
    yolov8  (1, 4 + C, N): box, class scores; there is no objectness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from shopfloor.inspection.detections import Detections

STRIDES = (8, 16, 32)
MAX_CANDIDATES = 300
"""Best candidates that enter non-maximum suppression, which is quadratic in them."""

LAYOUTS = ("yolox", "yolov8")


# OpenCV's own type stubs don't know that it takes arrays.
_nms: Any = cv2.dnn.NMSBoxesBatched


class OutputError(ValueError):
    """The model's output can't be decoded: wrong shape, or values that are no numbers."""


@dataclass(frozen=True, slots=True)
class OutputLayout:
    """How a model writes its detections.

    layout: one of LAYOUTS; decoded: boxes are in input pixels (False only for yolox).
    input_width, input_height: of the network, pixels; classes: how many.
    """

    layout: str
    decoded: bool
    input_width: int
    input_height: int
    classes: int

    @property
    def candidates(self) -> int:
        """N, from the three strides."""
        return sum((self.input_width // s) * (self.input_height // s) for s in STRIDES)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape that the output must have."""
        if self.layout == "yolox":
            return (1, self.candidates, 5 + self.classes)
        return (1, 4 + self.classes, self.candidates)

    def check(self, name: str, shape: tuple[int | str | None, ...]) -> None:
        """Raise OutputError unless `shape` fits; strings and None stand for any length."""
        fits = len(shape) == 3 and all(
            not isinstance(given, int) or given == wanted
            for given, wanted in zip(shape, self.shape, strict=True)
        )
        if not fits:
            raise OutputError(
                f"output tensor '{name}' has shape {list(shape)}; layout {self.layout} with "
                f"{self.classes} classes at {self.input_width} x {self.input_height} has "
                f"{list(self.shape)}"
            )


class YoloDecoder:
    """Turns the raw output into detections in input pixels; not thread-safe.

    layout: what the output looks like.
    score_floor: candidates below are not looked at, 0-1.
    nms_iou: of two boxes of one class that overlap by more, the weaker goes, 0-1.
    max_detections: at most so many are returned, the best.
    """

    def __init__(
        self,
        layout: OutputLayout,
        *,
        score_floor: float,
        nms_iou: float,
        max_detections: int = MAX_CANDIDATES,
    ) -> None:
        self.layout = layout
        self.score_floor = score_floor
        self.nms_iou = nms_iou
        self.max_detections = max_detections
        self._grid = None if layout.decoded else _grid(layout)

    def __call__(self, output: npt.NDArray[np.float32]) -> Detections:
        """Detections in input pixels, highest score first.

        Raises OutputError on another shape than announced and on NaN or infinity.
        """
        self._check(output)
        if self.layout.layout == "yolox":
            candidates, boxes, scores, class_ids = self._yolox(output[0])
        else:
            candidates, boxes, scores, class_ids = self._yolov8(output[0])
        if not len(candidates):
            return Detections.empty()
        if self._grid is not None:
            boxes = self._decode(boxes, candidates)
        if not np.isfinite(boxes).all():
            raise OutputError("the model's boxes overflow: a size is infinite after exp()")
        return self._suppress(boxes, scores, class_ids)

    def candidates(
        self, output: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """All candidates: corner boxes (N, 4) in input pixels and scores (N, C).

        For comparing engines; `score_floor` does not count. Raises OutputError.
        """
        self._check(output)
        rows = output[0] if self.layout.layout == "yolox" else output[0].T
        boxes, scores = rows[:, :4], rows[:, 4:]
        if self.layout.layout == "yolox":
            scores = scores[:, 1:] * scores[:, :1]
        if self._grid is not None:
            boxes = self._decode(boxes, np.arange(len(boxes)))
        half = boxes[:, 2:] / 2
        return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1), scores

    def _check(self, output: npt.NDArray[np.float32]) -> None:
        self.layout.check("output", output.shape)
        # One sum finds any NaN or infinity, at a fifth of the price of testing each value.
        with np.errstate(all="ignore"):
            total = output.sum()
        if not np.isfinite(total) and (bad := np.count_nonzero(~np.isfinite(output))):
            raise OutputError(f"the model's output has {bad} values that are NaN or infinite")

    def _yolox(self, rows: npt.NDArray[np.float32]) -> _Candidates:
        # Class scores are at most 1, so objectness alone bounds the score.
        kept = np.flatnonzero(rows[:, 4] >= self.score_floor)
        picked = rows[kept]
        class_ids = picked[:, 5:].argmax(axis=1)
        scores = picked[:, 4] * picked[np.arange(len(kept)), 5 + class_ids]
        return self._best(kept, picked[:, :4], scores, class_ids)

    def _yolov8(self, columns: npt.NDArray[np.float32]) -> _Candidates:
        best = columns[4:].max(axis=0)
        kept = np.flatnonzero(best >= self.score_floor)
        class_ids = columns[4:, kept].argmax(axis=0)
        return self._best(kept, columns[:4, kept].T, best[kept], class_ids)

    def _best(
        self,
        kept: npt.NDArray[np.intp],
        boxes: npt.NDArray[np.float32],
        scores: npt.NDArray[np.float32],
        class_ids: npt.NDArray[np.intp],
    ) -> _Candidates:
        """The MAX_CANDIDATES best at or above the floor, best first; ties in the model's order."""
        order = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
        order = order[scores[order] >= self.score_floor]
        return kept[order], boxes[order], scores[order], class_ids[order]

    def _decode(
        self, boxes: npt.NDArray[np.float32], candidates: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.float32]:
        assert self._grid is not None
        cells, strides = self._grid[0][candidates], self._grid[1][candidates]
        with np.errstate(over="ignore"):
            return np.concatenate(
                [(boxes[:, :2] + cells) * strides, np.exp(boxes[:, 2:]) * strides], axis=1
            )

    def _suppress(
        self,
        boxes: npt.NDArray[np.float32],
        scores: npt.NDArray[np.float32],
        class_ids: npt.NDArray[np.intp],
    ) -> Detections:
        xywh = boxes.astype(np.float64)
        xywh[:, :2] -= xywh[:, 2:] / 2
        # OpenCV keeps classes apart by shifting their boxes, which takes coordinates from 0 up.
        shifted = xywh.copy()
        shifted[:, :2] -= min(0.0, xywh[:, :2].min())
        kept: npt.NDArray[np.intp] = np.asarray(
            _nms(shifted, scores, class_ids.astype(np.int32), 0.0, self.nms_iou),
            dtype=np.intp,
        ).reshape(-1)
        kept.sort()  # candidates are sorted by score, so their index is their rank
        kept = kept[: self.max_detections]
        xyxy = xywh[kept]
        xyxy[:, 2:] += xyxy[:, :2]
        return Detections(xyxy.astype(np.float32), scores[kept], class_ids[kept].astype(np.int32))


_Candidates = tuple[
    npt.NDArray[np.intp], npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.intp]
]


def _grid(layout: OutputLayout) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Cell (N, 2) and stride (N, 1) of each candidate, in the order of the output."""
    cells, strides = [], []
    for stride in STRIDES:
        ys, xs = np.mgrid[: layout.input_height // stride, : layout.input_width // stride]
        cells.append(np.stack([xs.ravel(), ys.ravel()], axis=1).astype(np.float32))
        strides.append(np.full((cells[-1].shape[0], 1), stride, dtype=np.float32))
    return np.concatenate(cells), np.concatenate(strides)
