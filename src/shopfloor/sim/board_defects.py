"""Defects of bare boards, drawn into a copper mask as DeepPCB defines them.

open: a track is severed. short: a bridge joins two nets. mousebite: copper missing at an edge,
track still whole. spur: copper sticks out of an edge and touches nothing. copper: a free-standing
island. pinhole: a hole inside copper. Every drawer checks that the defect is what it claims to be
(nets joined, severed or neither) and that enough pixels changed to be seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from shopfloor.sim.board_layout import LAYOUT_UNITS, Layout, Mask
from shopfloor.sim.copper_map import CopperMap, Vector

Box = tuple[float, float, float, float]

BOARD_DEFECTS = ("open", "short", "mousebite", "spur", "copper", "pinhole")

MIN_CHANGED_UNITS = 26.0
"""Smallest area (square layout units; pixels at 640) that a defect changes."""

_MARGIN = 10.0  # DeepPCB's labels leave about this much round a defect
_MIN_BOX = 27.0
_TRIES = 24


@dataclass(frozen=True)
class _Window:
    """A square cut-out of the mask round a candidate defect."""

    x: int
    y: int
    before: Mask

    def local(self, points: Vector) -> npt.NDArray[np.int32]:
        return np.round(points - (self.x, self.y)).astype(np.int32)


class BoardDefects:
    """Draws defects into `copper`, the (S, S) mask of 0 and 255 of a good board, in place.

    Changes under `hidden`, a mask of the same shape, cannot be seen and do not count.
    """

    def __init__(
        self, rng: np.random.Generator, layout: Layout, copper: Mask, hidden: Mask | None = None
    ) -> None:
        self._rng = rng
        self._copper = copper
        self._size = copper.shape[0]
        self._scale = self._size / LAYOUT_UNITS
        self._map = CopperMap(copper)
        self._hidden = hidden
        self._tracks = [t for t in layout.traces if t.width < 45]
        border = max(layout.inset + 6.0, 14.0) * self._scale
        self._low, self._high = border, self._size - 1 - border
        self._taken: list[Box] = []
        self._drawers: dict[str, Callable[[], Box | None]] = {
            "open": self._open,
            "short": self._short,
            "mousebite": self._mousebite,
            "spur": self._spur,
            "copper": self._island,
            "pinhole": self._pinhole,
        }

    def shuffled_kinds(self) -> list[str]:
        """All kinds, each equally likely to come first."""
        return [BOARD_DEFECTS[i] for i in self._rng.permutation(len(BOARD_DEFECTS))]

    def draw(self, kind: str) -> Box | None:
        """Draw one defect; its box (x1, y1, x2, y2) in px, None where the board has no room."""
        for _ in range(_TRIES):
            box = self._drawers[kind]()
            if box is not None:
                self._taken.append(box)
                return box
        return None

    # --- the six kinds -------------------------------------------------------------------------

    def _open(self) -> Box | None:
        if not self._tracks:
            return None
        rng, s = self._rng, self._scale
        track = self._tracks[int(rng.integers(len(self._tracks)))]
        leg = int(rng.integers(len(track.points) - 1))
        a, b = track.points[leg] * s, track.points[leg + 1] * s
        along = (b - a) / max(float(np.linalg.norm(b - a)), 1e-6)
        at = a + rng.uniform(0.15, 0.85) * (b - a)
        window = self._window(at, track.width * s / 2 + 34 * s)
        if window is None:
            return None
        half_gap = rng.uniform(1.8, 7.0) * s
        half_width = (track.width / 2 + 3.0) * s
        slant = rng.uniform(-0.5, 0.5)
        u = np.linspace(-half_width, half_width, 7)
        across = np.array([-along[1], along[0]])
        jag = rng.uniform(-0.35, 0.35, (2, 7)) * half_gap + slant * u
        bow = rng.uniform(-0.5, 0.9) * half_gap * (1 - (u / half_width) ** 2)
        one = at + np.outer(u, across) + np.outer(jag[0] - half_gap - bow, along)
        two = at + np.outer(u, across) + np.outer(jag[1] + half_gap + bow, along)
        cut = np.zeros_like(window.before)
        cv2.fillPoly(cut, [window.local(np.vstack([one, two[::-1]]))], 255)
        if rng.random() < 0.2:  # etch residue: specks that join nothing
            cut[rng.random(cut.shape) < 0.10] = 0
        after = window.before & ~cut
        reach = half_gap * 3.2 + abs(slant) * half_width + 3 * s
        ends = window.local(np.array([at - reach * along, at + reach * along]))
        if not self._joined(window.before, ends) or self._joined(after, ends):
            return None
        if not _is_set(after, ends):
            return None
        return self._accept(window, after)

    def _short(self) -> Box | None:
        rng, s = self._rng, self._scale
        found = self._map.edge_point(rng, self._low, self._high)
        if found is None:
            return None
        at, outward = found
        target = None
        for step in np.arange(5 * s, 60 * s, max(1.0, s)):
            x, y = (int(v) for v in np.round(at + step * outward))
            if not (0 <= x < self._size and 0 <= y < self._size):
                return None
            if self._map.copper[y, x]:
                target = np.array([x, y], dtype=np.float64) + 2 * s * outward
                break
        if target is None:
            return None
        start = at - 2.5 * s * outward
        net = [
            self._map.nets[round(p[1]), round(p[0])]
            for p in (start, target)
            if self._map.contains(p)
        ]
        if len(net) != 2 or 0 in net or net[0] == net[1]:
            return None
        middle = (start + target) / 2
        length = float(np.linalg.norm(target - start))
        window = self._window(middle, length / 2 + 20 * s)
        if window is None:
            return None
        side = np.array([-outward[1], outward[0]])
        t = np.linspace(0, 1, 6)
        wobble = rng.uniform(-0.12, 0.12, 6) * length * np.sin(np.pi * t)
        line = window.local(start + np.outer(t, target - start) + np.outer(wobble, side))
        bridge = np.zeros_like(window.before)
        for i in range(5):
            thick = max(2, round(float(rng.uniform(3.2, 8.5)) * s))
            cv2.line(bridge, line[i].tolist(), line[i + 1].tolist(), 255, thick)
        return self._accept(window, window.before | bridge)

    def _mousebite(self) -> Box | None:
        rng, s = self._rng, self._scale
        found = self._map.edge_point(rng, self._low, self._high)
        if found is None:
            return None
        at, outward = found
        depth = rng.uniform(4.5, 12.0) * s
        room = self._map.room(at, -outward, depth * 2)
        depth = min(depth, 0.62 * room)
        if depth < 2.5 * s:
            return None
        window = self._window(at, 34 * s)
        if window is None:
            return None
        bite = self._blob(
            window, at - outward * depth * 0.35, depth * 0.75, outward, float(rng.uniform(0.7, 1.5))
        )
        after = window.before & ~bite
        if _nets(after) != _nets(window.before) or _nets(~after) != _nets(~window.before):
            return None
        return self._accept(window, after)

    def _spur(self) -> Box | None:
        rng, s = self._rng, self._scale
        found = self._map.edge_point(rng, self._low, self._high)
        if found is None:
            return None
        at, outward = found
        reach = rng.uniform(6.0, 17.0) * s
        reach = min(reach, 0.7 * self._map.room(at, outward, reach * 2))
        if reach < 4 * s:
            return None
        window = self._window(at, 34 * s)
        if window is None:
            return None
        side = np.array([-outward[1], outward[0]])
        tip = at + outward * reach + side * rng.uniform(-0.5, 0.5) * reach
        start = at - 2 * s * outward
        thick = max(2, round(float(rng.uniform(3.0, 7.0)) * s))
        spur = np.zeros_like(window.before)
        ends = window.local(
            np.array([start, (start + tip) / 2 + side * rng.uniform(-2, 2) * s, tip])
        )
        cv2.polylines(spur, [ends], False, 255, thick)
        spur |= self._blob(window, tip, thick * 0.62, outward, 1.2)
        after = window.before | spur
        if _nets(after) != _nets(window.before) or _nets(~after) != _nets(~window.before):
            return None
        return self._accept(window, after)

    def _island(self) -> Box | None:
        return self._inclusion(self._map.outside, fill=True, clearance=4.0)

    def _pinhole(self) -> Box | None:
        return self._inclusion(self._map.inside, fill=False, clearance=2.2)

    def _inclusion(
        self, distance: npt.NDArray[np.float32], fill: bool, clearance: float
    ) -> Box | None:
        """A blob well inside one material: copper on substrate (`fill`) or the other way round."""
        rng, s = self._rng, self._scale
        points = rng.uniform(self._low, self._high, (40, 2))
        room = distance[points[:, 1].astype(int), points[:, 0].astype(int)]
        good = points[room > (3.6 + clearance) * s]
        if not len(good):
            return None
        at = good[0]
        available = float(distance[int(at[1]), int(at[0])]) / s - clearance
        stretch = float(rng.uniform(1.0, 2.0))
        radius = min(float(rng.uniform(3.6, 9.5)), available / (1.15 * np.sqrt(stretch))) * s
        window = self._window(at, 30 * s)
        if window is None:
            return None
        angle = rng.uniform(0, 2 * np.pi)
        blob = self._blob(window, at, radius, np.array([np.cos(angle), np.sin(angle)]), stretch)
        return self._accept(window, window.before | blob if fill else window.before & ~blob)

    # --- helpers -------------------------------------------------------------------------------

    def _window(self, at: Vector, half: float) -> _Window | None:
        x, y = round(float(at[0])), round(float(at[1]))
        if not (self._low <= x <= self._high and self._low <= y <= self._high):
            return None
        reach = round(half)
        left, top = max(0, x - reach), max(0, y - reach)
        return _Window(left, top, self._copper[top : y + reach + 1, left : x + reach + 1])

    def _blob(
        self, window: _Window, at: Vector, radius: float, axis: Vector, stretch: float
    ) -> Mask:
        """An irregular filled polygon, `stretch` times longer along `axis` at the same area."""
        rng = self._rng
        angles = np.linspace(0, 2 * np.pi, 12)[:-1]
        radii = radius * rng.uniform(0.75, 1.15, angles.size)
        root = np.sqrt(stretch)
        side = np.array([-axis[1], axis[0]])
        ring = at + np.outer(radii * np.cos(angles) * root, axis)
        ring = ring + np.outer(radii * np.sin(angles) / root, side)
        return np.asarray(
            cv2.fillPoly(np.zeros_like(window.before), [window.local(ring)], 255), np.uint8
        )

    @staticmethod
    def _joined(mask: Mask, ends: npt.NDArray[np.int32]) -> bool:
        if not _is_set(mask, ends):
            return False
        _, labels = cv2.connectedComponents(mask, connectivity=8)
        (x1, y1), (x2, y2) = ends
        return bool(labels[y1, x1] == labels[y2, x2])

    def _accept(self, window: _Window, after: Mask) -> Box | None:
        """Put the change into the board unless it is too small or too close to another one."""
        changed = after != window.before
        if self._hidden is not None:
            height, width = changed.shape
            top, left = window.y, window.x
            changed &= self._hidden[top : top + height, left : left + width] == 0
        rows, columns = np.nonzero(changed)
        if len(rows) < MIN_CHANGED_UNITS * self._scale**2:
            return None
        margin = _MARGIN * self._scale
        x1, x2 = window.x + columns.min() - margin, window.x + columns.max() + 1 + margin
        y1, y2 = window.y + rows.min() - margin, window.y + rows.max() + 1 + margin
        grow_x = max(0.0, _MIN_BOX * self._scale - (x2 - x1)) / 2
        grow_y = max(0.0, _MIN_BOX * self._scale - (y2 - y1)) / 2
        size = float(self._size)
        box = (
            float(max(0.0, x1 - grow_x)),
            float(max(0.0, y1 - grow_y)),
            float(min(size, x2 + grow_x)),
            float(min(size, y2 + grow_y)),
        )
        for other in self._taken:
            apart = box[2] < other[0] or other[2] < box[0] or box[3] < other[1] or other[3] < box[1]
            if not apart:
                return None
        window.before[:] = after
        return box


def _is_set(mask: Mask, points: npt.NDArray[np.int32]) -> bool:
    height, width = mask.shape
    return all(0 <= x < width and 0 <= y < height and mask[y, x] > 0 for x, y in points)


def _nets(mask: Mask) -> int:
    return int(cv2.connectedComponents(mask, connectivity=8)[0])
