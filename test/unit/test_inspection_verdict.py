"""Verdicts, frame quality and the annotated image."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from shopfloor.inspection.detections import Detections
from shopfloor.inspection.overlay import VERDICT_COLOURS, annotate
from shopfloor.inspection.quality import NOT_MEASURED, FrameQuality, measure
from shopfloor.inspection.verdict import Criteria, Decision, Reason, Verdict, decide

CLASSES = ("open", "short")
GOOD = FrameQuality(mean_grey=120.0, contrast=40.0, sharpness=300.0, saturated_fraction=0.0)
CRITERIA = Criteria(fail=0.6, suspect=0.3, min_mean_grey=20, max_mean_grey=240, min_sharpness=10)


def found(*scores: float) -> Detections:
    count = len(scores)
    boxes = np.tile(np.array([2, 3, 12, 15], np.float32), (count, 1))
    return Detections(boxes, np.array(scores, np.float32), np.arange(count, dtype=np.int32) % 2)


@pytest.mark.parametrize(
    ("scores", "verdict"),
    [
        ((), Verdict.PASS),
        ((0.29,), Verdict.PASS),
        ((0.3000001,), Verdict.SUSPECT),
        ((0.59, 0.5), Verdict.SUSPECT),
        ((0.6000001,), Verdict.FAIL),
        ((0.99, 0.7, 0.1), Verdict.FAIL),
    ],
)
def test_thresholds(scores: tuple[float, ...], verdict: Verdict) -> None:
    decision = decide(found(*scores), GOOD, CLASSES, CRITERIA)
    assert decision.verdict is verdict and decision.text
    assert decision.score == pytest.approx(max(scores, default=0.0))


def test_words_name_class_score_and_how_many_more() -> None:
    text = decide(found(0.97, 0.8, 0.7, 0.2), GOOD, CLASSES, CRITERIA).text
    assert text == "open 0.97, fails from 0.60, and 2 more"


@pytest.mark.parametrize(
    ("quality", "says"),
    [
        (FrameQuality(120, 1.9, 300, 0), "contrast"),
        (FrameQuality(19, 40, 300, 0), "too dark"),
        (FrameQuality(241, 40, 300, 0), "too bright"),
        (FrameQuality(120, 40, 9, 0), "blurred"),
        (NOT_MEASURED, "contrast nan"),
        (FrameQuality(math.nan, 40, 300, 0), "mean grey nan"),
    ],
)
def test_a_poor_picture_never_passes_but_a_defect_in_it_fails(
    quality: FrameQuality, says: str
) -> None:
    decision = decide(found(), quality, CLASSES, CRITERIA)
    assert (decision.verdict, decision.reason) == (Verdict.UNKNOWN, Reason.FRAME_QUALITY)
    assert says in decision.text
    assert decide(found(0.9), quality, CLASSES, CRITERIA).verdict is Verdict.FAIL
    assert decide(found(0.4), quality, CLASSES, CRITERIA).verdict is Verdict.SUSPECT


@pytest.mark.parametrize(
    ("fail", "suspect"), [(0.3, 0.6), (1.1, 0.5), (0.5, -0.1), (math.nan, 0.1), (0.5, math.nan)]
)
def test_thresholds_that_do_not_fit_are_refused(fail: float, suspect: float) -> None:
    with pytest.raises(ValueError, match="0 <= suspect <= fail <= 1"):
        Criteria(fail=fail, suspect=suspect)


# Frame quality


def scene(height: int = 480, width: int = 640) -> npt.NDArray[np.uint8]:
    noise = np.random.default_rng(2).integers(40, 200, (height, width), np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (3, 3), 0), np.uint8)


def test_quality_sees_dimming_blur_and_glare() -> None:
    image = scene()
    usual = measure(image)
    dim = measure((image // 2).astype(np.uint8))
    assert dim.mean_grey == pytest.approx(usual.mean_grey / 2, abs=1)
    assert measure(cv2.GaussianBlur(image, (9, 9), 0)).sharpness < usual.sharpness / 5
    glare = image.copy()
    glare[:240] = 255
    assert measure(glare).saturated_fraction == pytest.approx(0.5, abs=0.01)
    assert usual.saturated_fraction == 0.0


def test_quality_of_a_sample_is_that_of_the_whole() -> None:
    image = scene(1080, 1920)
    quality = measure(image)
    assert quality.mean_grey == pytest.approx(float(image.mean()), rel=0.01)
    assert quality.contrast == pytest.approx(float(image.std()), rel=0.03)
    whole = float(cv2.Laplacian(image, cv2.CV_64F).var())
    assert quality.sharpness == pytest.approx(whole, rel=0.05)


def test_quality_of_colour_equals_that_of_its_grey_and_sees_one_saturated_channel() -> None:
    grey = scene()
    colour = np.repeat(grey[:, :, None], 3, axis=2)
    assert measure(colour).sharpness == pytest.approx(measure(grey).sharpness, rel=1e-6)
    colour[:, :320, 2] = 255
    assert measure(colour).saturated_fraction == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (2, 9), (9, 2, 3), (3, 700), (9, 9, 3)])
def test_quality_of_any_size_is_a_number(shape: tuple[int, ...]) -> None:
    quality = measure(np.full(shape, 7, np.uint8))
    assert (quality.mean_grey, quality.contrast, quality.sharpness) == (7.0, 0.0, 0.0)


# Overlay


@pytest.mark.parametrize("shape", [(200, 200), (640, 640, 3), (1080, 1920, 3), (1, 1), (8, 300, 3)])
@pytest.mark.parametrize("verdict", list(Verdict))
def test_annotated_image_of_any_size_has_a_banner_of_the_verdicts_colour(
    shape: tuple[int, ...], verdict: Verdict
) -> None:
    image = np.full(shape, 90, np.uint8)
    before = image.copy()
    decision = Decision(verdict, Reason.DEFECT, "short 0.93 \u2013 na\u00efve text", 0.93)
    boxes = Detections(
        np.array([[-5, -5, 4000, 4000], [0, 0, 1, 1]], np.float32),
        np.array([0.93, 0.1], np.float32),
        np.array([1, 0], np.int32),
    )
    canvas = annotate(image, boxes, decision, CLASSES, part_id="p" * 300, note="n" * 300)
    np.testing.assert_array_equal(image, before)
    assert canvas.dtype == np.uint8 and canvas.ndim == 3 and canvas.shape[2] == 3
    assert canvas.shape[1] >= image.shape[1] and min(canvas.shape[:2]) >= 480
    assert tuple(int(v) for v in canvas[0, -1]) == VERDICT_COLOURS[verdict]


def test_small_pictures_are_enlarged_and_boxes_with_them() -> None:
    image = np.zeros((160, 160, 3), np.uint8)
    one = Detections(
        np.array([[40, 80, 60, 100]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int32)
    )
    decision = Decision(Verdict.FAIL, Reason.DEFECT, "open", 1.0)
    canvas = annotate(image, one, decision, CLASSES)
    assert canvas.shape[1] == 480
    picture = canvas[-480:]
    assert picture[240 + 2 : 300 - 2, 120 + 2 : 180 - 2].max() == 0, "the defect itself is covered"
    ys, xs = np.nonzero(picture[235:305].max(axis=2))
    assert xs.min() >= 110 and ys.size > 100


def test_boxes_below_the_threshold_are_not_drawn() -> None:
    image = np.zeros((480, 480, 3), np.uint8)
    decision = Decision(Verdict.PASS, Reason.NO_DEFECT, "no defect")
    canvas = annotate(image, found(0.2, 0.1), decision, CLASSES, suspect=0.3)
    assert canvas[-480:].max() == 0
