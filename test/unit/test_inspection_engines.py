"""Engines on the CPU behind one seam: the same answers, the same refusals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tiny_model import build_onnx, card, picture, write_package

from shopfloor.inspection.engines import (
    Engine,
    EngineError,
    EngineInfo,
    EngineOptions,
    load_engine,
)
from shopfloor.inspection.engines.graph import take_bytes
from shopfloor.inspection.engines.onnxruntime import from_bytes
from shopfloor.inspection.letterbox import Letterbox
from shopfloor.inspection.model import ModelPackage, load_model_package
from shopfloor.inspection.parity import batches
from shopfloor.inspection.yolo import OutputError, YoloDecoder

ENGINES = ("onnxruntime", "openvino")
ONNX = build_onnx()
INPUT = card(ONNX)["input"]


def load(
    folder: Path, engine: str, onnx: bytes = ONNX, options: EngineOptions | None = None, **card: Any
) -> tuple[ModelPackage, Engine]:
    package = load_model_package(write_package(folder, onnx, **card))
    return package, load_engine(engine, package, options or EngineOptions())


def detect(package: ModelPackage, engine: Engine, image: Any) -> Any:
    letterbox = Letterbox.of(package.input)
    letterbox(image)
    decoder = YoloDecoder(package.output, score_floor=0.1, nms_iou=0.5)
    return decoder(engine.infer(letterbox.batch)[0])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("layout", ["yolox", "yolov8"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_layouts_and_shapes(tmp_path: Path, engine: str, layout: str, dynamic: bool) -> None:
    onnx = build_onnx(layout=layout, dynamic=dynamic)
    package, loaded = load(tmp_path, engine, onnx, layout=layout)
    found = detect(package, loaded, picture((1, 0, 0, 255), (3, 2, 2, 200)))
    assert found.class_ids.tolist() == [0, 2]
    np.testing.assert_allclose(found.scores, [1.0, (200 - 128) / 127], atol=1e-5)
    np.testing.assert_allclose(found.xyxy, [[32, 0, 64, 32], [96, 64, 128, 96]], atol=1e-3)
    assert loaded.describe().precision == "float32"


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_model_that_takes_bytes_gives_the_same(
    tmp_path: Path, normalised: bool, dynamic: bool
) -> None:
    wants = {"scale": 1.5, "mean": [10.0, 20.0, 30.0], "std": [1.1, 0.9, 0.8]}
    given = {**INPUT, "channels": "rgb", **(wants if normalised else {})}
    package, plain = load(tmp_path, "onnxruntime", build_onnx(dynamic=dynamic), input=given)
    changed = onnx.load_model_from_string(package.onnx)
    before = len(changed.graph.node)
    take_bytes(changed, package.input.gain, package.input.offset)
    onnx.checker.check_model(changed, full_check=True)
    assert len(changed.graph.node) == before + (3 if normalised else 1)
    info = EngineInfo("onnxruntime", "float32")
    converting = from_bytes(changed.SerializeToString(), EngineOptions(), info)
    images = [picture((1, 0, 0, 255), (3, 2, 2, 200))]
    (floats,), (pixels,) = (batches(package, images, as_bytes=flag) for flag in (False, True))
    assert pixels.dtype == np.uint8 and floats.dtype == np.float32
    wanted, found = plain.infer(floats)[0], converting.infer(pixels)[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_outputs_belong_to_the_caller(tmp_path: Path, engine: str) -> None:
    _, loaded = load(tmp_path, engine)
    first = loaded.infer(np.full((1, 3, 96, 128), 255, np.float32))[0]
    kept = first.copy()
    loaded.infer(np.zeros((1, 3, 96, 128), np.float32))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("engine", ENGINES)
def test_refuses_what_does_not_fit_the_card(tmp_path: Path, engine: str) -> None:
    cases: dict[str, dict[str, Any]] = {
        r"model\.onnx: output tensor 'output' has shape \[1, 252, 8\].* 2 classes": {
            "classes": ["a", "b"]
        },
        r"input tensor 'images' is float32 \[1, 3, 96, 128\]; .*float32 \[1, 3, 96, 96\]": {
            "input": {**INPUT, "width": 96}
        },
        r"input tensors are \['images'\]; model.yaml says 'data'": {
            "input": {**INPUT, "name": "data"}
        },
    }
    for message, changes in cases.items():
        with pytest.raises(EngineError, match=message):
            load(tmp_path, engine, **changes)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_open_class_count_shows_at_the_first_output(tmp_path: Path, engine: str) -> None:
    """The file does not say how many classes it has: the card is wrong, and the output tells
    (OpenVINO works the shape out when it loads the file)."""
    with pytest.raises((EngineError, OutputError), match=r"has shape \[1, 252, 8\].* 2 classes"):
        detect(*load(tmp_path, engine, build_onnx(dynamic=True), classes=["a", "b"]), picture())


@pytest.mark.parametrize("engine", ENGINES)
def test_a_file_that_is_no_model_and_a_closed_engine(tmp_path: Path, engine: str) -> None:
    with pytest.raises(EngineError, match=r"model\.onnx: .* can't load it"):
        load(tmp_path, engine, b"this is no ONNX file")
    with pytest.raises(EngineError, match=r"model\.onnx: .* can't load it"):
        load(tmp_path, engine, ONNX[: len(ONNX) // 2])
    _, loaded = load(tmp_path, engine)
    with pytest.raises(EngineError, match="failed"):
        loaded.infer(np.zeros((1, 3, 64, 64), np.float32))
    loaded.close()
    loaded.close()
    with pytest.raises(EngineError, match="closed"):
        loaded.infer(np.zeros((1, 3, 96, 128), np.float32))


def test_openvino_computes_in_the_precision_that_is_asked_for(tmp_path: Path) -> None:
    """Left alone it takes bfloat16 where the CPU has it; float32 must be float32 to the last bit
    that ONNX Runtime has."""
    package, engine = load(tmp_path, "openvino", options=EngineOptions(threads=2))
    reference = load_engine("onnxruntime", package, EngineOptions())
    batch = np.random.default_rng(0).uniform(0, 255, (1, 3, 96, 128)).astype(np.float32)
    np.testing.assert_allclose(engine.infer(batch)[0], reference.infer(batch)[0], atol=1e-4)
    with pytest.raises(EngineError, match="no precision 'int4'; allowed: float32"):
        load_engine("openvino", package, EngineOptions(precision="int4"))


def test_a_missing_provider_is_named(tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has the CUDA provider")
    for engine in ("onnxruntime-cuda", "onnxruntime-tensorrt"):
        with pytest.raises(EngineError, match=f"{engine} needs .*ExecutionProvider; .*-gpu"):
            load(tmp_path, engine)


_OUT_OF_MEMORY = """
import resource, sys
import numpy as np
from shopfloor.inspection.engines import EngineError, EngineOptions, load_engine
from shopfloor.inspection.model import load_model_package
package = load_model_package(sys.argv[1])
engine = load_engine(sys.argv[2], package, EngineOptions())
batch = np.zeros((1, 3, 4096, 4096), np.float32)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (16 << 20), used + (16 << 20)))
try:
    engine.infer(batch)
except EngineError as error:
    print("EngineError:", error)
"""


def _hungry() -> bytes:
    """Needs 192 MiB for one step between input and output."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    count = sum((4096 // s) ** 2 for s in (8, 16, 32))
    rows = np.zeros((1, count, 6), np.float32)
    nodes = [
        helper.make_node("Exp", ["images"], ["large"]),
        helper.make_node("ReduceMax", ["large"], ["one"], keepdims=0),
        helper.make_node("Add", ["rows", "one"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "hungry",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 4096, 4096])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, list(rows.shape))],
        [numpy_helper.from_array(rows, "rows")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def test_out_of_memory_is_an_error_of_the_engine(tmp_path: Path) -> None:
    folder = write_package(
        tmp_path, _hungry(), input={"name": "images", "width": 4096, "height": 4096}, classes=["a"]
    )
    done = subprocess.run(
        [sys.executable, "-c", _OUT_OF_MEMORY, str(folder), "onnxruntime"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("EngineError: ONNX Runtime failed:"), done.stdout
