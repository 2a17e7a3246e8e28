"""The gauges against what happens to cameras: a lamp that dims, a lens that slips, a glare."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from shopfloor.inspection import quality
from shopfloor.inspection.quality import FrameQuality, measure
from shopfloor.sim.parts import render

Pixels = npt.NDArray[np.uint8]
PARTS = 12


@pytest.fixture(scope="module", params=["board", "steel"])
def parts(request: pytest.FixtureRequest) -> list[Pixels]:
    return [render(request.param, 500 + n).image for n in range(PARTS)]


def dimmed(image: Pixels) -> Pixels:
    return np.asarray(cv2.convertScaleAbs(image, alpha=0.75), np.uint8)


def aged(image: Pixels) -> Pixels:
    """A lamp that has lost a tenth."""
    return np.asarray(cv2.convertScaleAbs(image, alpha=0.9), np.uint8)


def defocused(image: Pixels) -> Pixels:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 1.5), np.uint8)


def smeared(image: Pixels) -> Pixels:
    """Motion of 7 pixels along the belt."""
    return np.asarray(cv2.blur(image, (7, 1)), np.uint8)


@pytest.mark.parametrize(
    ("fault", "gauge", "low", "high"),
    [
        (dimmed, "mean_grey", 0.70, 0.80),
        (aged, "mean_grey", 0.88, 0.92),
        (defocused, "sharpness", 0.0, 0.4),
        (smeared, "sharpness", 0.0, 0.7),
    ],
)
def test_on_every_part_the_gauge_follows_what_happened(
    parts: list[Pixels],
    fault: Callable[[Pixels], Pixels],
    gauge: str,
    low: float,
    high: float,
) -> None:
    for image in parts:
        before = getattr(measure(image), gauge)
        assert low <= getattr(measure(fault(image)), gauge) / before <= high


def test_a_glare_shows_as_saturation(parts: list[Pixels]) -> None:
    for image in parts[:3]:
        glare = image.copy()
        cv2.circle(glare, (320, 320), 150, (255, 255, 255), -1)
        assert measure(glare).saturated_fraction - measure(image).saturated_fraction > 0.1


def test_every_gauge_of_a_part_is_a_number(parts: list[Pixels]) -> None:
    quality = measure(parts[0])
    assert isinstance(quality, FrameQuality)
    assert np.isfinite(
        [quality.mean_grey, quality.contrast, quality.sharpness, quality.saturated_fraction]
    ).all()


@pytest.mark.parametrize(
    "shape", [(1080, 1920, 3), (641, 639, 3), (200, 200, 3), (7, 900, 3), (3, 3, 3), (480, 641)]
)
def test_the_gauges_equal_a_plain_rewrite_however_the_pixels_lie(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(5).integers(90, 256, shape, np.uint8)
    height, width = shape[:2]
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    rows, columns = -(-height // quality.SAMPLE_PX), -(-width // quality.SAMPLE_PX)
    sample = image[::rows, ::columns]
    brightest = sample if image.ndim == 2 else sample.max(axis=2)
    high, wide = min(quality.TILE_PX, height // 3), min(quality.TILE_PX, width // 3)
    tiles = [
        cv2.Laplacian(np.ascontiguousarray(grey[top : top + high, left : left + wide]), cv2.CV_64F)[
            1:-1, 1:-1
        ]
        for top in ((2 * n + 1) * height // 6 - high // 2 for n in range(3))
        for left in ((2 * n + 1) * width // 6 - wide // 2 for n in range(3))
    ]
    sharpness = np.var(tiles) if min(high, wide) >= 3 else cv2.Laplacian(grey, cv2.CV_64F).var()
    wide_frame = np.zeros((height, width * 2, *shape[2:]), np.uint8)
    wide_frame[:, :width] = image
    for lying in (image, wide_frame[:, :width], np.asfortranarray(image)):
        found = measure(lying)
        assert found.mean_grey == pytest.approx(grey[::rows, ::columns].mean())
        assert found.contrast == pytest.approx(grey[::rows, ::columns].std())
        assert found.saturated_fraction == pytest.approx((brightest == 255).mean())
        assert found.sharpness == pytest.approx(sharpness)
