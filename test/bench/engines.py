"""Engines in turns on this machine, one thread each, and what surrounds them: pre and post.

./run bench engines                      the server model, about 2 minutes
./run bench engines --model surface_nano/1 surface_server/1
./run bench engines --quick              short runs, for a first look
./run bench engines --onnx yolox_s.onnx  an ONNX file with surface_nano's classes and input as well;
                                         its int8 is timed, not judged
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from rich.progress import track
from table import Results

from shopfloor.inspection.build import build_int8
from shopfloor.inspection.detections import Detections
from shopfloor.inspection.engines import Engine, EngineError, EngineOptions, load_engine
from shopfloor.inspection.engines.built import Built, built_path, write_built
from shopfloor.inspection.engines.precisions import INT8_FILE, int8_key
from shopfloor.inspection.letterbox import Letterbox
from shopfloor.inspection.model import ModelPackage, load_model_package
from shopfloor.inspection.offline import LabelledImage
from shopfloor.inspection.parity import (
    TOLERANCES,
    batches,
    check_parity,
    parity_pictures,
    reference_outputs,
)
from shopfloor.inspection.quantise import quantise
from shopfloor.inspection.yolo import OutputLayout, YoloDecoder
from shopfloor.ros.paths import model_folder
from shopfloor.sim.parts import render

Image = npt.NDArray[np.uint8]
BASELINE = ("onnxruntime", "float32")
LIMITS = {"bfloat16": "<= 0.65 on the server model", "int8": "<= 0.45 on the server model"}
BLOCK = 4
"""Inferences of one engine before it is the next one's turn."""

SEED = 60_000_000


def ms(values: list[float], percentile: float) -> float:
    """A percentile of seconds, in milliseconds."""
    return 1e3 * float(np.percentile(values, percentile))


def labelled(count: int, size_px: int) -> list[LabelledImage]:
    """Simulated parts with their defects; for a small input the window around the first defect."""
    made = []
    for index in range(count):
        for kind in ("board", "steel"):
            part = render(kind, SEED + index)
            truth = np.column_stack([part.boxes, part.classes]).astype(np.float64)
            room = max(0, part.image.shape[0] - size_px)
            corner = np.zeros(2)
            if len(truth):
                corner = np.clip((truth[0, :2] + truth[0, 2:4] - size_px) // 2, 0, room)
            x, y = (int(value) for value in corner)
            truth[:, :4] -= (x, y, x, y)
            centres = (truth[:, :2] + truth[:, 2:4]) / 2
            truth = truth[((centres > 0) & (centres < size_px)).all(axis=1)]
            truth[:, :4] = truth[:, :4].clip(0, size_px)
            window = np.ascontiguousarray(part.image[y : y + size_px, x : x + size_px])
            made.append(LabelledImage(f"{kind}_{index}", window, "bgr8", truth))
    return made


def make_int8(package: ModelPackage, parts: int, *, judged: bool) -> str:
    """Quantise into the cache folder; returns what came of it."""
    pictures = labelled(parts, max(package.input.width, package.input.height))
    refusal = "mAP50 not judged"
    if judged:
        try:
            _, best = build_int8(package, pictures, lambda _: None, lambda _: None)
        except EngineError as error:
            refusal = f"would not serve: {error}"
        else:
            return f"mAP50 loss {best.loss:+.3f}, float32 up to stride {best.float_stride}"
    inputs = batches(package, [picture.image for picture in pictures])
    content, _ = quantise(package, inputs, float_stride=4)
    write_built(
        built_path(package, INT8_FILE), Built(content, int8_key(package), {"map50_loss": 0.0})
    )
    return f"float32 up to stride 4, {refusal}"


def engines(results: Results, package: ModelPackage, rounds: int, notes: dict[str, str]) -> None:
    """Time every engine that runs here, in turns, so that the machine's moods hit all alike."""
    name = f"{package.name}/{package.version}"
    pictures = parity_pictures(package)
    inputs = {bytes_: batches(package, pictures, as_bytes=bytes_) for bytes_ in (False, True)}
    reference = reference_outputs(package, inputs[False])
    loaded: dict[tuple[str, str], Engine] = {}
    for engine, precision in (
        BASELINE, ("openvino", "float32"), ("openvino", "bfloat16"),
        ("openvino", "int8"), ("tensorrt", "float16"), ("onnxruntime-cuda", "float32"),
    ):  # fmt: skip
        try:
            made = load_engine(engine, package, EngineOptions(1, precision))
        except EngineError as error:
            print(f"left out: {name} on {engine} {precision}: {error}")
            continue
        loaded[engine, precision] = made
        given = inputs[made.takes_bytes]
        found = check_parity(package, made, reference, given, TOLERANCES[precision])
        if precision != "float32":
            note = f"score off by {found.score:.3f}, overlap {found.iou:.2f}"
            notes[f"{engine} {precision}"] = f"{note}; {notes.get(precision, '')}".rstrip("; ")
    times: dict[tuple[str, str], list[float]] = {key: [] for key in loaded}
    for turn in track(range(rounds), description=name):
        for key, made in loaded.items():
            shown = inputs[made.takes_bytes]
            made.infer(shown[0])  # its weights are out of the cache
            for index in range(BLOCK):
                started = time.perf_counter()
                made.infer(shown[(turn + index) % len(shown)])
                times[key].append(time.perf_counter() - started)
    base = ms(times[BASELINE], 50)
    for (engine, precision), seconds in times.items():
        label = f"{engine} {precision}"
        results.add(
            f"{name} {label}", ms(seconds, 50), "ms p50",
            None if (engine, precision) == BASELINE else base,
            LIMITS.get(precision, "") if engine == "openvino" else "",
            f"p99 {ms(seconds, 99):.1f} ms; {notes.get(label, '')}".rstrip("; "),
        )  # fmt: skip
        loaded[engine, precision].close()


def plain_preprocess(image: Image, width: int, height: int) -> npt.NDArray[np.float32]:
    """As YOLOX's demo does it: a new array each time, transposed."""
    scale = min(height / image.shape[0], width / image.shape[1])
    size = int(image.shape[1] * scale), int(image.shape[0] * scale)
    padded = np.full((height, width, 3), 114, np.uint8)
    padded[: size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(padded.transpose(2, 0, 1)[None], dtype=np.float32)


def plain_postprocess(output: npt.NDArray[np.float32], floor: float) -> Any:
    """As YOLOX's demo does it: boxes and scores of all candidates, then the floor."""
    rows = output[0]
    corners = np.concatenate(
        [rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], axis=1
    )
    scores = rows[:, 4:5] * rows[:, 5:]
    best = scores.argmax(axis=1)
    top = scores[np.arange(len(best)), best]
    kept = top > floor
    boxes = np.concatenate([corners[kept, :2], corners[kept, 2:] - corners[kept, :2]], axis=1)
    return cv2.dnn.NMSBoxesBatched(
        boxes.astype(np.float64), top[kept], best[kept].astype(np.int32), floor, 0.5
    )


def around(results: Results, package: ModelPackage, seconds: float) -> None:
    """Letterbox and decoding of 1080p pictures, with the model's own outputs in between."""
    images = [
        cv2.resize(render(kind, SEED + index, 1080).image, (1920, 1080))
        for index in range(4)
        for kind in ("board", "steel")
    ]
    engine = load_engine("onnxruntime", package, EngineOptions())
    outputs = []
    letterbox = Letterbox.of(package.input)
    for image in images:
        letterbox(image)
        outputs.append(engine.infer(letterbox.batch)[0])
    engine.close()
    decoder = YoloDecoder(package.output, score_floor=0.05, nms_iou=0.5, max_detections=100)
    form = package.input
    _compare(
        results, f"pre + post, 1080p, {form.width} px, {len(package.classes)} classes", seconds,
        images, outputs, letterbox, decoder,
    )  # fmt: skip
    many = OutputLayout("yolox", decoded=True, input_width=640, input_height=640, classes=80)
    rng = np.random.default_rng(0)
    crowded = []
    for _ in images:
        rows = rng.random(many.shape, np.float32)
        rows[..., :2] *= 600
        rows[..., 2:4] *= 100
        rows[..., 4] **= 40  # about 7 % of the candidates reach the floor
        crowded.append(rows)
    decoder = YoloDecoder(many, score_floor=0.05, nms_iou=0.5, max_detections=100)
    _compare(
        results, "pre + post, 1080p, 640 px, 80 classes, 600 candidates", seconds,
        images, crowded, Letterbox(640, 640), decoder,
    )  # fmt: skip


def _compare(
    results: Results,
    key: str,
    seconds: float,
    images: list[Image],
    outputs: list[npt.NDArray[np.float32]],
    letterbox: Letterbox,
    decoder: YoloDecoder,
) -> None:
    def ours(index: int) -> Detections:
        letterbox(images[index])
        return decoder(outputs[index])

    def plain(index: int) -> Any:
        plain_preprocess(images[index], letterbox.width, letterbox.height)
        return plain_postprocess(outputs[index], decoder.score_floor)

    mine, theirs = _turns([ours, plain], len(images), seconds)
    results.add(f"{key} p50", ms(mine, 50), "ms", ms(theirs, 50), "", "baseline: YOLOX's demo code")
    results.add(f"{key} p99", ms(mine, 99), "ms", ms(theirs, 99), "<= 1.5 ms", f"{len(mine)} runs")


def _turns(works: list[Callable[[int], Any]], count: int, seconds: float) -> list[list[float]]:
    times: list[list[float]] = [[] for _ in works]
    end = time.perf_counter() + seconds
    index = 0
    while time.perf_counter() < end:
        for work, kept in zip(works, times, strict=True):
            started = time.perf_counter()
            work(index % count)
            kept.append(time.perf_counter() - started)
        index += 1
    return [kept[10:] for kept in times]


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="short runs, for a first look")
    parser.add_argument("--model", nargs="+", default=["surface_server/1"], help="model packages")
    parser.add_argument("--onnx", type=Path, nargs="+", default=[], help="further ONNX files")
    args = parser.parse_args()
    rounds = 4 if args.quick else 10
    results = Results("engines")
    nano = load_model_package(model_folder("surface_nano/1"))
    around(results, nano, 4.0 if args.quick else 10.0)
    packages: list[tuple[ModelPackage, bool]] = []
    for model in args.model:
        try:
            packages.append((load_model_package(model_folder(model)), True))
        except FileNotFoundError as error:
            print(f"left out: {error}")
    for path in args.onnx:
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        other = replace(nano, name=path.stem, path=path, onnx=content, sha256=digest)
        packages.append((other, False))
    with tempfile.TemporaryDirectory(prefix="shopfloor-bench-") as cache:
        os.environ["SHOPFLOOR_CACHE_DIR"] = cache
        for package, judged in packages:
            parts = 10 if args.quick else 40
            notes = {"int8": make_int8(package, parts, judged=judged)}
            engines(results, package, rounds, notes)
    results.finish()


if __name__ == "__main__":
    main()
