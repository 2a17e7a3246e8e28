"""Detection and pass/fail figures, against hand counts, brute force and a second definition."""

from __future__ import annotations

import numpy as np
import pytest

from shopfloor.inspection.metrics import (
    auroc,
    average_precision,
    false_rejects_at_recall,
    iou_matrix,
    match_detections,
    mean_average_precision_50,
    precision_recall,
)


def test_iou_of_known_boxes() -> None:
    boxes = [[0, 0, 10, 10]]
    others = [[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [2, 2, 4, 4], [20, 20, 30, 30]]
    np.testing.assert_allclose(iou_matrix(boxes, others), [[1, 1 / 3, 0, 0.04, 0]])


def test_iou_without_area_is_zero_not_nan() -> None:
    flat = [[5, 5, 5, 5], [9, 9, 1, 1]]
    assert iou_matrix(flat, flat).tolist() == [[0, 0], [0, 0]]
    assert iou_matrix([], [[0, 0, 1, 1]]).shape == (0, 1)


def test_second_detection_of_a_defect_is_a_false_alarm() -> None:
    hits = match_detections([[0, 0, 10, 10], [0, 0, 10, 9]], [0.3, 0.9], [[0, 0, 10, 10]])
    assert hits.tolist() == [False, True]


def test_detection_claims_the_box_it_overlaps_most() -> None:
    # 0.9 lies on the second truth and also touches the first above 0.5; 0.8 needs the first.
    truth = [[0, 0, 10, 10], [0, 2, 10, 12]]
    hits = match_detections([[0, 2, 10, 12], [0, 0, 10, 10]], [0.9, 0.8], truth)
    assert hits.tolist() == [True, True]


def test_overlap_of_exactly_the_limit_counts() -> None:
    truth = [[0, 0, 10, 10]]
    assert match_detections([[0, 0, 10, 5]], [0.5], truth).tolist() == [True]
    assert match_detections([[0, 0, 10, 4.999]], [0.5], truth).tolist() == [False]


def test_match_refuses_lists_that_do_not_pair() -> None:
    with pytest.raises(ValueError, match="2 boxes but 1 scores"):
        match_detections([[0, 0, 1, 1], [0, 0, 2, 2]], [0.5], [])


def test_average_precision_by_hand() -> None:
    # Recall 1/3, 1/3, 2/3 at precision 1, 1/2, 2/3: the envelope is 1 and then 2/3.
    assert average_precision([0.9, 0.8, 0.7], [True, False, True], 3) == pytest.approx(5 / 9)
    assert average_precision([], [], 4) == 0.0
    assert average_precision([0.9, 0.1], [True, True], 2) == 1.0


def test_average_precision_does_not_depend_on_order_or_on_ties() -> None:
    scores, hits = np.array([0.5, 0.5, 0.5, 0.9]), np.array([True, False, True, False])
    values = {
        round(average_precision(scores[order], hits[order], 3), 12)
        for order in (np.random.default_rng(i).permutation(4) for i in range(24))
    }
    assert values == {round(2 / 3 * 1 / 2, 12)}


def test_average_precision_against_a_riemann_sum() -> None:
    rng = np.random.default_rng(3)
    scores, hits = rng.random(200), rng.random(200) < 0.4
    n_truth = int(hits.sum()) + 17
    precision, recall, _ = precision_recall(scores, hits, n_truth)
    steps = np.linspace(0, 1, 200_001)[1:]
    best = [precision[recall >= r].max(initial=0.0) for r in np.unique(recall)]
    index = np.searchsorted(np.unique(recall), steps)
    heights = np.append(best, 0.0)[index]
    assert average_precision(scores, hits, n_truth) == pytest.approx(heights.mean(), abs=1e-4)


def test_recall_without_truth_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one true box"):
        average_precision([0.4], [False], 0)


def test_mean_over_classes_and_images() -> None:
    truths = [[[0, 0, 10, 10, 0], [20, 20, 30, 30, 1]], [[0, 0, 10, 10, 0]], []]
    detections = [
        [[0, 0, 10, 10, 0.9, 0], [20, 20, 30, 30, 0.8, 1]],
        [[0, 0, 10, 10, 0.7, 1]],  # right place, wrong class: a miss and a false alarm
        [],
    ]
    score = mean_average_precision_50(detections, truths)
    assert score.average_precision == {0: 0.5, 1: 1.0}
    assert score.mean_average_precision_50 == 0.75
    assert score.n_truth == {0: 2, 1: 1}
    assert sorted(score.scores[score.hits].tolist()) == [0.8, 0.9]


def test_false_alarms_on_good_parts_cost_precision() -> None:
    truth = [[[0, 0, 10, 10, 0]], []]
    clean = mean_average_precision_50([[[0, 0, 10, 10, 0.6, 0]], []], truth)
    noisy = mean_average_precision_50([[[0, 0, 10, 10, 0.6, 0]], [[5, 5, 9, 9, 0.7, 0]]], truth)
    assert clean.mean_average_precision_50 == 1.0
    assert noisy.mean_average_precision_50 == 0.5


def test_class_without_truth_has_no_average_precision() -> None:
    score = mean_average_precision_50([[[0, 0, 5, 5, 0.9, 4]]], [[[0, 0, 5, 5, 2]]])
    assert score.average_precision == {2: 0.0}
    assert score.hits.tolist() == [False]


def test_detections_of_the_wrong_images_are_refused() -> None:
    with pytest.raises(ValueError, match="1 images with detections, 2 with truth"):
        mean_average_precision_50([[]], [[], []])
    with pytest.raises(ValueError, match="no true box"):
        mean_average_precision_50([[], []], [[], []])
    with pytest.raises(ValueError, match="no true box"):
        mean_average_precision_50([], [])


def test_auroc_against_all_pairs() -> None:
    rng = np.random.default_rng(5)
    bad, good = rng.integers(0, 12, 70) / 10, rng.integers(0, 9, 50) / 10
    pairs = (bad[:, None] > good).mean() + 0.5 * (bad[:, None] == good).mean()
    assert auroc(bad, good) == pytest.approx(pairs)
    assert auroc([0.9, 0.8], [0.1]) == 1.0
    assert auroc([0.1], [0.9, 0.8]) == 0.0
    assert auroc([0.5, 0.5], [0.5]) == 0.5


@pytest.mark.parametrize(
    ("bad", "good", "message"),
    [([], [0.1], "0 positives"), ([0.1], [], "0 negatives"), ([float("nan")], [0.1], "NaN")],
)
def test_auroc_refuses_what_it_can_not_rank(
    bad: list[float], good: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        auroc(bad, good)


def test_false_rejects_at_recall_by_hand() -> None:
    bad = [0.9] * 98 + [0.4, 0.1]
    assert false_rejects_at_recall(bad, [0.05, 0.2, 0.4, 0.5], 0.99) == (0.5, 0.4)
    assert false_rejects_at_recall(bad, [0.05, 0.2, 0.4, 0.5], 1.0) == (0.75, 0.1)
    assert false_rejects_at_recall(bad, [0.05, 0.2, 0.4, 0.5], 0.98) == (0.0, 0.9)


def test_missed_part_counts_as_score_zero() -> None:
    # At a threshold of 0 everything is rejected: no way to 100 % recall without it.
    assert false_rejects_at_recall([0.0, 0.9], [0.0, 0.3], 1.0) == (1.0, 0.0)


def test_false_rejects_refuses_bad_arguments() -> None:
    with pytest.raises(ValueError, match="recall is 0, allowed"):
        false_rejects_at_recall([0.5], [0.1], 0)
    with pytest.raises(ValueError, match="0 negatives"):
        false_rejects_at_recall([0.5], [])
