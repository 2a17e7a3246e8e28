"""Where the model sees a defect: objectness times class score of every candidate, as heat.

A detector's own scores point at the defect; gradients pooled over the map, as in Grad-CAM, do not,
because one small cell among thousands decides.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from shopfloor.inspection.letterbox import Geometry
from shopfloor.inspection.yolo import STRIDES, OutputLayout

Image = npt.NDArray[np.uint8]
Map = npt.NDArray[np.float32]

HEAT_SHARE = 0.75
"""How much of a pixel is heat where the score is 1."""

COLD = 0.01
"""A lower score is not shown."""


def score_map(output: npt.NDArray[np.float32], layout: OutputLayout) -> Map:
    """The best class score of each cell of the finest grid, (H / 8, W / 8) float32, 0-1.

    output: the model's raw output, see `yolo`. Coarser grids are spread over the cells they cover.
    """
    if layout.layout == "yolox":
        rows = output[0]
        # Class scores are at most 1: without objectness there is nothing to multiply.
        kept = np.flatnonzero(rows[:, 4] >= COLD)
        scores = np.zeros(len(rows), np.float32)
        scores[kept] = rows[kept, 5:].max(axis=1) * rows[kept, 4]
    else:
        scores = output[0, 4:].max(axis=0)
    finest = STRIDES[0]
    heat: Map = np.zeros((layout.input_height // finest, layout.input_width // finest), np.float32)
    start = 0
    for stride in STRIDES:
        height, width = layout.input_height // stride, layout.input_width // stride
        grid = scores[start : start + height * width].reshape(height, width)
        start += height * width
        spread = stride // finest
        cells = heat.reshape(height, spread, width, spread)
        np.maximum(cells, grid[:, np.newaxis, :, np.newaxis], out=cells)
    return heat


def peak(heat: Map, geometry: Geometry) -> tuple[float, float]:
    """x and y, in pixels of the image, of the hottest place: the middle of its connected cells."""
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    top = heat == heat[row, column]
    # A coarse candidate spreads over several cells of the same value: take their middle.
    _, labels = cv2.connectedComponents(top.astype(np.uint8))
    rows, columns = np.nonzero(labels == labels[row, column])
    scale = STRIDES[0] / geometry.scale
    return float(columns.mean() + 0.5) * scale, float(rows.mean() + 0.5) * scale


def overlay(image: Image, heat: Map, geometry: Geometry) -> Image:
    """The image with the heat over it, BGR, as large as the image; cold places show it as it is.

    image: H x W (grey) or H x W x 3 (BGR) uint8, not changed.
    """
    height, width = image.shape[:2]
    columns = max(1, round(geometry.width / STRIDES[0]))
    rows = max(1, round(geometry.height / STRIDES[0]))
    covered = np.ascontiguousarray(heat[:rows, :columns])
    warm = np.asarray(cv2.resize(covered, (width, height), interpolation=cv2.INTER_LINEAR))
    mixed = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image.copy()
    where = warm >= COLD  # a few hundred pixels: blending all of them takes ten times as long
    values = warm[where]
    colours = cv2.applyColorMap((values * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[:, 0]
    # The square root lifts what is warm but not hot, so that a weak second place shows too.
    share = HEAT_SHARE * np.sqrt(values)[:, np.newaxis]
    mixed[where] = (mixed[where] * (1.0 - share) + colours * share).astype(np.uint8)
    return np.asarray(mixed, np.uint8)
