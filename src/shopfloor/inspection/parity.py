"""The parity gate: an engine serves only when it agrees with the ONNX reference.

The reference is ONNX Runtime in float32 on the CPU. Both run the pictures that lie beside the
models, and every candidate is compared, before non-maximum suppression can hide a difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from shopfloor.inspection.engines import Batch, Engine, EngineError, EngineOptions, load_engine
from shopfloor.inspection.letterbox import Letterbox
from shopfloor.inspection.metrics import paired_iou
from shopfloor.inspection.model import ModelPackage
from shopfloor.inspection.yolo import OutputError, YoloDecoder
from shopfloor.ros.paths import models_folder

REFERENCE = "onnxruntime"
FOLDER = "parity"
"""Of pictures: in the package, else in the folder of all models."""

PICTURES = (".jpg", ".png")
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What an engine may differ by.

    score: largest difference of any class score of any candidate. iou: least overlap of the boxes
    of candidates that make a part suspect.
    """

    score: float
    iou: float


TOLERANCES = {
    "float32": Tolerance(0.002, 0.99),
    "float16": Tolerance(0.02, 0.95),
    "bfloat16": Tolerance(0.1, 0.9),
    "int8": Tolerance(0.5, 0.5),
}
"""By precision: about twice what was measured on the shipped models, see docs/engines.md."""


@dataclass(frozen=True, slots=True)
class Parity:
    """The largest differences over all pictures, and what is wrong with them; empty: nothing.

    candidates: how many candidates' boxes were compared.
    """

    score: float
    iou: float
    candidates: int
    complaint: str


def parity_pictures(package: ModelPackage) -> list[npt.NDArray[np.uint8]]:
    """The pictures for this package as BGR; raises EngineError where there are none."""
    folders = (package.path.parent / FOLDER, models_folder() / FOLDER)
    for folder in folders:
        paths = sorted(p for p in folder.glob("*") if p.suffix in PICTURES)
        if paths:
            return [_read(path) for path in paths]
    raise EngineError(
        f"{package.path}: no picture to compare engines on; put {' or '.join(PICTURES)} files "
        f"into {folders[0]}"
    )


def batches(
    package: ModelPackage, pictures: Sequence[npt.NDArray[np.uint8]], *, as_bytes: bool = False
) -> list[Batch]:
    """The pictures as the network takes them; as_bytes: as `Engine.takes_bytes` says."""
    letterbox = Letterbox.of(package.input, as_bytes=as_bytes)
    made: list[Batch] = []
    for picture in pictures:
        letterbox(picture)
        made.append(letterbox.batch.copy())
    return made


def check_parity(
    package: ModelPackage,
    engine: Engine,
    reference: Sequence[Floats],
    inputs: Sequence[Batch],
    tolerance: Tolerance,
    is_reference: bool = False,
) -> Parity:
    """Compare `engine` on `inputs` with the `reference` outputs; raises EngineError.

    inputs: `batches` as this engine takes them.
    is_reference: it agrees with itself also where the pictures show nothing to compare.
    """
    decoder = YoloDecoder(package.output, score_floor=0.0, nms_iou=1.0)
    worst_score, worst_iou, count = 0.0, 1.0, 0
    for batch, expected in zip(inputs, reference, strict=True):
        try:
            wanted_boxes, wanted = decoder.candidates(expected)
            boxes, scores = decoder.candidates(engine.infer(batch)[0])
        except OutputError as error:
            return Parity(float("nan"), float("nan"), count, str(error))
        worst_score = max(worst_score, float(np.abs(scores - wanted).max(initial=0.0)))
        shown = wanted.max(axis=1) >= package.thresholds.suspect
        overlaps = paired_iou(boxes[shown], wanted_boxes[shown])
        worst_iou = min(worst_iou, float(overlaps.min(initial=1.0)))
        count += int(shown.sum())
    complaint = ""
    if not count and not is_reference:
        # An engine that answers nothing at all would pass on them.
        complaint = (
            f"the reference finds nothing from {package.thresholds.suspect:g} up in the "
            f"{len(inputs)} pictures, so they tell nothing; put some with defects into "
            f"{package.path.parent / FOLDER}"
        )
    elif not worst_score <= tolerance.score:
        complaint = f"a score is off by {worst_score:.4f}; allowed: {tolerance.score:g}"
    elif not worst_iou >= tolerance.iou:
        complaint = f"a box overlaps by {worst_iou:.3f} only; allowed: {tolerance.iou:g}"
    return Parity(worst_score, worst_iou, count, complaint)


def reference_outputs(package: ModelPackage, inputs: Sequence[Batch]) -> list[Floats]:
    """What the reference engine answers; raises EngineError."""
    engine = load_engine(REFERENCE, package, EngineOptions())
    try:
        return [engine.infer(batch)[0] for batch in inputs]
    finally:
        engine.close()


def open_engine(name: str, package: ModelPackage, options: EngineOptions) -> Engine:
    """Load an engine that may serve; raises EngineError where it fails or differs.

    Any number of threads of the reference engine itself passes without a comparison.
    """
    engine = load_engine(name, package, options)
    precision = engine.describe().precision
    if name == REFERENCE and precision == "float32":
        return engine
    try:
        pictures = parity_pictures(package)
        reference = reference_outputs(package, batches(package, pictures))
        inputs = batches(package, pictures, as_bytes=engine.takes_bytes)
        found = check_parity(package, engine, reference, inputs, TOLERANCES[precision])
        if found.complaint:
            raise EngineError(
                f"{package.name}/{package.version}: {engine.describe().name} in {precision} "
                f"does not agree with the reference: {found.complaint}; it will not serve"
            )
    except BaseException:
        engine.close()
        raise
    return engine


def _read(path: Path) -> npt.NDArray[np.uint8]:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise EngineError(f"{path}: can't be read as a picture")
    return np.asarray(picture, dtype=np.uint8)
