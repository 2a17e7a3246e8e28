"""Noise fields that the renderers share: made once a process, then cropped at random offsets.

Fresh noise for every part would cost more than all the drawing together; a crop of a large fixed
field costs nothing and is as deterministic as its offset.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Field = npt.NDArray[np.float32]

_TILE_PX = 1024
_FIELD_SEED = 20240601


@lru_cache(maxsize=16)
def _tile(sigma_x: float, sigma_y: float) -> Field:
    """A (1024, 1024) float32 field, mean 0, deviation 1, smoothed by the given sigmas; it wraps."""
    rng = np.random.default_rng(_FIELD_SEED)
    white = rng.standard_normal((_TILE_PX, _TILE_PX), dtype=np.float32)
    if sigma_x <= 0 and sigma_y <= 0:
        return white
    margin = int(4 * max(sigma_x, sigma_y)) + 2
    wrapped = np.pad(white, min(margin, _TILE_PX), mode="wrap")
    smooth = cv2.GaussianBlur(wrapped, (0, 0), sigmaX=max(sigma_x, 1e-3), sigmaY=max(sigma_y, 1e-3))
    start = min(margin, _TILE_PX)
    field = smooth[start : start + _TILE_PX, start : start + _TILE_PX]
    field = (field - field.mean()) / field.std()
    return np.ascontiguousarray(field, dtype=np.float32)


def noise(
    rng: np.random.Generator, size_px: int, sigma_x: float = 0.0, sigma_y: float = 0.0
) -> Field:
    """A (size_px, size_px) float32 crop of noise with deviation 1, at an offset from `rng`."""
    tile = _tile(sigma_x, sigma_y)
    if size_px > _TILE_PX:
        copies = -(-size_px // _TILE_PX) + 1
        tile = np.tile(tile, (copies, copies))
    x, y = (int(v) for v in rng.integers(0, tile.shape[0] - size_px + 1, 2))
    return tile[y : y + size_px, x : x + size_px]


def clouds(rng: np.random.Generator, size_px: int, cells: int) -> Field:
    """A (size_px, size_px) smooth field in about -1..1 with `cells` independent cells a side."""
    coarse = rng.uniform(-1.0, 1.0, (cells, cells)).astype(np.float32)
    return _as_field(cv2.resize(coarse, (size_px, size_px), interpolation=cv2.INTER_CUBIC))


def gradient(rng: np.random.Generator, size_px: int) -> Field:
    """A (size_px, size_px) plane from -1 to 1 in a random direction: lighting from one side."""
    angle = rng.uniform(0.0, 2.0 * np.pi)
    axis = np.linspace(-1.0, 1.0, size_px, dtype=np.float32)
    plane = axis[None, :] * np.float32(np.cos(angle)) + axis[:, None] * np.float32(np.sin(angle))
    return _as_field(plane / np.float32(abs(np.cos(angle)) + abs(np.sin(angle))))


def _as_field(array: Any) -> Field:
    return np.asarray(array, dtype=np.float32)
