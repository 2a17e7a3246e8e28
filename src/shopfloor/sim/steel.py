"""Hot-rolled and brushed steel strip under a line light, with scratches, inclusions and patches.

Harmless things are drawn without boxes: oil sheen (wide and smooth), rolling lines (full length,
faint), dust, bands of light. A defect is kept only where it stands out of its surroundings.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from shopfloor.sim import textures
from shopfloor.sim.textures import Field, Image

Box = tuple[float, float, float, float]

STEEL_DEFECTS = ("scratch", "inclusion", "patch")

MIN_CONTRAST_GREY = 10.0
"""A pixel counts as changed where a defect moves it by this many grey levels or more."""

MIN_CHANGED_PX = 40
"""Smallest number of changed pixels of a defect, at 640 px."""

_MIN_CONTRAST_TO_NOISE = 2.5
_UNITS = 640.0
_MARGIN = 4.0
_TRIES = 12


def render_steel(seed: int, size_px: int, defects: int) -> tuple[Image, list[Box], list[str]]:
    """Draw a piece of strip: image (size_px, size_px, 3) uint8 bgr, boxes (px), defect names.

    The surface depends on the seed alone, so `defects=0` gives its good twin.
    """
    look_rng = np.random.default_rng([seed, 21])
    defect_rng = np.random.default_rng([seed, 22])
    surface = _surface(look_rng, size_px)
    boxes, names = _Marks(defect_rng, surface, size_px).add(defects) if defects else ([], [])
    grain = textures.noise(look_rng, size_px, 0.5, 0.5) * float(look_rng.uniform(1.5, 4.0))
    grey = np.asarray(cv2.add(surface, grain, dtype=cv2.CV_8U), np.uint8)
    tint = look_rng.uniform(-0.03, 0.03)
    channels = [cv2.convertScaleAbs(grey, alpha=a) for a in (1.0 + tint, 1.0, 1.0 - tint)]
    return np.asarray(cv2.merge(channels), np.uint8), boxes, names


def _surface(rng: np.random.Generator, size_px: int) -> Field:
    """The clean surface as float32 grey levels; the rolling direction is vertical."""
    base = float(rng.uniform(85, 180))
    image = np.full((size_px, size_px), base, np.float32)
    image += float(rng.uniform(2.0, 7.0)) * textures.noise(rng, size_px, 0.6, 24.0)
    image += float(rng.uniform(1.0, 5.0)) * textures.noise(rng, size_px, 1.0, 1.0)
    image += float(rng.uniform(1.0, 5.0)) * textures.noise(rng, size_px, 9.0, 60.0)
    image += base * float(rng.uniform(0.03, 0.16)) * textures.gradient(rng, size_px)
    image += float(rng.uniform(1, 6)) * textures.clouds(rng, size_px, 5)
    if rng.random() < 0.5:
        _roll_lines(rng, image)
    if rng.random() < 0.45:
        _oil_sheen(rng, image)
    if rng.random() < 0.5:
        _dust(rng, image)
    return image


def _roll_lines(rng: np.random.Generator, image: Field) -> None:
    profile = np.zeros(image.shape[1], np.float32)
    for _ in range(int(rng.integers(2, 9))):
        column = int(rng.integers(image.shape[1]))
        profile[column : column + int(rng.integers(1, 4))] += float(rng.uniform(-6.5, 6.5))
    image += profile[None, :]


def _oil_sheen(rng: np.random.Generator, image: Field) -> None:
    """A film of oil: a wide soft blob with faint interference rings."""
    size_px = image.shape[0]
    small = 80
    y, x = np.mgrid[0:small, 0:small].astype(np.float32) / small
    cx, cy = rng.uniform(0.1, 0.9, 2)
    rx, ry = rng.uniform(0.15, 0.4, 2)
    warp = 0.25 * textures.clouds(rng, small, 4)
    radius = np.sqrt(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2) + warp
    film = np.exp(-(radius**2)) * (1.0 + 0.35 * np.cos(radius * 9.0))
    strength = float(rng.uniform(5, 11)) * float(rng.choice([-1.0, 1.0]))
    image += strength * cv2.resize(film.astype(np.float32), (size_px, size_px))


def _dust(rng: np.random.Generator, image: Field) -> None:
    size_px = image.shape[0]
    for _ in range(int(rng.integers(2, 12))):
        x, y = (int(v) for v in rng.integers(0, size_px - 2, 2))
        image[y : y + 2, x : x + int(rng.integers(1, 3))] += float(rng.uniform(-22, 18))


class _Marks:
    """Draws defects into `surface` in place and keeps their boxes apart."""

    def __init__(self, rng: np.random.Generator, surface: Field, size_px: int) -> None:
        self._rng = rng
        self._surface = surface
        self._size = size_px
        self._scale = size_px / _UNITS
        self._taken: list[Box] = []

    def add(self, count: int) -> tuple[list[Box], list[str]]:
        drawers: dict[str, Callable[[], Field]] = {
            "scratch": self._scratch,
            "inclusion": self._inclusion,
            "patch": self._patch,
        }
        names: list[str] = []
        for _ in range(count):
            for kind in self._rng.permutation(len(STEEL_DEFECTS)):
                name = STEEL_DEFECTS[kind]
                if any(self._keep(drawers[name]()) for _ in range(_TRIES)):
                    names.append(name)
                    break
        return self._taken, names

    def _keep(self, change: Field) -> bool:
        """Add a layer of grey-level changes unless it is too faint or meets another defect."""
        limits = cv2.boundingRect((np.abs(change) >= MIN_CONTRAST_GREY).astype(np.uint8))
        x, y, width, height = (int(v) for v in limits)
        if width < 4 * self._scale or height < 4 * self._scale:
            return False
        part = np.s_[y : y + height, x : x + width]
        strong = np.abs(change[part]) >= MIN_CONTRAST_GREY
        room = np.where(change[part] > 0, 250.0 - self._surface[part], self._surface[part] - 5.0)
        visible = strong & (room >= MIN_CONTRAST_GREY)
        if visible.sum() < MIN_CHANGED_PX * self._scale**2 or visible.sum() < 0.8 * strong.sum():
            return False
        texture = float(np.std(np.diff(self._surface[part], axis=1))) / np.sqrt(2.0)
        if np.abs(change[part][strong]).mean() < _MIN_CONTRAST_TO_NOISE * np.hypot(texture, 3.0):
            return False
        margin, size = _MARGIN * self._scale, float(self._size)
        box = (
            max(0.0, x - margin),
            max(0.0, y - margin),
            min(size, x + width + margin),
            min(size, y + height + margin),
        )
        for other in self._taken:
            apart = box[2] < other[0] or other[2] < box[0] or box[3] < other[1] or other[3] < box[1]
            if not apart:
                return False
        self._surface += change
        self._taken.append(box)
        return True

    def _layer(self) -> Image:
        return np.zeros((self._size, self._size), np.uint8)

    def _scratch(self) -> Field:
        """Bright gouges near the rolling direction, single or a few in parallel."""
        rng, s = self._rng, self._scale
        layer = self._layer()
        length = float(rng.choice([rng.uniform(50, 160), rng.uniform(120, 460)])) * s
        angle = float(rng.normal(np.pi / 2, 0.22))
        along = np.array([np.cos(angle), np.sin(angle)])
        side = np.array([-along[1], along[0]])
        start = rng.uniform(0.05, 0.95, 2) * self._size - along * length / 2
        bow = float(rng.uniform(-0.05, 0.05)) * length
        for strand in range(int(rng.choice([1, 1, 1, 2, 3]))):
            first, last = rng.uniform(-0.02, 0.12, 2).tolist()
            t = np.linspace(first, last + 0.88, 14)
            offset = strand * rng.uniform(4, 9) * s + bow * np.sin(np.pi * t)
            offset = offset + rng.normal(0, 0.5 * s, t.size)
            line = start + np.outer(t * length, along) + np.outer(offset, side)
            thickness = max(1, round(float(rng.choice([1, 1, 2, 3, 4])) * s))
            for i in range(t.size - 1):
                weight = int(255 * np.clip(rng.normal(0.85, 0.2), 0.35, 1.0))
                ends = np.round(line[i : i + 2] * 16).astype(int).tolist()
                cv2.line(layer, ends[0], ends[1], weight, thickness, cv2.LINE_AA, 4)
        soft = cv2.GaussianBlur(layer, (0, 0), max(0.4, float(rng.uniform(0.4, 0.9)) * s))
        strength = float(rng.uniform(30, 95))
        if rng.random() < 0.15:  # a scratch filled with scale is dark
            strength = -strength * 0.6
        return np.asarray(soft, np.float32) * np.float32(strength / 255.0)

    def _inclusion(self) -> Field:
        """Dark lenses of slag drawn out along the rolling direction, alone or in a string."""
        rng, s = self._rng, self._scale
        layer = self._layer()
        x, y = rng.uniform(0.06, 0.94, 2) * self._size
        for _ in range(int(rng.choice([1, 1, 2, 3, 4]))):
            half_length = float(rng.uniform(7, 38)) * s
            half_width = float(np.clip(half_length * rng.uniform(0.12, 0.35), 2.0 * s, 8 * s))
            t = np.linspace(0, 2 * np.pi, 22)[:-1]
            wobble = rng.uniform(0.65, 1.2, t.size)
            ring = np.stack(
                [x + half_width * np.cos(t) * wobble, y + half_length * np.sin(t) * wobble], axis=1
            )
            cv2.fillPoly(
                layer, [np.round(ring * 16).astype(np.int32)], int(rng.integers(170, 256)),
                cv2.LINE_AA, 4,
            )  # fmt: skip
            x += float(rng.normal(0, 9)) * s
            y += float(rng.choice([-1.0, 1.0])) * half_length * float(rng.uniform(1.2, 2.0))
        soft = cv2.GaussianBlur(layer, (0, 0), max(0.5, float(rng.uniform(0.7, 1.6)) * s))
        return np.asarray(soft, np.float32) * np.float32(-float(rng.uniform(26, 62)) / 255.0)

    def _patch(self) -> Field:
        """An irregular blotch of other scale: a thresholded cloud with a ragged, soft edge."""
        rng, s = self._rng, self._scale
        x, y = rng.uniform(0.12, 0.88, 2) * self._size
        rx, ry = (float(v) * s for v in rng.uniform(24, 78, 2))
        reach = int(max(rx, ry) * 1.6)
        side = 2 * reach + 1
        grid = np.linspace(-1.6, 1.6, side, dtype=np.float32) * np.float32(max(rx, ry))
        radius = np.sqrt((grid[None, :] / rx) ** 2 + (grid[:, None] / ry) ** 2)
        shape = 1.0 - radius + 0.45 * textures.clouds(rng, side, 6)
        shape = shape + 0.10 * textures.noise(rng, side, 2.0 * s, 2.0 * s)
        edge = np.clip(shape * float(rng.uniform(3.0, 9.0)), 0.0, 1.0)
        mottle = 1.0 + 0.10 * textures.noise(rng, side, 1.0, 1.0)
        mottle += 0.14 * textures.noise(rng, side, 2.5, 9.0)
        strength = float(rng.uniform(24, 62)) * (-1.0 if rng.random() < 0.8 else 0.8)
        change = np.zeros((self._size, self._size), np.float32)
        left, top = round(float(x)) - reach, round(float(y)) - reach
        x0, y0 = max(0, left), max(0, top)
        x1, y1 = min(self._size, left + side), min(self._size, top + side)
        piece = (edge * mottle * strength)[y0 - top : y1 - top, x0 - left : x1 - left]
        change[y0:y1, x0:x1] = _largest_piece(piece)
        return change


def _largest_piece(change: npt.NDArray[np.float32]) -> Field:
    """Only the largest connected blotch, so that one box holds one thing."""
    strong = (np.abs(change) >= MIN_CONTRAST_GREY).astype(np.uint8)
    joined = cv2.dilate(strong, np.ones((7, 7), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    if count <= 2:
        return change
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return np.where(labels == largest, change, np.float32(0.0)).astype(np.float32)
