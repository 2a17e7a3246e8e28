"""What is on a printed circuit board, and how it is rasterised.

All coordinates are in layout units: the board's frame is 640 x 640 units whatever the image size.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

LAYOUT_UNITS = 640.0
SUBPIXEL_BITS = 4

Points = npt.NDArray[np.float64]
Mask = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Trace:
    """A copper track: polyline vertices (N, 2) and width."""

    points: Points
    width: float


@dataclass(frozen=True)
class Pad:
    """A pad or via. `size` is (width, height); round ones use width; `drill` is a diameter or 0."""

    centre: tuple[float, float]
    size: tuple[float, float]
    is_round: bool
    drill: float


@dataclass(frozen=True)
class Plane:
    """A copper area (polygon (N, 2)) and the drilled pads that it holds by thermal spokes."""

    outline: Points
    relieved_pads: tuple[Pad, ...]


@dataclass
class Layout:
    """What is on a board."""

    inset: float
    track_width: float
    traces: list[Trace] = field(default_factory=list)
    pads: list[Pad] = field(default_factory=list)
    planes: list[Plane] = field(default_factory=list)
    legends: list[tuple[tuple[float, float], str]] = field(default_factory=list)


def draw_copper(layout: Layout, size_px: int) -> tuple[Mask, Mask, Mask]:
    """Rasterise: copper, pads and drills as (size_px, size_px) masks of 0 and 255."""
    scale = size_px / LAYOUT_UNITS
    copper = np.zeros((size_px, size_px), np.uint8)
    pads = np.zeros_like(copper)
    drills = np.zeros_like(copper)
    for plane in layout.planes:
        cv2.fillPoly(copper, [to_pixels(plane.outline, scale)], 255, cv2.LINE_8, SUBPIXEL_BITS)
        for pad in plane.relieved_pads:
            _draw_relieved_pad(copper, pad, scale)
            _draw_pad(pads, pad, scale, 255)
    for trace in layout.traces:
        thickness = max(1, round(trace.width * scale))
        cv2.polylines(
            copper,
            [to_pixels(trace.points, scale)],
            False,
            255,
            thickness,
            cv2.LINE_8,
            SUBPIXEL_BITS,
        )
    for pad in layout.pads:
        _draw_pad(copper, pad, scale, 255)
        _draw_pad(pads, pad, scale, 255)
    for pad in [*layout.pads, *(p for plane in layout.planes for p in plane.relieved_pads)]:
        if pad.drill > 0:
            _draw_disc(drills, pad.centre, pad.drill / 2, scale, 255)
    return copper, pads, drills


def to_pixels(points: Points, scale: float) -> npt.NDArray[np.int32]:
    """Layout units to pixels, with SUBPIXEL_BITS binary places as OpenCV's `shift` has them."""
    return np.round(points * (scale * (1 << SUBPIXEL_BITS))).astype(np.int32)


def _draw_disc(
    mask: Mask, centre: tuple[float, float], radius: float, scale: float, value: int
) -> None:
    unit = scale * (1 << SUBPIXEL_BITS)
    where = (round(centre[0] * unit), round(centre[1] * unit))
    cv2.circle(mask, where, round(radius * unit), value, -1, cv2.LINE_8, SUBPIXEL_BITS)


def _draw_pad(mask: Mask, pad: Pad, scale: float, value: int) -> None:
    if pad.is_round:
        _draw_disc(mask, pad.centre, pad.size[0] / 2, scale, value)
        return
    half = np.array(pad.size) / 2
    corner = np.array(pad.centre)
    low, high = np.round((corner - half) * scale), np.round((corner + half) * scale)
    cv2.rectangle(mask, (int(low[0]), int(low[1])), (int(high[0]), int(high[1])), value, -1)


def _draw_relieved_pad(copper: Mask, pad: Pad, scale: float) -> None:
    radius = pad.size[0] / 2
    gap = max(5.0, 0.45 * radius)
    _draw_disc(copper, pad.centre, radius + gap, scale, 0)
    spoke = max(2, round(0.55 * radius * scale))
    x, y = pad.centre
    reach = radius + gap + 1.5
    for ends in (((x - reach, y), (x + reach, y)), ((x, y - reach), (x, y + reach))):
        line = to_pixels(np.array(ends), scale)
        cv2.polylines(copper, [line], False, 255, spoke, cv2.LINE_8, SUBPIXEL_BITS)
    _draw_disc(copper, pad.centre, radius, scale, 255)
