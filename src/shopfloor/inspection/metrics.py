"""Detection and pass/fail figures from plain arrays.

Boxes are (N, 4) as x1, y1, x2, y2 in pixels. A detection row is x1, y1, x2, y2, score, class; a
truth row is x1, y1, x2, y2, class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]


def iou_matrix(first: npt.ArrayLike, second: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Intersection over union (N, M) of boxes (N, 4) and (M, 4); 0 where a box has no area."""
    a = np.asarray(first, np.float64).reshape(-1, 4)
    b = np.asarray(second, np.float64).reshape(-1, 4)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inner = np.prod(np.clip(high - low, 0.0, None), axis=2)
    area_a = np.prod(np.clip(a[:, 2:] - a[:, :2], 0.0, None), axis=1)
    area_b = np.prod(np.clip(b[:, 2:] - b[:, :2], 0.0, None), axis=1)
    union = area_a[:, None] + area_b[None, :] - inner
    overlap: npt.NDArray[np.float64] = np.zeros_like(inner)
    np.divide(inner, union, out=overlap, where=union > 0)
    return overlap


def paired_iou(first: npt.ArrayLike, second: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Intersection over union (N,) of the boxes (N, 4) at the same place in both lists."""
    a = np.asarray(first, np.float64).reshape(-1, 4)
    b = np.asarray(second, np.float64).reshape(-1, 4)
    low = np.maximum(a[:, :2], b[:, :2])
    high = np.minimum(a[:, 2:], b[:, 2:])
    inner = np.prod(np.clip(high - low, 0.0, None), axis=1)
    union = sum(np.prod(np.clip(box[:, 2:] - box[:, :2], 0.0, None), axis=1) for box in (a, b))
    union = union - inner
    overlap: npt.NDArray[np.float64] = np.zeros_like(inner)
    np.divide(inner, union, out=overlap, where=union > 0)
    return overlap


def match_detections(
    boxes: npt.ArrayLike, scores: npt.ArrayLike, truth: npt.ArrayLike, iou: float = 0.5
) -> Bools:
    """Which detections of one class in one image are true positives, in the order given.

    By falling score each detection claims the truth box that it overlaps most; it is true if that
    overlap reaches `iou` and the box is not claimed yet (Pascal VOC's rule: a second detection of
    the same defect is a false alarm).
    """
    detected = np.asarray(boxes, np.float64).reshape(-1, 4)
    confidence = np.asarray(scores, np.float64).reshape(-1)
    if len(detected) != len(confidence):
        raise ValueError(f"{len(detected)} boxes but {len(confidence)} scores")
    overlaps = iou_matrix(detected, truth)
    hit = np.zeros(len(detected), bool)
    if overlaps.shape[1] == 0:
        return hit
    claimed = np.zeros(overlaps.shape[1], bool)
    for i in np.argsort(-confidence, kind="stable"):
        best = int(np.argmax(overlaps[i]))
        if overlaps[i, best] >= iou and not claimed[best]:
            claimed[best] = hit[i] = True
    return hit


def precision_recall(
    scores: npt.ArrayLike, hits: npt.ArrayLike, n_truth: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Precision, recall and score threshold, one entry per distinct score, falling threshold.

    Raises ValueError without truth: recall is then undefined.
    """
    if n_truth < 1:
        raise ValueError("recall needs at least one true box")
    unsorted = np.asarray(scores, np.float64).reshape(-1)
    order = np.argsort(-unsorted, kind="stable")
    confidence = unsorted[order]
    true = np.cumsum(np.asarray(hits, bool).reshape(-1)[order])
    # Equal scores are one operating point: no threshold separates them.
    ends = np.flatnonzero(np.append(np.diff(confidence) != 0, True)) if len(order) else order
    counts = ends + 1.0
    return true[ends] / counts, true[ends] / n_truth, confidence[ends]


def average_precision(scores: npt.ArrayLike, hits: npt.ArrayLike, n_truth: int) -> float:
    """Area under the precision-recall curve with precision made monotone (VOC 2010 on).

    `hits` says which of the scored detections, pooled over all images, are true positives.
    Raises ValueError without truth.
    """
    precision, recall, _ = precision_recall(scores, hits, n_truth)
    if not len(precision):
        return 0.0
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


@dataclass(frozen=True)
class DetectionScore:
    """Detection quality over a set of images.

    `average_precision` holds one value per class that occurs in the truth. A class that never
    occurs has none, and its detections count only in `recall` and `precision`'s pooled rows.
    """

    mean_average_precision_50: float
    average_precision: dict[int, float]
    n_truth: dict[int, int]
    scores: npt.NDArray[np.float64]
    hits: Bools


def mean_average_precision_50(
    detections: Sequence[npt.ArrayLike], truths: Sequence[npt.ArrayLike], iou: float = 0.5
) -> DetectionScore:
    """Mean over classes of the average precision at an overlap of 0.5.

    One entry per image in both lists: detections (N, 6), truths (M, 5), either may be empty.
    Raises ValueError when the lists differ in length or hold no true box at all.
    """
    if len(detections) != len(truths):
        raise ValueError(f"{len(detections)} images with detections, {len(truths)} with truth")
    found = [np.asarray(d, np.float64).reshape(-1, 6) for d in detections]
    wanted = [np.asarray(t, np.float64).reshape(-1, 5) for t in truths]
    classes = np.unique(np.concatenate([t[:, 4] for t in wanted])) if wanted else np.zeros(0)
    if not len(classes):
        raise ValueError("no true box in any image")
    seen = np.unique(np.concatenate([classes, *(d[:, 5] for d in found)]))
    per_class: dict[int, float] = {}
    n_truth: dict[int, int] = {}
    all_scores: list[npt.NDArray[np.float64]] = []
    all_hits: list[Bools] = []
    for label in seen:
        scores, hits, count = [], [], 0
        for d, t in zip(found, wanted, strict=True):
            rows, truth = d[d[:, 5] == label], t[t[:, 4] == label]
            scores.append(rows[:, 4])
            hits.append(match_detections(rows[:, :4], rows[:, 4], truth[:, :4], iou))
            count += len(truth)
        all_scores.extend(scores)
        all_hits.extend(hits)
        if count:
            n_truth[int(label)] = count
            per_class[int(label)] = average_precision(
                np.concatenate(scores), np.concatenate(hits), count
            )
    return DetectionScore(
        mean_average_precision_50=float(np.mean(list(per_class.values()))),
        average_precision=per_class,
        n_truth=n_truth,
        scores=np.concatenate(all_scores),
        hits=np.concatenate(all_hits),
    )


def auroc(positive: npt.ArrayLike, negative: npt.ArrayLike) -> float:
    """Probability that a positive scores above a negative, ties counted half (Mann-Whitney).

    Raises ValueError when either side is empty or holds a NaN.
    """
    pos = np.asarray(positive, np.float64).reshape(-1)
    neg = np.sort(np.asarray(negative, np.float64).reshape(-1))
    if not len(pos) or not len(neg):
        raise ValueError(f"needs both sides, got {len(pos)} positives and {len(neg)} negatives")
    if np.isnan(pos).any() or np.isnan(neg).any():
        raise ValueError("a score is NaN")
    below = np.searchsorted(neg, pos, side="left")
    not_above = np.searchsorted(neg, pos, side="right")
    return float(np.sum(below + not_above) / (2.0 * len(pos) * len(neg)))


def false_rejects_at_recall(
    positive: npt.ArrayLike, negative: npt.ArrayLike, recall: float = 0.99
) -> tuple[float, float]:
    """Share of good parts rejected at the highest threshold that still catches `recall` of the bad.

    A part is rejected when its score is at or above the threshold. Returns (share, threshold).
    Raises ValueError when a side is empty or `recall` is not in (0, 1].
    """
    pos = np.sort(np.asarray(positive, np.float64).reshape(-1))[::-1]
    neg = np.asarray(negative, np.float64).reshape(-1)
    if not len(pos) or not len(neg):
        raise ValueError(f"needs both sides, got {len(pos)} positives and {len(neg)} negatives")
    if not 0.0 < recall <= 1.0:
        raise ValueError(f"recall is {recall}, allowed: above 0 and up to 1")
    # The small term keeps 0.99 * 100 at 99 in binary floating point.
    needed = int(np.ceil(recall * len(pos) - 1e-9))
    threshold = float(pos[max(needed, 1) - 1])
    return float(np.mean(neg >= threshold)), threshold
