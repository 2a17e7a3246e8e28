"""What `python -m shopfloor.inspection build` does: quantised models and TensorRT plans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime

from shopfloor.inspection.engines import EngineError, EngineInfo, EngineOptions
from shopfloor.inspection.engines.built import Built, built_path, write_built
from shopfloor.inspection.engines.onnxruntime import from_bytes
from shopfloor.inspection.engines.precisions import INT8_FILE, INT8_SYMMETRIC_FILE, int8_key
from shopfloor.inspection.model import ModelPackage
from shopfloor.inspection.offline import LabelledImage, evaluate
from shopfloor.inspection.parity import (
    TOLERANCES,
    batches,
    check_parity,
    parity_pictures,
    reference_outputs,
)
from shopfloor.inspection.pipeline import Inspector
from shopfloor.inspection.quantise import Attempt, search
from shopfloor.inspection.verdict import Criteria
from shopfloor.ros.images import to_bgr8

CALIBRATION_PICTURES = 32
MIN_DEFECTS = 20
"""Fewer say nothing about a loss of 0.02."""


def build_int8(
    package: ModelPackage,
    pictures: Sequence[LabelledImage],
    started: Callable[[str], None],
    attempted: Callable[[Attempt], None],
    *,
    symmetric: bool = False,
) -> tuple[Path, Attempt]:
    """Quantise with some of the pictures, measure on the others, write; raises EngineError.

    started: is told of each step. attempted: of each result. symmetric: for TensorRT.
    """
    good = [picture for picture in pictures if picture.image.size]
    step = max(4, -(-len(good) // CALIBRATION_PICTURES))
    shown = good[::step]
    judged = [picture for index, picture in enumerate(good) if index % step]
    defects = sum(len(picture.truth) for picture in judged)
    if defects < MIN_DEFECTS:
        raise EngineError(
            f"{len(judged)} pictures with {defects} labelled defects are too few to measure int8; "
            f"needed: {MIN_DEFECTS} defects. Give --pictures and --truth; "
            "`python -m shopfloor.sim.pictures --help` draws some"
        )
    _check_classes(package, judged)
    inputs = batches(package, [to_bgr8(p.image, p.encoding) for p in shown])
    started(f"float32 on {len(judged)} pictures")
    float_map50 = _map50(package, package.onnx, "float32", judged)

    shared = batches(package, parity_pictures(package))
    reference = reference_outputs(package, shared)

    def measure(content: bytes) -> tuple[float, str]:
        engine = from_bytes(content, EngineOptions(), EngineInfo("onnxruntime", "int8"))
        try:
            parity = check_parity(package, engine, reference, shared, TOLERANCES["int8"])
        finally:
            engine.close()
        return _map50(package, content, "int8", judged), parity.complaint

    started(f"int8, calibrated on {len(shown)} pictures")
    attempts: list[Attempt] = []

    def note(attempt: Attempt) -> None:
        attempts.append(attempt)
        attempted(attempt)

    content, best = search(package, inputs, float_map50, measure, note, symmetric=symmetric)
    report = {
        "map50_float32": float_map50,
        "map50_int8": best.map50,
        "map50_loss": best.loss,
        "pictures": len(judged),
        "defects": defects,
        "calibration_pictures": len(shown),
        "attempts": [asdict(attempt) for attempt in attempts],
        "made_with": f"onnxruntime {onnxruntime.__version__}, onnx {version('onnx')}",
    }
    path = built_path(package, INT8_SYMMETRIC_FILE if symmetric else INT8_FILE)
    write_built(path, Built(content, int8_key(package), report))
    return path, best


def build_tensorrt(
    package: ModelPackage, precision: str, progress: Callable[[str, int, int], None]
) -> Path:
    """Build and write the plan for this host's GPU; raises EngineError."""
    try:
        from shopfloor.inspection.engines.tensorrt import plan_file
        from shopfloor.inspection.engines.tensorrt_build import build_plan
    except ImportError as error:
        raise EngineError(f"engine tensorrt is not installed on this host: {error}") from error
    from shopfloor.inspection.engines.cuda import open_cuda

    cuda = open_cuda()
    try:
        gpu = cuda.device()
    finally:
        cuda.close()
    built = build_plan(package, precision, gpu, progress)
    path = built_path(package, plan_file(package, precision))
    write_built(path, built)
    return path


def _map50(
    package: ModelPackage, content: bytes, precision: str, pictures: Sequence[LabelledImage]
) -> float:
    engine = from_bytes(content, EngineOptions(), EngineInfo("onnxruntime", precision))
    thresholds = package.thresholds
    criteria = Criteria(fail=thresholds.fail, suspect=thresholds.suspect)
    try:
        figures = evaluate(Inspector(package, engine, criteria), pictures).figures
    finally:
        engine.close()
    return figures.map50


def _check_classes(package: ModelPackage, pictures: Sequence[LabelledImage]) -> None:
    for picture in pictures:
        labels = picture.truth[:, 4] if len(picture.truth) else np.empty(0)
        if ((labels < 0) | (labels >= len(package.classes))).any():
            raise EngineError(
                f"{picture.name}: has class {labels.max():g}; {package.name} has 0 to "
                f"{len(package.classes) - 1}"
            )
