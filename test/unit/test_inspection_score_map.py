"""The score map points at the defect, whatever grid saw it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_model import picture, write_package

from shopfloor.inspection.engines import EngineOptions, load_engine
from shopfloor.inspection.letterbox import Geometry
from shopfloor.inspection.model import load_model_package
from shopfloor.inspection.offline import load_inspector
from shopfloor.inspection.pipeline import Inspector
from shopfloor.inspection.score_map import overlay, peak, score_map
from shopfloor.inspection.verdict import Criteria, Verdict
from shopfloor.inspection.yolo import OutputLayout
from shopfloor.sim.parts import render


@pytest.mark.parametrize("layout", ["yolox", "yolov8"])
@pytest.mark.parametrize("candidate", [0, 5, 12 * 16 + 3, 12 * 16 + 6 * 8 + 7])
def test_each_candidate_heats_its_own_cells(layout: str, candidate: int) -> None:
    form = OutputLayout(layout, True, 128, 96, 3)
    output = np.zeros((1, form.candidates, 8), np.float32)
    output[0, candidate, 4:7] = 1.0, 0.2, 0.8
    if layout == "yolov8":
        output = np.delete(output, 4, axis=2).transpose(0, 2, 1)
    heat = score_map(output, form)
    assert heat.shape == (12, 16) and heat.max() == pytest.approx(0.8)
    first, side = next(f for f in ((240, 4), (192, 2), (0, 1)) if candidate >= f[0])
    rows, columns = np.nonzero(heat)
    assert len(rows) == side * side
    assert (rows.min() // side, columns.min() // side) == divmod(candidate - first, 16 // side)


def test_the_peak_is_the_middle_of_its_cells_in_pixels_of_the_image() -> None:
    heat = np.zeros((12, 16), np.float32)
    heat[4:8, 8:12] = 0.9
    heat[0, 0] = 0.9
    heat[4, 8] = 0.95
    assert peak(heat, Geometry(256, 192, 0.5, 128, 96)) == pytest.approx((8.5 * 16, 4.5 * 16))
    heat[4, 8] = 0.9
    heat[0, 0] = 0.0
    assert peak(heat, Geometry(128, 96, 1.0, 128, 96)) == pytest.approx((80, 48))


def test_cold_places_show_the_picture_as_it_is(tmp_path: Path) -> None:
    package = load_model_package(write_package(tmp_path / "tiny"))
    engine = load_engine("onnxruntime", package, EngineOptions())
    inspector = Inspector(package, engine, Criteria(0.6, 0.3))
    image = picture((1, 1, 2, 255))
    outcome = inspector.inspect(image, "bgr8")
    assert outcome.output is not None and outcome.geometry is not None
    heat = score_map(outcome.output, package.output)
    shown = overlay(image, heat, outcome.geometry)
    assert shown.shape == image.shape and shown is not image
    np.testing.assert_array_equal(shown[80:, 96:], image[80:, 96:])
    assert (shown[40:56, 40:56] != image[40:56, 40:56]).any()
    grey = overlay(image[..., 2].copy(), heat, outcome.geometry)
    assert grey.shape == image.shape


def test_on_simulated_parts_the_peak_lies_in_a_true_defect() -> None:
    inspector = load_inspector("surface_nano/1")
    hits = fails = 0
    for seed in range(9_000_000, 9_000_012):
        for kind in ("board", "steel"):
            part = render(kind, seed, defects=2)
            outcome = inspector.inspect(part.image, "bgr8")
            if outcome.decision.verdict is not Verdict.FAIL:
                continue
            assert outcome.output is not None and outcome.geometry is not None
            heat = score_map(outcome.output, inspector.package.output)
            x, y = peak(heat, outcome.geometry)
            left, top, right, bottom = part.boxes.T
            fails += 1
            hits += bool(((left <= x) & (x <= right) & (top <= y) & (y <= bottom)).any())
    assert fails >= 15
    assert hits >= 0.9 * fails, f"{hits} of {fails}"
