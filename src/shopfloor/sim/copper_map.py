"""Where the copper of a good board is: nets, distances to edges, edges and their normals."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from shopfloor.sim.board_layout import LAYOUT_UNITS, Mask

Vector = npt.NDArray[np.float64]
Field = npt.NDArray[np.float32]


class CopperMap:
    """Reads `copper`, an (S, S) mask of 0 and 255; points are (x, y) in pixels.

    nets: (S, S) int32, a number per connected piece of copper, 0 on substrate.
    inside, outside: (S, S) distance in px to the nearest substrate, to the nearest copper.
    """

    def __init__(self, copper: Mask) -> None:
        self.copper = copper.copy()
        self.size = copper.shape[0]
        self.scale = self.size / LAYOUT_UNITS
        self.nets = np.asarray(cv2.connectedComponents(self.copper, connectivity=8)[1], np.int32)
        self.inside = _distance(self.copper)
        self.outside = _distance(np.bitwise_not(self.copper))

    def contains(self, point: Vector) -> bool:
        """Whether a point (x, y) lies in the image."""
        return bool(((point >= 0) & (point <= self.size - 1)).all())

    def edge_point(
        self, rng: np.random.Generator, low: float, high: float
    ) -> tuple[Vector, Vector] | None:
        """A random point (x, y) on an edge of copper and the unit normal that points out of it.

        It lies between `low` and `high` in x and y; None where no edge was hit.
        """
        points = rng.uniform(low, high, (160, 2))
        columns, rows = points.astype(int).T
        near = np.maximum(self.inside[rows, columns], self.outside[rows, columns])
        candidates = points[near < 2.2 * self.scale]
        if not len(candidates):
            candidates = points[near < 12 * self.scale]
        if not len(candidates):
            return None
        x, y = (int(v) for v in candidates[0])
        reach = max(4, round(16 * self.scale))
        r0, c0 = max(0, y - reach), max(0, x - reach)
        field = (
            self.outside[r0 : y + reach + 1, c0 : x + reach + 1]
            - self.inside[r0 : y + reach + 1, c0 : x + reach + 1]
        )
        rows_on, columns_on = np.nonzero(np.abs(field) <= 1.01)
        if not len(rows_on):
            return None
        nearest = int(np.argmin((rows_on + r0 - y) ** 2 + (columns_on + c0 - x) ** 2))
        row, column = int(rows_on[nearest]), int(columns_on[nearest])
        if not (2 < row < field.shape[0] - 3 and 2 < column < field.shape[1] - 3):
            return None
        patch = field[row - 2 : row + 3, column - 2 : column + 3]
        normal = np.array([(patch[:, 3:] - patch[:, :2]).sum(), (patch[3:] - patch[:2]).sum()])
        length = float(np.linalg.norm(normal))
        if length < 1e-3:
            return None
        return np.array([column + c0, row + r0], dtype=np.float64), normal / length

    def room(self, at: Vector, direction: Vector, limit: float) -> float:
        """How far one can go from an edge before the material changes again (at most `limit`)."""
        start = at + 1.6 * direction
        if not self.contains(start):
            return 0.0
        material = self.copper[int(start[1]), int(start[0])]
        for step in np.arange(2.0, limit, 1.0):
            x, y = (int(v) for v in np.round(at + step * direction))
            if not (0 <= x < self.size and 0 <= y < self.size):
                return float(step)
            if self.copper[y, x] != material:
                return float(step)
        return float(limit)


def _distance(mask: Mask) -> Field:
    return np.asarray(cv2.distanceTransform(mask, cv2.DIST_L2, 3), np.float32)
