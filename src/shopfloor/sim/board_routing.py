"""Procedural layouts of printed circuit boards: planes, footprints, buses, vias.

A coarse occupancy grid keeps nets apart, so two pieces of copper that touch belong together.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from shopfloor.sim.board_layout import (
    LAYOUT_UNITS,
    SUBPIXEL_BITS,
    Layout,
    Mask,
    Pad,
    Plane,
    Points,
    Trace,
    to_pixels,
)

_GRID = 160  # occupancy cells a side: 4 units each
_CELL = LAYOUT_UNITS / _GRID


def make_layout(rng: np.random.Generator, inset: float) -> Layout:
    """A board whose copper stays `inset` units inside the frame (0: it runs off the image)."""
    return _Builder(rng, inset).build()


class _Builder:
    """Places things one after another where the occupancy grid is still free."""

    def __init__(self, rng: np.random.Generator, inset: float) -> None:
        self._rng = rng
        self._taken = np.zeros((_GRID, _GRID), np.uint8)
        style = rng.choice(3, p=[0.4, 0.4, 0.2])
        low, high = ((4.5, 6.5), (7.0, 11.0), (16.0, 34.0))[style]
        self._coarse = bool(style == 2)
        self._width = float(rng.uniform(low, high))
        self._pitch = self._width * float(rng.uniform(2.3, 3.2)) + 4.0
        self._clearance = max(6.0, 0.8 * self._width)
        self._layout = Layout(inset, self._width)
        if inset > 0:
            self._taken[:] = 1
            edge = int(np.ceil((inset + 6.0) / _CELL))
            self._taken[edge:-edge, edge:-edge] = 0

    def build(self) -> Layout:
        rng = self._rng
        for _ in range(int(rng.integers(1, 3)) if rng.random() < 0.6 or self._coarse else 0):
            self._plane()
        if not self._coarse:
            for _ in range(int(rng.integers(2, 5))):
                (self._chip, self._connector)[int(rng.integers(2))]()
            for _ in range(int(rng.integers(2, 6))):
                self._passive()
        for _ in range(14 if self._coarse else 34):
            self._bus()
        for _ in range(8 if self._coarse else 22):
            self._via()
        return self._layout

    def _claim(self, draw: Callable[[Mask, float], None]) -> bool:
        """Claim the cells that `draw(grid, growth)` covers; False where something is there."""
        wanted = np.zeros_like(self._taken)
        draw(wanted, self._clearance)
        if (wanted & self._taken).any():
            return False
        solid = np.zeros_like(self._taken)
        draw(solid, 2.0)
        self._taken |= solid
        return True

    def _claim_rectangle(self, x: float, y: float, width: float, height: float) -> bool:
        def draw(grid: Mask, growth: float) -> None:
            low = (int((x - growth) // _CELL), int((y - growth) // _CELL))
            high = (int((x + width + growth) // _CELL), int((y + height + growth) // _CELL))
            cv2.rectangle(grid, low, high, 1, -1)

        return self._claim(draw)

    def _claim_lines(self, lines: list[Points], width: float) -> bool:
        def draw(grid: Mask, growth: float) -> None:
            thickness = max(1, int(np.ceil((width + 2 * growth) / _CELL)))
            for line in lines:
                cv2.polylines(
                    grid,
                    [to_pixels(line, 1 / _CELL)],
                    False,
                    1,
                    thickness,
                    cv2.LINE_8,
                    SUBPIXEL_BITS,
                )

        return self._claim(draw)

    def _anywhere(self, margin: float) -> tuple[float, float]:
        x, y = self._rng.uniform(margin, LAYOUT_UNITS - margin, 2)
        return float(x), float(y)

    def _plane(self) -> None:
        rng = self._rng
        width, height = rng.uniform(110, 300, 2)
        inset = self._layout.inset + 8.0 if self._layout.inset else -20.0
        x = float(rng.choice([inset, LAYOUT_UNITS - inset - width, rng.uniform(120, 300)]))
        y = float(rng.choice([inset, LAYOUT_UNITS - inset - height, rng.uniform(120, 300)]))
        if not self._claim_rectangle(x, y, width, height):
            return
        cut = np.minimum(rng.uniform(0, 70, 4), 0.42 * min(width, height))
        outline = np.array(
            [
                (x + cut[0], y),
                (x + width - cut[1], y),
                (x + width, y + cut[1]),
                (x + width, y + height - cut[2]),
                (x + width - cut[2], y + height),
                (x + cut[3], y + height),
                (x, y + height - cut[3]),
                (x, y + cut[0]),
            ]
        )
        pads: list[Pad] = []
        step = float(rng.uniform(55, 90))
        for px in np.arange(x + 75, x + width - 60, step):
            for py in np.arange(y + 75, y + height - 60, step):
                if rng.random() < 0.4:
                    diameter = float(rng.uniform(20, 30))
                    pads.append(Pad((float(px), float(py)), (diameter,) * 2, True, diameter * 0.5))
        self._layout.planes.append(Plane(outline, tuple(pads)))

    def _chip(self) -> None:
        """Two rows of rectangular pads, each row fanned out as one bus."""
        rng = self._rng
        pins = int(rng.integers(4, 9))
        pitch, wide, long = self._pitch, self._width * 1.5, self._width * 4.0
        run, across = pins * pitch, float(rng.uniform(60, 110)) + 2 * long
        upright = bool(rng.integers(2))
        width, height = (across, run) if upright else (run, across)
        x, y = self._anywhere(60)
        if x + width > LAYOUT_UNITS - 40 or y + height > LAYOUT_UNITS - 40:
            return
        if not self._claim_rectangle(x, y, width, height):
            return
        middle = np.array([x + width / 2, y + height / 2])
        self._layout.legends.append(((middle[0], middle[1]), f"U{rng.integers(1, 30)}"))
        axis = np.array([1.0, 0.0]) if upright else np.array([0.0, 1.0])
        size = (long, wide) if upright else (wide, long)
        for side in (-1.0, 1.0):
            row = middle + side * axis * (across / 2 - long / 2)
            for pin in range(pins):
                at = row + (pin - (pins - 1) / 2) * pitch * axis[::-1]
                self._layout.pads.append(Pad((float(at[0]), float(at[1])), size, False, 0.0))
            self._fan_out(row, side * axis, pins, pitch, long / 2)

    def _connector(self) -> None:
        """One or two rows of drilled round pads (the first one square), fanned out as buses."""
        rng = self._rng
        rows, pins = int(rng.integers(1, 3)), int(rng.integers(4, 9))
        diameter = float(rng.uniform(18, 30))
        drill = diameter * 0.5
        pitch = max(diameter * float(rng.uniform(1.65, 1.9)), self._pitch)
        upright = bool(rng.integers(2))
        across, run = rows * pitch, pins * pitch
        width, height = (across, run) if upright else (run, across)
        x, y = self._anywhere(50)
        if x + width > LAYOUT_UNITS - 40 or y + height > LAYOUT_UNITS - 40:
            return
        if not self._claim_rectangle(x, y, width, height):
            return
        middle = np.array([x + width / 2, y + height / 2])
        self._layout.legends.append(((middle[0], y - 12), f"J{rng.integers(1, 9)}"))
        axis = np.array([1.0, 0.0]) if upright else np.array([0.0, 1.0])
        for index in range(rows):
            side = 1.0 if index or rng.random() < 0.5 else -1.0
            row = middle + axis * (index - (rows - 1) / 2) * pitch
            for pin in range(pins):
                at = row + (pin - (pins - 1) / 2) * pitch * axis[::-1]
                is_round = bool(index or pin)
                centre = (float(at[0]), float(at[1]))
                self._layout.pads.append(Pad(centre, (diameter,) * 2, is_round, drill))
            if rows == 1 or side == (1.0 if index else -1.0):
                self._fan_out(row, side * axis, pins, pitch, pitch / 2)

    def _passive(self) -> None:
        rng = self._rng
        pad_w, pad_h = self._width * 2.0 + 4, self._width * 2.4 + 5
        gap = pad_w * 0.9
        x, y = self._anywhere(50)
        if not self._claim_rectangle(x, y, 2 * pad_w + gap, pad_h):
            return
        self._layout.legends.append(((x + pad_w + gap / 2, y - 9), f"R{rng.integers(1, 99)}"))
        for side in (0, 1):
            centre = (x + pad_w / 2 + side * (pad_w + gap), y + pad_h / 2)
            self._layout.pads.append(Pad(centre, (pad_w, pad_h), False, 0.0))
            outward = np.array([-1.0 if side == 0 else 1.0, 0.0])
            self._fan_out(np.array(centre), outward, 1, self._pitch, pad_w / 2)

    def _fan_out(self, row: Points, outward: Points, pins: int, pitch: float, reach: float) -> None:
        """Parallel tracks from a row of pads (its middle is `row`) that end in vias.

        The first `reach` units lie in the footprint, which has its own claim on the grid.
        """
        rng = self._rng
        heading = float(np.arctan2(outward[1], outward[0]))
        skip = reach + self._clearance + self._width / 2 + 8.0
        offsets = (np.arange(pins) - (pins - 1) / 2) * pitch
        for length in (170.0, 110.0, 60.0, 25.0):
            lengths = rng.uniform(0.3, 1.0, 3) * length
            lengths[0] = skip + 2 + 0.3 * lengths[0]
            spine = _octilinear(rng, row, heading, lengths)
            lines = [
                _stop_short(_parallel(spine, float(offset)), i, self._width * 2.4)
                for i, offset in enumerate(offsets)
            ]
            beyond = [np.vstack([line[:1] + skip * outward, line[1:]]) for line in lines]
            if not all(self._within(line) for line in lines):
                continue
            if not self._claim_lines(beyond, self._width):
                continue
            for line in lines:
                if rng.random() < 0.92:
                    self._layout.traces.append(Trace(line, self._width))
                    self._end_via(line[-1], self._width * 2.4)
            return

    def _within(self, line: Points) -> bool:
        """Tracks may leave the image only where the board does."""
        edge = self._layout.inset + 8.0 if self._layout.inset else -30.0
        return bool((line > edge).all() and (line < LAYOUT_UNITS - edge).all())

    def _bus(self) -> None:
        """One to six parallel tracks with common 45 degree bends and vias at staggered ends."""
        rng = self._rng
        lanes = int(rng.integers(1, 4 if self._coarse else 7))
        edge = self._layout.inset
        if edge == 0 and rng.random() < 0.45:
            along = float(rng.uniform(60, 580))
            side = int(rng.integers(4))
            start = [(-20.0, along), (along, -20.0), (660.0, along), (along, 660.0)][side]
            heading = side * np.pi / 2
        else:
            start = self._anywhere(edge + 40)
            heading = int(rng.integers(4)) * np.pi / 2
        lengths = rng.uniform(40, 240, int(rng.integers(2, 5)))
        spine = _octilinear(rng, np.array(start), float(heading), lengths)
        width = self._width * (1.0 if lanes > 1 else float(rng.choice([1.0, 1.0, 1.6, 2.5])))
        while not self._try_bus(spine, lanes, width) and lanes > 1:
            lanes //= 2

    def _try_bus(self, spine: Points, lanes: int, width: float) -> bool:
        offsets = (np.arange(lanes) - (lanes - 1) / 2) * (self._pitch + width - self._width)
        lines = [_parallel(spine, float(offset)) for offset in offsets]
        diameter = width * 2.2
        if self._layout.inset:
            lines = [_stop_short(line[::-1], i, diameter) for i, line in enumerate(lines)]
        lines = [_stop_short(line, i, diameter) for i, line in enumerate(lines)]
        if self._layout.inset and not all(self._within(line) for line in lines):
            return False
        if not self._claim_lines(lines, width):
            return False
        for line in lines:
            self._layout.traces.append(Trace(line, width))
            self._end_via(line[-1], diameter)
            if line[0].min() > 0 and line[0].max() < LAYOUT_UNITS:
                self._end_via(line[0], diameter)
        return True

    def _end_via(self, at: Points, diameter: float) -> None:
        diameter = min(diameter, 2 * (self._pitch - self._width / 2 - 3.0))
        drill = diameter * 0.42 if diameter > 13 else 0.0
        self._layout.pads.append(Pad((float(at[0]), float(at[1])), (diameter,) * 2, True, drill))

    def _via(self) -> None:
        diameter = float(self._rng.uniform(14, 40) if self._coarse else self._rng.uniform(12, 24))
        x, y = self._anywhere(self._layout.inset + 20)
        half = diameter / 2
        if self._claim_rectangle(x - half, y - half, diameter, diameter):
            drill = diameter * 0.45 if self._rng.random() < 0.5 else 0.0
            self._layout.pads.append(Pad((x, y), (diameter,) * 2, True, drill))


def _octilinear(
    rng: np.random.Generator, start: Points, heading: float, lengths: npt.NDArray[np.float64]
) -> Points:
    """A polyline that turns by 45 degrees at each vertex, alternating more often than not."""
    points = [start]
    turn = float(rng.choice([-1.0, 1.0])) * np.pi / 4
    for length in lengths:
        points.append(points[-1] + length * np.array([np.cos(heading), np.sin(heading)]))
        heading += turn
        turn = -turn if rng.random() < 0.85 else turn
    return np.array(points)


def _parallel(line: Points, offset: float) -> Points:
    """The polyline at a constant distance beside `line`, mitred at its vertices."""
    along = np.diff(line, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    normals = np.stack([-along[:, 1], along[:, 0]], axis=1)
    before = np.vstack([normals[:1], normals])
    after = np.vstack([normals, normals[-1:]])
    mitre = (before + after) / (1.0 + (before * after).sum(axis=1, keepdims=True))
    return np.asarray(line + offset * mitre)


def _stop_short(line: Points, lane: int, diameter: float) -> Points:
    """Shorten the last leg of odd lanes, so that neighbouring end vias do not touch."""
    if lane % 2 == 0:
        return line
    leg = line[-1] - line[-2]
    length = float(np.linalg.norm(leg))
    shortened = line.copy()
    shortened[-1] = line[-2] + leg * max(0.2, 1.0 - (diameter + 8.0) / length)
    return shortened
