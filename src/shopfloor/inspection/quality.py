"""Gauges of a frame's quality from a sample of its pixels.

They see a lamp that dims or a lens that slips when the model's confidence does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

SAMPLE_PX = 128
"""Grey values are taken from a grid of at most about this many columns and rows."""

TILE_PX = 64
"""Sharpness is measured on full-resolution tiles of this size: a thinned grid would not see it."""

TILES = 3
"""Tiles per row and column."""

SATURATED_FROM = 255


@dataclass(frozen=True, slots=True)
class FrameQuality:
    """On grey values scaled to 0-255.

    mean_grey: mean. contrast: standard deviation. sharpness: variance of the Laplacian.
    saturated_fraction: share of pixels with a channel at its maximum, 0-1. NaN: not measured.
    """

    mean_grey: float
    contrast: float
    sharpness: float
    saturated_fraction: float


NOT_MEASURED = FrameQuality(float("nan"), float("nan"), float("nan"), float("nan"))


def measure(image: npt.NDArray[np.uint8]) -> FrameQuality:
    """Gauges of a H x W (grey) or H x W x 3 (BGR) uint8 image."""
    sample = _sample(image)
    mean, deviation = cv2.meanStdDev(_grey(sample))
    brightest = sample
    if sample.ndim == 3:
        blue, green, red = cv2.split(sample)
        brightest = np.asarray(cv2.max(cv2.max(blue, green), red), dtype=np.uint8)
    return FrameQuality(
        mean_grey=float(mean[0, 0]),
        contrast=float(deviation[0, 0]),
        sharpness=_sharpness(image),
        saturated_fraction=float(np.count_nonzero(brightest >= SATURATED_FROM)) / brightest.size,
    )


def _sample(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The pixels of the grid, C-contiguous."""
    height, width = image.shape[:2]
    # Rounded up, so that the grid never has more than SAMPLE_PX points a side.
    rows = slice(None, None, -(-height // SAMPLE_PX))
    columns = slice(None, None, -(-width // SAMPLE_PX))
    if image.ndim == 2 or image.strides[1:] != (3, 1):
        return np.ascontiguousarray(image[rows, columns])
    # Whole pixels are copied in a third of the time that their channels take one by one.
    pixels = np.ascontiguousarray(image.view("V3")[rows, columns])
    return pixels.view(np.uint8)


def _sharpness(image: npt.NDArray[np.uint8]) -> float:
    """Variance of the Laplacian over the tiles."""
    height, width = image.shape[:2]
    tile_height, tile_width = min(TILE_PX, height // TILES), min(TILE_PX, width // TILES)
    if min(tile_height, tile_width) < 3:
        return float(cv2.Laplacian(_grey(image), cv2.CV_64F).var())
    mosaic = np.empty((TILES * TILES, tile_height, tile_width, *image.shape[2:]), dtype=np.uint8)
    for row in range(TILES):
        top = (2 * row + 1) * height // (2 * TILES) - tile_height // 2
        for column in range(TILES):
            left = (2 * column + 1) * width // (2 * TILES) - tile_width // 2
            tile = image[top : top + tile_height, left : left + tile_width]
            mosaic[row * TILES + column] = tile
    grey = _grey(mosaic.reshape(-1, *mosaic.shape[2:]))
    tiles = cv2.Laplacian(grey, cv2.CV_16S).reshape(mosaic.shape[:3])
    # Without the borders, where tiles meet and OpenCV mirrors pixels.
    inner = np.ascontiguousarray(tiles[:, 1:-1, 1:-1]).reshape(-1, tile_width - 2)
    _, deviation = cv2.meanStdDev(inner)
    return float(deviation[0, 0]) ** 2


def _grey(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    if image.ndim == 2:
        return image
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), dtype=np.uint8)
