"""Evaluate a model on pictures with the same code that inspects them in the graph.

python -m shopfloor.inspection.offline surface_nano/1 PICTURES --truth BOXES
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from shopfloor.inspection.detections import Detections
from shopfloor.inspection.engines import BACKENDS, PRECISIONS, EngineError, EngineOptions
from shopfloor.inspection.metrics import (
    auroc,
    false_rejects_at_recall,
    mean_average_precision_50,
)
from shopfloor.inspection.model import ModelError, load_model_package
from shopfloor.inspection.parameters import InspectorParameters
from shopfloor.inspection.parity import open_engine
from shopfloor.inspection.pipeline import InspectionOutcome, Inspector
from shopfloor.inspection.verdict import Criteria, Reason
from shopfloor.inspection.yolo import OutputError
from shopfloor.ros.paths import model_folder

AnyImage = npt.NDArray[np.generic]
Rows = npt.NDArray[np.float64]

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImage:
    """One picture and what is wrong with the part on it.

    truth: (M, 5) rows of x1, y1, x2, y2 in pixels and class id; no row: a good part.
    """

    name: str
    image: AnyImage
    encoding: str
    truth: Rows


@dataclass(frozen=True, slots=True)
class Figures:
    """How good the detections are; NaN where the pictures can't tell.

    map50: mean over classes of the average precision at an overlap of 0.5. auroc: pass/fail, by
    the best score of each part. false_rejects: share of good parts above `threshold`, which
    catches 99 % of the bad ones. class_ap50: by class name.
    """

    good: int
    bad: int
    map50: float
    auroc: float
    false_rejects: float
    threshold: float
    class_ap50: dict[str, float]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures over all pictures that could be read, verdicts, and milliseconds per stage."""

    figures: Figures
    verdicts: dict[str, int]
    unreadable: tuple[str, ...]
    stages_p50_ms: dict[str, float]
    stages_p99_ms: dict[str, float]


def detection_rows(detections: Detections) -> Rows:
    """(N, 6) rows of x1, y1, x2, y2, score, class id, as `metrics` takes them."""
    return np.column_stack([detections.xyxy, detections.scores, detections.class_ids]).astype(
        np.float64
    )


def figures(found: Sequence[Rows], truths: Sequence[Rows], classes: Sequence[str]) -> Figures:
    """Figures of detections (N, 6) against truths (M, 5), one pair a picture."""
    top = [float(rows[:, 4].max()) if len(rows) else 0.0 for rows in found]
    bad = [score for score, truth in zip(top, truths, strict=True) if len(truth)]
    good = [score for score, truth in zip(top, truths, strict=True) if not len(truth)]
    map50, area, rejects, threshold = (float("nan"),) * 4
    by_class: dict[str, float] = {}
    if bad:
        score = mean_average_precision_50(found, truths)
        map50 = score.mean_average_precision_50
        by_class = {classes[label]: ap for label, ap in score.average_precision.items()}
    if bad and good:
        area = auroc(bad, good)
        rejects, threshold = false_rejects_at_recall(bad, good)
    return Figures(len(good), len(bad), map50, area, rejects, threshold, by_class)


def evaluate(inspector: Inspector, images: Iterable[LabelledImage]) -> Evaluation:
    """Inspect each picture once, in order."""
    outcomes: list[InspectionOutcome] = []
    truths: list[Rows] = []
    unreadable: list[str] = []
    for item in images:
        outcome = inspector.inspect(item.image, item.encoding)
        if outcome.decision.reason is Reason.FRAME_INVALID:
            unreadable.append(f"{item.name}: {outcome.decision.text}")
            continue
        outcomes.append(outcome)
        truths.append(item.truth)
    stages = list(dict.fromkeys(name for o in outcomes for name in o.stages_ms))
    times = {name: [o.stages_ms[name] for o in outcomes if name in o.stages_ms] for name in stages}
    return Evaluation(
        figures=figures(
            [detection_rows(o.detections) for o in outcomes], truths, inspector.package.classes
        ),
        verdicts=dict(Counter(o.decision.verdict.value for o in outcomes)),
        unreadable=tuple(unreadable),
        stages_p50_ms={name: float(np.percentile(ms, 50)) for name, ms in times.items()},
        stages_p99_ms={name: float(np.percentile(ms, 99)) for name, ms in times.items()},
    )


def load_inspector(
    model: str, engine: str = "onnxruntime", threads: int = 1, precision: str = ""
) -> Inspector:
    """The inspector of `NAME/VERSION` or of a package's folder, as a node has it by default.

    Raises FileNotFoundError, ModelError, EngineError or OutputError.
    """
    defaults = InspectorParameters()
    package = load_model_package(model_folder(model))
    loaded = open_engine(engine, package, EngineOptions(threads, precision))
    thresholds = package.thresholds
    criteria = Criteria(fail=thresholds.fail, suspect=thresholds.suspect)
    return Inspector(
        package,
        loaded,
        criteria,
        score_floor=defaults.score_floor,
        max_detections=defaults.max_detections,
    )


def read_truth(path: Path, first_class: int = 0) -> Rows:
    """Rows of `x1 y1 x2 y2 class` from a text file, classes counted from `first_class`.

    Raises ValueError naming file and line.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        fields = line.replace(",", " ").split()
        if not fields:
            continue
        try:
            x1, y1, x2, y2, label = (float(field) for field in fields)
        except ValueError:
            raise ValueError(f"{path}:{number}: {line!r} is no 'x1 y1 x2 y2 class'") from None
        rows.append((x1, y1, x2, y2, label - first_class))
    return np.array(rows, dtype=np.float64).reshape(-1, 5)


def labelled_images(
    pictures: Path, truth: Path | None, first_class: int = 0
) -> Iterator[LabelledImage]:
    """The pictures of a folder by name; without a file of the same name in `truth`, a good part.

    A picture that can't be read comes as an empty one, so that the evaluation names it.
    """
    for path in sorted(p for p in pictures.iterdir() if p.suffix.lower() in PICTURES):
        image: AnyImage | None = cv2.imread(str(path), cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
        boxes: Rows = np.empty((0, 5))
        if truth is not None and (truth / f"{path.stem}.txt").exists():
            boxes = read_truth(truth / f"{path.stem}.txt", first_class)
        if image is None:
            yield LabelledImage(path.name, np.empty((0, 0), np.uint8), "mono8", boxes)
            continue
        grey = "mono8" if image.dtype == np.uint8 else "mono16"
        yield LabelledImage(path.name, image, "bgr8" if image.ndim == 3 else grey, boxes)


def _table(evaluation: Evaluation) -> str:
    f = evaluation.figures
    lines = [f"pictures: {f.bad} bad, {f.good} good, {len(evaluation.unreadable)} unreadable"]
    lines += [f"  {text}" for text in evaluation.unreadable]
    lines.append("verdicts: " + ", ".join(f"{n} {v}" for v, n in evaluation.verdicts.items()))
    if f.bad:
        lines.append(f"mAP50: {f.map50:.4f}")
        lines += [f"  {name}: {ap:.4f}" for name, ap in f.class_ap50.items()]
    if f.bad and f.good:
        lines.append(f"pass/fail AUROC: {f.auroc:.4f}")
        lines.append(
            f"false rejects at 99 % recall: {100 * f.false_rejects:.2f} % from {f.threshold:.3f} up"
        )
    for name, p50 in evaluation.stages_p50_ms.items():
        lines.append(f"{name}: {p50:.2f} ms p50, {evaluation.stages_p99_ms[name]:.2f} ms p99")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m shopfloor.inspection.offline", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("model", help="NAME/VERSION, or the folder of a model package")
    parser.add_argument("pictures", type=Path, help="folder of pictures")
    parser.add_argument("--truth", type=Path, help="folder with NAME.txt: x1 y1 x2 y2 class")
    parser.add_argument("--first-class", type=int, default=0, help="number of the first class")
    parser.add_argument("--engine", choices=tuple(BACKENDS), default="onnxruntime")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(arguments)
    try:
        inspector = load_inspector(
            options.model, options.engine, options.threads, options.precision
        )
        images = labelled_images(options.pictures, options.truth, options.first_class)
        evaluation = evaluate(inspector, images)
    except (OSError, ModelError, EngineError, OutputError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(_table(evaluation))
    if options.json is not None:
        content: dict[str, Any] = asdict(evaluation)
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
