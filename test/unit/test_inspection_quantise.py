"""int8: what stays in float, what is written, and when it is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_model import CLASSES, build_onnx, picture, write_package

from shopfloor.inspection import build, quantise
from shopfloor.inspection.engines import EngineError, EngineOptions, load_engine
from shopfloor.inspection.engines.graph import (
    after_last_convolution,
    convolutions,
    prediction_convolutions,
)
from shopfloor.inspection.engines.precisions import to_float16
from shopfloor.inspection.model import ModelPackage, load_model_package
from shopfloor.inspection.offline import LabelledImage

CELLS = 252  # of 128 x 96 at strides 8, 16 and 32


def conv_onnx() -> bytes:
    """The answers of `tiny_model`, its mean taken by a chain of strided convolutions.

    Names: halve_2, halve_4 .. halve_32 by the stride of the output, then predict.
    """
    base = onnx.load_model_from_string(build_onnx())
    graph = base.graph
    kernel = np.zeros((3, 3, 2, 2), np.float32)
    for channel in range(3):
        kernel[channel, channel] = 0.25
    nodes, last = [], "images"
    for stride in (2, 4, 8, 16, 32):
        name = f"halve_{stride}"
        nodes.append(
            helper.make_node(
                "Conv", [last, "kernel"], [name], name, kernel_shape=[2, 2], strides=[2, 2]
            )
        )
        last = name
    nodes.append(helper.make_node("Conv", [last, "one"], ["mean"], "predict", kernel_shape=[1, 1]))
    rest = [node for node in graph.node if node.op_type != "AveragePool"]
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
    one = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)
    graph.initializer.extend(
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(one, "one")]
    )
    onnx.checker.check_model(base)
    return bytes(base.SerializeToString())


ONNX = conv_onnx()
NAMES = ["halve_2", "halve_4", "halve_8", "halve_16", "halve_32", "predict"]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelPackage:
    monkeypatch.setenv("SHOPFLOOR_CACHE_DIR", str(tmp_path / "cache"))
    folder = write_package(tmp_path / "package", ONNX)
    (folder / "parity").mkdir()
    cv2.imwrite(str(folder / "parity" / "1.png"), picture((1, 0, 0, 200), (3, 2, 2, 180)))
    return load_model_package(folder)


def labelled(count: int) -> list[LabelledImage]:
    """Pictures with one defect each, of all classes in turn."""
    made = []
    for index in range(count):
        column, row, label = index % 4, index % 3, index % 3
        truth = np.array([[column * 32, row * 32, column * 32 + 32, row * 32 + 32, label]], float)
        image = picture((column, row, label, 180 + index % 70))
        made.append(LabelledImage(f"{index}.png", image, "bgr8", truth))
    return made


def test_where_a_convolution_sits() -> None:
    model = onnx.load_model_from_string(ONNX)
    found = [(node.name, stride) for node, stride in convolutions(model)]
    assert found == list(zip(NAMES, (2, 4, 8, 16, 32, 32), strict=True))
    assert prediction_convolutions(model) == ["predict"]
    tail = [node.op_type for node in after_last_convolution(model)]
    assert tail[0] == "Sub" and tail[-1] == "Transpose" and "Conv" not in tail
    for node in model.graph.node:
        node.name = ""  # an exporter may leave them out
    assert len({node.name for node in after_last_convolution(model)}) == len(tail)


def test_the_early_stages_and_the_predictions_stay_in_float() -> None:
    model = onnx.load_model_from_string(ONNX)
    for stride, kept in ((0, []), (2, NAMES[:1]), (8, NAMES[:3]), (16, NAMES[:4])):
        names, share = quantise.float_nodes(model, stride)
        assert names == sorted([*kept, "predict"])
        assert share == pytest.approx(1 - (len(kept) + 1) / 6)


def test_only_the_others_are_quantised(package: ModelPackage) -> None:
    inputs = [np.full((1, 3, 96, 128), value, np.float32) for value in (0.0, 100.0, 255.0)]
    content, _ = quantise.quantise(package, inputs, float_stride=4, symmetric=True)
    graph = onnx.load_model_from_string(content).graph
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    fed_by = {n.name: made_by.get(n.input[0], "") for n in graph.node if n.op_type == "Conv"}
    quantised = [name for name, kind in fed_by.items() if kind == "DequantizeLinear"]
    assert quantised == ["halve_8", "halve_16", "halve_32"]
    zero_points = [
        numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.INT8 and "zero_point" in tensor.name
    ]
    assert zero_points and not any(zero.any() for zero in zero_points), "TensorRT wants symmetry"


def test_the_first_attempt_that_is_good_enough_is_taken(
    package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {0: 0.30, 2: 0.69, 4: 0.705, 8: 0.72}
    monkeypatch.setattr(
        quantise, "quantise", lambda _package, _inputs, stride, **_: (str(stride).encode(), 0.5)
    )
    told: list[Any] = []

    def measure(content: bytes) -> tuple[float, str]:
        return figures[int(content)], ""

    content, best = quantise.search(package, [], 0.72, measure, told.append)
    assert content == b"4" and best.float_stride == 4 and best.loss == pytest.approx(0.015)
    assert [attempt.float_stride for attempt in told] == [0, 2, 4]
    with pytest.raises(EngineError, match=r"int8 loses 0\.100 mAP50 at best, .*stride 0 in float"):
        quantise.search(package, [], 0.72, lambda _: (0.62, ""), told.append)
    content, best = quantise.search(
        package, [], 0.30, lambda content: (0.30, "differs" if content == b"0" else ""), told.append
    )
    assert content == b"2", "what the gate would refuse is not good enough"
    with pytest.raises(EngineError, match="loses nan"):
        quantise.search(package, [], float("nan"), lambda _: (0.62, ""), told.append)


def run_build(package: ModelPackage, pictures: Sequence[LabelledImage]) -> Any:
    return build.build_int8(package, pictures, lambda _: None, lambda _: None)


def test_built_int8_serves(package: ModelPackage) -> None:
    path, best = run_build(package, labelled(36))
    assert best.loss <= 0.02 and best.float_stride == 0
    record = json.loads(path.with_name(f"{path.name}.json").read_text())
    assert record["key"] == {"model_sha256": package.sha256, "precision": "int8"}
    report = record["report"]
    assert report["map50_float32"] > 0.9
    assert report["pictures"] + report["calibration_pictures"] == 36
    for name in ("onnxruntime", "openvino"):
        engine = load_engine(name, package, EngineOptions(precision="int8"))
        batch = np.full((1, 3, 96, 128), 170, np.float32)
        answer = engine.infer(batch)[0][0, -1, 5:]
        np.testing.assert_allclose(answer, (170 - 128) / 127, atol=0.02)


def test_pictures_that_can_not_tell_are_refused(package: ModelPackage) -> None:
    with pytest.raises(EngineError, match=r"with \d labelled defects are too few .*sim\.pictures"):
        run_build(package, [labelled(1)[0]] * 8)
    wrong = labelled(40)
    wrong[1].truth[0, 4] = len(CLASSES)
    with pytest.raises(EngineError, match=r"1\.png: has class 3; tiny has 0 to 2"):
        run_build(package, wrong)


def test_float16_keeps_input_output_and_decoding_in_float32(package: ModelPackage) -> None:
    import onnxruntime

    content = to_float16(package)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].type == session.get_outputs()[0].type == "tensor(float)"
    batch = np.full((1, 3, 96, 128), 255, np.float32)
    reference = load_engine("onnxruntime", package, EngineOptions()).infer(batch)[0]
    np.testing.assert_allclose(session.run(None, {"images": batch})[0], reference, atol=2e-3)
    kinds = {t.name: t.data_type for t in onnx.load_model_from_string(content).graph.initializer}
    assert kinds["kernel"] == TensorProto.FLOAT16 and kinds["boxes"] == TensorProto.FLOAT
    assert reference.shape[1] == CELLS
