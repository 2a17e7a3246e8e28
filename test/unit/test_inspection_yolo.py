"""YOLO decoding against a plain rewrite of it, and outputs that lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from shopfloor.inspection.detections import Detections
from shopfloor.inspection.metrics import iou_matrix
from shopfloor.inspection.yolo import MAX_CANDIDATES, OutputError, OutputLayout, YoloDecoder

CLASSES = 4
LAYOUT = OutputLayout("yolox", True, 128, 96, CLASSES)
UNDECODED = OutputLayout("yolox", False, 128, 96, CLASSES)
V8 = OutputLayout("yolov8", True, 128, 96, CLASSES)


def decoder(layout: OutputLayout = LAYOUT, **options: Any) -> YoloDecoder:
    return YoloDecoder(layout, **{"score_floor": 0.1, "nms_iou": 0.5, **options})


def empty(layout: OutputLayout = LAYOUT) -> npt.NDArray[np.float32]:
    return np.zeros(layout.shape, np.float32)


def random_output(seed: int, layout: OutputLayout = LAYOUT) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    rows = rng.random((layout.candidates, 5 + CLASSES), dtype=np.float32)
    rows[:, :2] *= (128, 96)
    rows[:, 2:4] = rows[:, 2:4] * 40 + 2
    return rows[None]


def plain(rows: npt.NDArray[np.float32], floor: float, nms_iou: float) -> list[tuple[Any, ...]]:
    """Score all, sort, keep the best 300, drop what a better one of its class covers."""
    found = []
    for row in rows:
        class_id = int(np.argmax(row[5:]))
        score = row[4] * row[5 + class_id]
        if score >= floor:
            x, y, w, h = (float(v) for v in row[:4])
            found.append((score, class_id, (x - w / 2, y - h / 2, x + w / 2, y + h / 2)))
    found.sort(key=lambda f: -f[0])
    kept: list[tuple[Any, ...]] = []
    for candidate in found[:MAX_CANDIDATES]:
        rivals = [k[2] for k in kept if k[1] == candidate[1]]
        if not rivals or iou_matrix([candidate[2]], rivals).max() <= nms_iou:
            kept.append(candidate)
    return kept


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_plain_rewrite(seed: int) -> None:
    output = random_output(seed)
    found = decoder()(output)
    wanted = plain(output[0], 0.1, 0.5)
    assert len(found) == len(wanted) > 50
    np.testing.assert_allclose(found.scores, [w[0] for w in wanted], rtol=1e-6)
    np.testing.assert_array_equal(found.class_ids, [w[1] for w in wanted])
    np.testing.assert_allclose(found.xyxy, [w[2] for w in wanted], atol=1e-3)
    assert found.xyxy.dtype == np.float32 and found.class_ids.dtype == np.int32


def test_yolov8_layout_gives_the_same_as_yolox_with_full_objectness() -> None:
    rows = random_output(3)
    rows[0, :, 4] = 1.0
    columns = np.ascontiguousarray(np.delete(rows[0], 4, axis=1).T)[None]
    first, second = decoder()(rows), decoder(V8)(columns)
    np.testing.assert_array_equal(first.xyxy, second.xyxy)
    np.testing.assert_array_equal(first.scores, second.scores)


def test_undecoded_boxes_equal_decoded_ones() -> None:
    decoded = random_output(4)
    undecoded = decoded.copy()
    row = 0
    for stride in (8, 16, 32):
        for y in range(96 // stride):
            for x in range(128 // stride):
                cell = undecoded[0, row]
                cell[:2] = decoded[0, row, :2] / stride - (x, y)
                cell[2:4] = np.log(decoded[0, row, 2:4] / stride)
                row += 1
    first, second = decoder()(decoded), decoder(UNDECODED)(undecoded)
    np.testing.assert_allclose(first.xyxy, second.xyxy, atol=1e-2)
    np.testing.assert_array_equal(first.class_ids, second.class_ids)


def test_nothing_found_is_empty_arrays() -> None:
    found = decoder()(empty())
    assert len(found) == 0 and found.xyxy.shape == (0, 4) and found.top_score == 0.0


def test_boxes_of_two_classes_do_not_suppress_each_other_even_outside_the_image() -> None:
    output = empty()
    for row, (x, class_id) in enumerate([(-60.0, 0), (-60.0, 1), (-60.5, 1), (190.0, 0)]):
        output[0, row, :5] = (x, 10, 100, 20, 0.9 - row / 100)
        output[0, row, 5 + class_id] = 1.0
    found = decoder()(output)
    assert found.class_ids.tolist() == [0, 1, 0]


def test_at_most_so_many_candidates_and_detections_and_the_best_of_them() -> None:
    output = random_output(5)
    output[0, :, 2:4] = 1.0  # too small to overlap
    output[0, :, 4:] = np.linspace(0.2, 1.0, LAYOUT.candidates)[:, None]
    assert LAYOUT.candidates < MAX_CANDIDATES
    found = decoder(max_detections=7)(output)
    assert len(found) == 7
    assert found.scores[0] == pytest.approx(1.0)
    big = OutputLayout("yolox", True, 320, 320, 1)
    many = np.ones(big.shape, np.float32)
    many[0, :, 0] = np.arange(big.candidates) * 3
    many[0, :, 4] = np.linspace(0.2, 1.0, big.candidates)
    found = decoder(big)(many)
    assert len(found) == MAX_CANDIDATES
    assert found.scores.min() == pytest.approx(np.sort(many[0, :, 4])[-MAX_CANDIDATES])


def test_equal_scores_come_in_the_models_order() -> None:
    output = empty()
    for row, x in enumerate((100.0, 20.0, 60.0)):
        output[0, row] = (x, 50, 10, 10, 0.5, 1, 0, 0, 0)
    assert decoder()(output).xyxy[:, 0].tolist() == [95.0, 15.0, 55.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0, 0), (0, 5, 4), (0, -1, -1)])
def test_a_value_that_is_no_number_is_an_error(bad: float, place: tuple[int, int, int]) -> None:
    output = random_output(0)
    output[place] = bad
    with pytest.raises(OutputError, match="1 values that are NaN or infinite"):
        decoder()(output)


def test_infinities_that_cancel_are_found() -> None:
    output = random_output(0)
    output[0, 3, 0], output[0, 9, 0] = np.inf, -np.inf
    with pytest.raises(OutputError, match="2 values"):
        decoder()(output)


def test_huge_but_finite_values_are_no_nan() -> None:
    output = empty()
    output[0, :, 0] = np.finfo(np.float32).max
    assert len(decoder()(output)) == 0


def test_a_size_that_overflows_when_decoded_is_an_error() -> None:
    output = empty(UNDECODED)
    output[0, 0] = (0, 0, 1000, 0, 1, 1, 0, 0, 0)
    with pytest.raises(OutputError, match="infinite after exp"):
        decoder(UNDECODED)(output)


@pytest.mark.parametrize(
    "shape",
    [(1, 252, 8), (1, 251, 9), (2, 252, 9), (252, 9), (1, 9, 252), (0,), ("batch", 252, 8)],
)
def test_a_wrong_shape_names_tensor_and_both_shapes(shape: tuple[Any, ...]) -> None:
    assert LAYOUT.shape == (1, 252, 9)
    with pytest.raises(OutputError, match=r"'boxes_out' has shape .*4 classes .*\[1, 252, 9\]"):
        LAYOUT.check("boxes_out", shape)


def test_dynamic_axes_fit() -> None:
    LAYOUT.check("output", ("batch", None, 9))
    V8.check("output", (1, 8, "anchors"))


def test_detections_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="belong together"):
        Detections(np.zeros((2, 4), np.float32), np.zeros(1, np.float32), np.zeros(1, np.int32))
