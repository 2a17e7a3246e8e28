"""Figures of a model package, through the product's own inspector and ONNX Runtime.

`python -m models.training.evaluate --help`. Thresholds are chosen on validation parts only; the
test parts are looked at once they stand. With --write both go into the package's model.yaml.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from rich.console import Console
from rich.table import Table

from . import REPO_ROOT
from .data import (
    CLASSES,
    TEST_SEEDS,
    VALIDATION_SEEDS,
    Sample,
    data_folder,
    deeppcb_split,
    load_pairs,
    pair_parts,
    simulated_parts,
)
from .export import CARD, PACKAGE, write_card
from .readme import write_readme

from shopfloor.inspection.engines import EngineOptions, load_engine  # isort: skip
from shopfloor.inspection.metrics import (  # isort: skip
    auroc,
    false_rejects_at_recall,
    mean_average_precision_50,
)
from shopfloor.inspection.model import load_model_package  # isort: skip
from shopfloor.inspection.pipeline import Inspector  # isort: skip
from shopfloor.inspection.verdict import Criteria  # isort: skip

SCORE_FLOOR = 0.05  # the product's default: detections below are not reported
CAUGHT = 0.99  # share of defective validation parts that must be suspect at least
REJECTED = 0.02  # share of a validation set's good parts that may fail


@dataclass(frozen=True)
class Inspected:
    """What the model says about a set of parts, and the truth.

    detections (N, 6) and truth (M, 5) per part; top is the highest score, 0 without a detection.
    """

    detections: list[npt.NDArray[np.float64]]
    truths: list[npt.NDArray[np.float32]]
    infer_ms: npt.NDArray[np.float64]
    total_ms: npt.NDArray[np.float64]

    @property
    def top(self) -> npt.NDArray[np.float64]:
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


def choose_thresholds(sets: Sequence[Inspected]) -> tuple[float, float]:
    """Fail and suspect thresholds from validation sets.

    suspect: the highest score that still catches CAUGHT of all defective parts. fail: per set the
    score that at most REJECTED of its good parts reach, and of these the median, so that one odd
    board does not decide for all; at least suspect.
    """
    bad = np.concatenate([s.top[s.bad] for s in sets])
    good = np.concatenate([s.top[~s.bad] for s in sets])
    _, highest = false_rejects_at_recall(bad, good, CAUGHT)
    # A little off the part that sets it: the scores differ in the last digits between machines.
    suspect = max(highest - 0.005, SCORE_FLOOR)
    bounds = []
    for s in sets:
        falling = np.sort(s.top[~s.bad])[::-1]
        bounds.append(float(falling[int(REJECTED * len(falling))]) + 0.005)
    return round(max(float(np.median(bounds)), suspect), 3), round(suspect, 3)


def figures(result: Inspected, fail: float, suspect: float) -> dict[str, Any]:
    """Detection and pass/fail figures of a set."""
    score = mean_average_precision_50(result.detections, result.truths)
    bad, good = result.top[result.bad], result.top[~result.bad]
    share, at = false_rejects_at_recall(bad, good, 0.99)
    return {
        "parts": {"bad": len(bad), "good": len(good), "defects": sum(score.n_truth.values())},
        "map50": round(score.mean_average_precision_50, 4),
        "ap50": {CLASSES[k]: round(v, 4) for k, v in score.average_precision.items()},
        "auroc": round(auroc(bad, good), 5),
        "false_rejects_at_99_recall": round(share, 4),
        "threshold_at_99_recall": round(at, 3),
        "good_failed": round(float(np.mean(good >= fail)), 4),
        "good_suspect": round(float(np.mean((good >= suspect) & (good < fail))), 4),
        "bad_failed": round(float(np.mean(bad >= fail)), 4),
        "bad_suspect": round(float(np.mean((bad >= suspect) & (bad < fail))), 4),
        "bad_passed": round(float(np.mean(bad < suspect)), 4),
    }


def evaluation_sets(folder: Path, simulated: int) -> dict[str, list[Sample]]:
    """Parts by use; the first three are for thresholds, the rest for the published figures."""
    split = deeppcb_split(folder)
    pairs = {use: pair_parts(load_pairs(folder, split[use])) for use in split if use != "train"}
    half = max(simulated // 2, 1)
    return {
        "validation_deeppcb": pairs["validation"],
        "validation_board": simulated_parts("board", VALIDATION_SEEDS, half),
        "validation_steel": simulated_parts("steel", VALIDATION_SEEDS, half),
        "deeppcb": pairs["test"],
        "deeppcb_same_board": pairs["same_board"],
        "simulated_board": simulated_parts("board", TEST_SEEDS, simulated),
        "simulated_steel": simulated_parts("steel", TEST_SEEDS, simulated),
    }


def evaluate(package_folder: Path, data: Path, simulated: int, threads: int) -> dict[str, Any]:
    """Thresholds and figures of a package."""
    package = load_model_package(package_folder)
    engine = load_engine("onnxruntime", package, EngineOptions(threads=threads))
    inspector = Inspector(package, engine, Criteria(fail=1.0, suspect=1.0), score_floor=SCORE_FLOOR)
    sets = evaluation_sets(data, simulated)
    results = {name: inspect_parts(inspector, parts) for name, parts in sets.items()}
    engine.close()
    validation = [r for name, r in results.items() if name.startswith("validation")]
    fail, suspect = choose_thresholds(validation)
    infer = np.concatenate([r.infer_ms for r in results.values()])
    total = np.concatenate([r.total_ms for r in results.values()])
    return {
        "thresholds": {"fail": fail, "suspect": suspect, "nms_iou": package.thresholds.nms_iou},
        "metrics": {
            "score_floor": SCORE_FLOOR,
            **{name: figures(result, fail, suspect) for name, result in results.items()},
            "speed": {
                "engine": inspector.describe().name,
                "threads": threads,
                "infer_ms_p50": round(float(np.median(infer)), 1),
                "inspect_ms_p50": round(float(np.median(total)), 1),
            },
        },
    }


def show(report: dict[str, Any], console: Console) -> None:
    """The figures as a table."""
    columns = ("map50", "auroc", "false_rejects_at_99_recall", "good_failed", "good_suspect",
               "bad_failed", "bad_suspect", "bad_passed")  # fmt: skip
    table = Table("set", "parts", *columns)
    for name, row in report["metrics"].items():
        if isinstance(row, dict) and "map50" in row:
            parts = row["parts"]
            cells = [f"{row[column]:.4f}" for column in columns]
            table.add_row(name, f"{parts['bad']} bad, {parts['good']} good", *cells)
    console.print(table)
    console.print({name: row["ap50"] for name, row in report["metrics"].items()
                   if isinstance(row, dict) and "ap50" in row})  # fmt: skip
    console.print(report["thresholds"], report["metrics"]["speed"])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description="Evaluate a model package on held-out parts.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--package", type=Path, default=PACKAGE)
    parser.add_argument("--data", type=Path, help="data sets; else SHOPFLOOR_DATA, ../shared/data")
    parser.add_argument("--simulated", type=int, default=300, help="test parts of each kind")
    parser.add_argument("--threads", type=int, default=1, help="ONNX Runtime threads")
    parser.add_argument("--write", action="store_true", help="thresholds and figures to model.yaml")
    parser.add_argument(
        "--json", type=Path, default=REPO_ROOT / "build/training/evaluation.json", help="report"
    )
    values = parser.parse_args()
    report = evaluate(values.package, data_folder(values.data), values.simulated, values.threads)
    show(report, Console(width=150))
    values.json.parent.mkdir(parents=True, exist_ok=True)
    values.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if values.write:
        path = values.package / CARD
        card = yaml.safe_load(path.read_text(encoding="utf-8"))
        card.update(report)
        write_card(values.package, card)
        write_readme(values.package, card)


if __name__ == "__main__":
    main()
