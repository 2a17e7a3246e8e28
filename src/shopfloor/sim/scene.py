"""What the camera sees: a part on the belt, in a frame of any size."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from shopfloor.sim import textures
from shopfloor.sim.parts import RenderedPart, render


@dataclass(frozen=True)
class Picture:
    """A frame and its truth. image: (H, W, 3) uint8 bgr; boxes, classes: as in RenderedPart."""

    image: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    defective: bool


class Scene:
    """Puts parts into frames of `width` x `height`; a square frame is filled by its part."""

    def __init__(self, width: int, height: int) -> None:
        self._width = width
        self._height = height
        self._side = min(width, height)
        self._belt = _belt(width, height) if width != height else None

    def picture(self, kind: str, seed: int, defects: int) -> Picture:
        """Render a part, somewhere along the longer side of the frame."""
        part = render(kind, seed, self._side, defects=defects)
        if self._belt is None:
            return Picture(part.image, part.boxes, part.classes, part.defective)
        return self._on_belt(part, self._belt)

    def _on_belt(self, part: RenderedPart, belt: npt.NDArray[np.uint8]) -> Picture:
        rng = np.random.default_rng([part.seed, 31])
        share = rng.uniform(0.3, 0.7)
        x, y = round((self._width - self._side) * share), round((self._height - self._side) * share)
        image = belt.copy()
        image[y : y + self._side, x : x + self._side] = part.image
        boxes = part.boxes + np.array([x, y, x, y], np.float32)
        return Picture(image, boxes, part.classes, part.defective)


def _belt(width: int, height: int) -> npt.NDArray[np.uint8]:
    """Dark woven rubber."""
    rng = np.random.default_rng(5)
    side = max(width, height)
    grey = (
        46 + 3.0 * textures.noise(rng, side, 0.8, 0.8) + 2.0 * textures.noise(rng, side, 3.0, 3.0)
    )
    grey = grey[:height, :width].clip(0, 255).astype(np.uint8)
    return np.asarray(cv2.merge([grey, grey, cv2.subtract(grey, np.full_like(grey, 2))]), np.uint8)
