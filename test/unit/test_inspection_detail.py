"""Crops, the detail tier's look at them, and its queue."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tiny_model import build_onnx, picture, write_package

from shopfloor.inspection.crops import MAX_PLACES, CropLimits, announced, cut_crops
from shopfloor.inspection.detail import Examiner, Outcome, size_of
from shopfloor.inspection.detail_queue import DetailQueue, WorkTime
from shopfloor.inspection.detections import Detections
from shopfloor.inspection.engines import EngineOptions, load_engine
from shopfloor.inspection.model import load_model_package
from shopfloor.inspection.pipeline import InspectionOutcome, Inspector
from shopfloor.inspection.verdict import Criteria
from shopfloor.ros.images import decode

CRITERIA = Criteria(fail=0.6, suspect=0.3)
BOX = np.array([32, 32, 64, 64], np.float32)
Image = npt.NDArray[np.uint8]


def boxes(*rows: tuple[float, float, float, float, float]) -> Detections:
    """Rows of x1, y1, x2, y2, score."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Detections(table[:, :4], table[:, 4], np.zeros(len(table), np.int32))


def noise(height: int, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(1).integers(0, 255, (height, width, 3)).astype(np.uint8)


# Crops ----------------------------------------------------------------------------------------


def test_a_crop_is_the_square_around_its_box_moved_into_the_image() -> None:
    image = noise(600, 800)
    found = boxes((10, 20, 30, 40, 0.9), (400, 300, 420, 340, 0.5), (0, 0, 9, 9, 0.2))
    first, second = cut_crops(image, found, 0.3, CropLimits(side_px=200, max_bytes=10**6))
    assert (first.x, first.y, first.width, first.height) == (0, 0, 200, 200)
    assert (second.x, second.y, second.detection) == (310, 220, 1)
    assert second.margin_px == 80
    shown = decode(second.jpeg)
    assert shown.shape == (200, 200, 3)


def test_number_size_and_bytes_of_crops_are_bounded() -> None:
    image = noise(900, 1200)
    many = boxes(*[(i * 10, 5, i * 10 + 5, 10, 0.9 - i / 1000) for i in range(100)])
    assert len(cut_crops(image, many, 0.3, CropLimits(side_px=64, max_crops=3))) == 3
    (large,) = cut_crops(
        image, boxes((0, 0, 1000, 800, 0.9)), 0.3, CropLimits(64, max_side_px=256, max_bytes=9000)
    )
    assert (large.width, large.height) == (1200, 900)
    assert len(large.jpeg) <= 9000 and max(decode(large.jpeg).shape) <= 256


def test_without_a_box_the_whole_frame_is_sent_and_grey_stays_readable() -> None:
    (crop,) = cut_crops(noise(90, 120)[..., 0].copy(), boxes(), 0.3, CropLimits())
    assert (crop.x, crop.y, crop.width, crop.height, crop.detection) == (0, 0, 120, 90, None)
    assert decode(crop.jpeg).shape == (90, 120, 3)


def test_a_place_that_is_not_sent_is_announced_all_the_same() -> None:
    rows = [(i * 50, 5, i * 50 + 20, 30, 0.9 - i / 100) for i in range(5)]
    found = boxes(*rows, (0, 60, 9, 70, 0.1))
    assert len(cut_crops(noise(100, 300), found, 0.3, CropLimits())) == 4
    assert announced(found, 0.3, 100) == 5
    assert announced(found, 0.875, 100) == 3
    assert announced(boxes(), 0.3, 100) == 1, "the whole frame"
    many = boxes(*[(i * 10, 5, i * 10 + 5, 10, 0.9) for i in range(100)])
    assert announced(many, 0.3, 300) == MAX_PLACES > CropLimits(max_crops=63).max_crops


def test_what_the_bound_on_detections_may_have_cut_off_is_announced() -> None:
    found = boxes(*[(i * 50, 5, i * 50 + 20, 30, 0.9) for i in range(3)])
    assert announced(found, 0.3, 3) == 4
    assert announced(found, 0.3, 4) == 3
    hidden = boxes((0, 5, 20, 30, 0.9), (50, 5, 70, 30, 0.9), (0, 60, 9, 70, 0.1))
    assert announced(hidden, 0.3, 3) == 2, "those that are cut off are no better than the last"


def test_one_spot_of_several_classes_is_one_place() -> None:
    spot = boxes((100, 100, 140, 140, 0.9), (102, 98, 141, 139, 0.8), (125, 100, 165, 140, 0.7))
    crops = cut_crops(noise(300, 300), spot, 0.3, CropLimits())
    assert [crop.detection for crop in crops] == [0, 2]
    assert announced(spot, 0.3, 100) == 2


# Examiner -------------------------------------------------------------------------------------


def examiner(folder: Path, **more: object) -> Examiner:
    package = load_model_package(write_package(folder, **more))  # type: ignore[arg-type]
    engine = load_engine("onnxruntime", package, EngineOptions())
    return Examiner(Inspector(package, engine, CRITERIA), CRITERIA, zooms=(1.0,), mirrored=True)


@pytest.mark.parametrize(
    ("value", "outcome"),
    [(255, Outcome.DEFECT), (180, Outcome.UNDECIDED), (140, Outcome.NO_DEFECT)],
)
def test_the_mean_over_the_views_decides(tmp_path: Path, value: int, outcome: Outcome) -> None:
    # The cell lies on the grid in every mirrored view too, so each view scores it the same.
    found = examiner(tmp_path / "tiny").examine(picture((1, 1, 2, value)), BOX)
    assert found.outcome is outcome
    assert found.class_scores[2] == pytest.approx((value - 128) / 127, abs=1e-4)
    if outcome is not Outcome.NO_DEFECT:
        np.testing.assert_allclose(found.box, BOX, atol=1e-3)
        assert found.reason.startswith("red") and "4 views" in found.reason


def test_only_what_lies_at_the_target_counts(tmp_path: Path) -> None:
    look = examiner(tmp_path / "tiny")
    elsewhere = picture((3, 2, 0, 195), (1, 1, 2, 140))  # suspect, with a crop of its own
    assert look.examine(elsewhere, BOX).outcome is Outcome.NO_DEFECT
    elsewhere = picture((3, 2, 0, 255), (1, 1, 2, 140))
    found = look.examine(elsewhere, BOX)
    assert found.outcome is Outcome.UNDECIDED, "a defect, and perhaps nobody else looks at it"
    assert found.reason == "a defect elsewhere in the crop: blue 1.00 in one view"
    # A whole frame has no target: what is suspect in it is looked at.
    whole = look.examine(elsewhere, None)
    assert (whole.outcome, int(whole.class_scores.argmax())) == (Outcome.DEFECT, 0)
    np.testing.assert_allclose(whole.box, [96, 64, 128, 96], atol=1e-3)
    clean = look.examine(picture((0, 0, 1, 100)), None)
    assert (clean.outcome, clean.box) == (Outcome.NO_DEFECT, None)


@pytest.mark.parametrize(
    "box", [(32, 32, 64, 36), (0, 0, 120, 90)], ids=["fragment", "much around it"]
)
def test_a_box_of_another_extent_is_the_same_place(
    tmp_path: Path, box: tuple[int, int, int, int]
) -> None:
    found = examiner(tmp_path / "tiny").examine(picture((1, 1, 2, 255)), np.array(box, np.float32))
    assert found.outcome is Outcome.DEFECT


def seeing(look: Examiner, change: Callable[[int, Image], Image]) -> list[int]:
    """Let `change(number of the look, picture)` stand before the model; returns what it counts."""
    inspect, seen = look.inspector.inspect, []

    def changed(image: Image, encoding: str) -> InspectionOutcome:
        seen.append(len(seen))
        return inspect(np.ascontiguousarray(change(seen[-1], image)), encoding)

    look.inspector.inspect = changed  # type: ignore[assignment, method-assign]
    return seen


def test_views_that_disagree_on_the_class_do_not_clear(tmp_path: Path) -> None:
    look = examiner(tmp_path / "tiny")
    seeing(look, lambda number, image: image[..., :: -1 if number % 2 else 1])
    found = look.examine(picture((1, 1, 2, 191)), BOX)  # red 0.5 in two views, blue in the others
    assert found.class_scores[0] == found.class_scores[2] == pytest.approx(0.248, abs=1e-3)
    assert found.outcome is Outcome.UNDECIDED and "of no one class" in found.reason


def test_every_suspect_place_of_a_whole_frame_is_looked_at(tmp_path: Path) -> None:
    look = examiner(tmp_path / "tiny")
    a_and_b, b = picture((0, 0, 0, 203), (3, 2, 1, 198)), picture((3, 2, 1, 198))
    # A is there at first glance only. The views below are of the whole picture, mirrored or not.
    flipped = {1: b[:, ::-1], 2: b[::-1], 3: b[::-1, ::-1]}
    seen = seeing(look, lambda number, image: flipped.get(number, a_and_b))
    found = look.examine(a_and_b, None)
    assert found.outcome is Outcome.UNDECIDED and found.reason.startswith("green 0.55")
    assert len(seen) == look.views, "both places share the views of the whole picture"


@pytest.mark.parametrize(("count", "outcome"), [(4, Outcome.NO_DEFECT), (5, Outcome.UNDECIDED)])
def test_a_whole_frame_of_more_places_than_are_looked_at_is_not_cleared(
    tmp_path: Path, count: int, outcome: Outcome
) -> None:
    look = examiner(tmp_path / "tiny")
    cells = ((0, 0), (2, 0), (0, 2), (2, 2), (3, 1))
    busy = picture(*[(x, y, 1, 190) for x, y in cells[:count]])
    seeing(look, lambda number, image: image if number == 0 else np.zeros_like(image))
    found = look.examine(busy, None)
    assert found.outcome is outcome
    if outcome is Outcome.UNDECIDED:
        assert found.reason == "5 suspect places, of which 4 were looked at"


def test_a_zoom_finds_the_same_place(tmp_path: Path) -> None:
    package = load_model_package(write_package(tmp_path / "tiny"))
    engine = load_engine("onnxruntime", package, EngineOptions())
    look = Examiner(
        Inspector(package, engine, CRITERIA), CRITERIA, zooms=(1.0, 0.5), mirrored=False
    )
    assert look.views == 2
    big = np.repeat(np.repeat(picture((1, 1, 2, 255)), 2, 0), 2, 1)
    found = look.examine(big, BOX * 2)
    assert found.outcome is Outcome.DEFECT and found.box is not None
    centre = (found.box[:2] + found.box[2:]) / 2
    np.testing.assert_allclose(centre, [96, 96], atol=20)


def test_a_model_that_gives_nan_is_no_answer(tmp_path: Path) -> None:
    package = load_model_package(write_package(tmp_path / "tiny"))
    engine = load_engine("onnxruntime", package, EngineOptions())
    inspector = Inspector(package, engine, CRITERIA)
    look = Examiner(inspector, CRITERIA, zooms=(1.0,), mirrored=True)
    broken = load_model_package(write_package(tmp_path / "nan", build_onnx(output_bias=math.nan)))
    inspector._engine = load_engine("onnxruntime", broken, EngineOptions())
    found = look.examine(picture((1, 1, 2, 255)), BOX)
    assert found.outcome is Outcome.NOT_EXAMINED and found.reason.startswith("no model: ")
    assert "NaN" in found.reason


def test_no_view_follows_an_interruption(tmp_path: Path) -> None:
    look = examiner(tmp_path / "tiny")
    inspector, seen = look.inspector, []
    inspect = inspector.inspect

    def interrupted_in_the_second(*arguments: object) -> object:
        seen.append(arguments)
        look.interrupted = len(seen) == 2
        return inspect(*arguments)  # type: ignore[arg-type]

    inspector.inspect = interrupted_in_the_second  # type: ignore[assignment, method-assign]
    found = look.examine(picture((1, 1, 2, 255)), BOX)
    assert found.outcome is Outcome.NOT_EXAMINED and "interrupted" in found.reason
    assert len(seen) == 2 < look.views
    look.interrupted = False
    assert look.examine(picture((1, 1, 2, 255)), BOX).outcome is Outcome.DEFECT


def test_size_is_known_only_where_the_scale_is() -> None:
    size = size_of(30, 12, 0.05)
    assert (size.length_mm, size.width_mm) == (pytest.approx(1.5), pytest.approx(0.6))
    for scale in (math.nan, 0.0, -1.0):
        assert math.isnan(size_of(30, 12, scale).length_mm)


# Queue ----------------------------------------------------------------------------------------


def test_the_most_urgent_comes_first_and_gives_way_when_the_queue_is_full() -> None:
    queue: DetailQueue[str] = DetailQueue(2)
    assert queue.put("never", 0, 0) is None
    assert queue.put("soon", 50, 1) is None
    assert queue.put("later", 90, 2) == "soon"
    assert queue.counts["full"] == 1 and len(queue) == 2
    assert queue.oldest_ms(2_000_000) == 2.0
    first, second = queue.take(), queue.take()
    assert first is not None and second is not None
    assert (first.item, second.item, queue.take()) == ("later", "never", None)


def test_what_could_not_be_answered_in_time_is_not_begun() -> None:
    queue: DetailQueue[str] = DetailQueue(9)
    for name, deadline in (("a", 100), ("b", 200), ("c", 0)):
        queue.put(name, deadline, 0)
    assert queue.expire(100) == []
    assert queue.expire(100, work_ns=50) == ["a"]
    assert queue.expire(10**18) == ["b"]
    assert len(queue) == 1 and queue.counts["late"] == 2


def test_a_slow_start_does_not_refuse_for_ever() -> None:
    """The first takes 5 s as the machine starts, all others 0.2 s, and each has 3 s."""
    work_time, queue = WorkTime(), DetailQueue[int](9)
    budget_ns, answered, refused = 3_000_000_000, 0, 0
    assert work_time.expected_ns == 0
    for number in range(40):
        queue.put(number, budget_ns, 0)
        late = queue.expire(0, work_time.expected_ns)
        work_time.refused(len(late))
        refused += len(late)
        if queue.take() is not None:
            work_time.took(200.0 if answered else 5000.0)
            answered += 1
    assert 0 < refused < 10 and answered == 40 - refused
    assert work_time.expected_ns == 200_000_000


def test_repeats_are_known_and_their_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shopfloor.inspection.detail_queue.REMEMBERED", 3)
    queue: DetailQueue[str] = DetailQueue(9)
    assert [queue.is_repeated(k) for k in "aabcd"] == [False, True, False, False, False]
    assert not queue.is_repeated("a"), "the oldest is forgotten"


def test_every_item_leaves_the_queue_exactly_once() -> None:
    rng = random.Random(3)
    queue: DetailQueue[int] = DetailQueue(5)
    left: list[int] = []
    for number in range(2000):
        gave_way = queue.put(number, rng.choice([0, number + rng.randint(-5, 30)]), number)
        left += [gave_way] if gave_way is not None else []
        left += queue.expire(number)
        if rng.random() < 0.3 and (waiting := queue.take()) is not None:
            left.append(waiting.item)
        assert len(queue) <= 5
    while (waiting := queue.take()) is not None:
        left.append(waiting.item)
    assert sorted(left) == list(range(2000))
