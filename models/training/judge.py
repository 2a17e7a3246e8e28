"""What a model says about parts, the thresholds for it, and its figures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .data import Sample
from .recipes import Costs

from shopfloor.inspection.metrics import (  # isort: skip
    auroc,
    average_precision,
    false_rejects_at_recall,
    match_detections,
    mean_average_precision_50,
    precision_recall,
)
from shopfloor.inspection.pipeline import Inspector  # isort: skip

Floats = npt.NDArray[np.float64]

SCORE_FLOOR = 0.05  # the product's default: detections below are not reported
RESAMPLES = 200  # of the parts, for the interval of a mAP
MARGIN = 0.005  # scores differ in the last digits between machines


@dataclass(frozen=True)
class Inspected:
    """What the model says about a set of parts, and the truth.

    detections (N, 6) and truth (M, 5) per part; top is the highest score, 0 without a detection.
    """

    detections: list[Floats]
    truths: list[npt.NDArray[np.float32]]
    infer_ms: Floats
    total_ms: Floats

    @property
    def top(self) -> Floats:
        return np.array([d[:, 4].max(initial=0.0) for d in self.detections])

    @property
    def bad(self) -> npt.NDArray[np.bool_]:
        return np.array([len(t) > 0 for t in self.truths])


def inspect_parts(inspector: Inspector, parts: Sequence[Sample]) -> Inspected:
    """Run the inspector over parts, one at a time."""
    detections, infer, total = [], [], []
    for part in parts:
        started = time.perf_counter()
        encoding = "mono8" if part.image.ndim == 2 else "bgr8"
        outcome = inspector.inspect(part.image, encoding)
        total.append((time.perf_counter() - started) * 1e3)
        infer.append(outcome.stages_ms["infer"])
        found = outcome.detections
        columns = [found.xyxy, found.scores[:, None], found.class_ids[:, None]]
        detections.append(np.concatenate(columns, axis=1).astype(np.float64))
    truths = [np.asarray(part.boxes) for part in parts]
    return Inspected(detections, truths, np.array(infer), np.array(total))


def cost_of(sets: Sequence[Inspected], costs: Costs, fail: float, suspect: float) -> float:
    """Expected cost of a part, mean over the sets."""
    shares = []
    for s in sets:
        bad, good = s.top[s.bad], s.top[~s.bad]
        accepted, bad_review = np.mean(bad < suspect), np.mean((bad >= suspect) & (bad < fail))
        rejected, good_review = np.mean(good >= fail), np.mean((good >= suspect) & (good < fail))
        bad_cost = costs.false_accept * accepted + costs.review * bad_review
        good_cost = costs.false_reject * rejected + costs.review * good_review
        shares.append(costs.defective * bad_cost + (1 - costs.defective) * good_cost)
    return float(np.mean(shares))


def thresholds_by_cost(sets: Sequence[Inspected], costs: Costs) -> tuple[float, float]:
    """Fail and suspect thresholds of the least expected cost on validation sets.

    Where a range of thresholds costs the same, its middle: the least that an unlucky part is off.
    """
    steps = np.round(np.arange(SCORE_FLOOR, 0.991, 0.01), 3)
    rejects, suspects_too = (np.zeros(len(steps)) for _ in range(2))
    for s in sets:
        # Shares of the parts that score at least a step; an accepted one scores less.
        bad, good = (np.mean(s.top[mask][:, None] >= steps, axis=0) for mask in (s.bad, ~s.bad))
        sound = 1 - costs.defective
        rejects += sound * (costs.false_reject - costs.review) * good
        rejects -= costs.defective * costs.review * bad
        suspects_too += costs.review * (sound * good + costs.defective * bad)
        suspects_too += costs.defective * costs.false_accept * (1 - bad)
    table = rejects[:, None] + suspects_too
    table[np.triu_indices(len(steps), 1)] = np.inf  # suspect is at most fail
    best = table <= table.min() + 1e-9
    fails = np.flatnonzero(best.any(1))
    fail_at = int(fails[len(fails) // 2])
    suspects = np.flatnonzero(best[fail_at])
    return float(steps[fail_at]), float(steps[suspects[len(suspects) // 2]])


def thresholds_by_boxes(result: Inspected) -> tuple[float, float]:
    """Fail and suspect thresholds where no good part is at hand: from the boxes alone.

    fail: of the best F1 over all boxes. suspect: the highest score that still finds 95 % of the
    boxes that are found at the score floor.
    """
    score = mean_average_precision_50(result.detections, result.truths)
    precision, recall, cut = precision_recall(score.scores, score.hits, sum(score.n_truth.values()))
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    fail = float(cut[int(f1.argmax())]) - MARGIN
    suspect = float(cut[int(np.argmax(recall >= 0.95 * recall[-1]))]) - MARGIN
    suspect = max(min(suspect, fail), SCORE_FLOOR)
    return round(max(fail, suspect), 3), round(suspect, 3)


def interval_of_map50(result: Inspected, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mAP50 by drawing the parts anew, with replacement."""
    labels = np.unique(np.concatenate([t[:, 4] for t in result.truths]))
    rows: list[list[tuple[Floats, npt.NDArray[np.bool_], int]]] = []
    for found, truth in zip(result.detections, result.truths, strict=True):
        part = []
        for label in labels:
            d, t = found[found[:, 5] == label], truth[truth[:, 4] == label]
            hits = match_detections(d[:, :4], d[:, 4], t[:, :4])
            part.append((d[:, 4], hits, len(t)))
        rows.append(part)
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(RESAMPLES):
        drawn = [rows[i] for i in rng.integers(len(rows), size=len(rows))]
        scores = []
        for k in range(len(labels)):
            count = sum(part[k][2] for part in drawn)
            if count:
                hit = np.concatenate([part[k][1] for part in drawn])
                scores.append(
                    average_precision(np.concatenate([part[k][0] for part in drawn]), hit, count)
                )
        if scores:
            values.append(np.mean(scores))
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def figures(
    result: Inspected, classes: Sequence[str], fail: float, suspect: float
) -> dict[str, Any]:
    """Detection figures of a set, and pass/fail figures where it has good parts."""
    score = mean_average_precision_50(result.detections, result.truths)
    bad, good = result.top[result.bad], result.top[~result.bad]
    found: dict[str, Any] = {
        "parts": {"bad": len(bad), "good": len(good), "defects": sum(score.n_truth.values())},
        "map50": round(score.mean_average_precision_50, 4),
        "map50_95_percent": [round(v, 3) for v in interval_of_map50(result)],
        "ap50": {classes[k]: round(v, 4) for k, v in score.average_precision.items()},
        "bad_failed": round(float(np.mean(bad >= fail)), 4),
        "bad_suspect": round(float(np.mean((bad >= suspect) & (bad < fail))), 4),
        "bad_passed": round(float(np.mean(bad < suspect)), 4),
    }
    if len(good):
        share, at = false_rejects_at_recall(bad, good, 0.99)
        found |= {
            "auroc": round(auroc(bad, good), 5),
            "false_rejects_at_99_recall": round(share, 4),
            "threshold_at_99_recall": round(at, 3),
            "good_failed": round(float(np.mean(good >= fail)), 4),
            "good_suspect": round(float(np.mean((good >= suspect) & (good < fail))), 4),
        }
    return found
