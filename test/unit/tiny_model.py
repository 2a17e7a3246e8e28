"""A model package of a few kilobytes whose answers a test can compute in its head.

Class 0, 1, 2 is blue, green, red. Each 32 x 32 cell of the input is one candidate whose class score
is 0 up to a value of 128 and rises to 1 at 255; its box is the cell. So a black picture with a blue
square that fills a cell has one blue detection of score 1.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

CLASSES = ("blue", "green", "red")
CELL = 32


def build_onnx(
    width: int = 128,
    height: int = 96,
    layout: str = "yolox",
    output_bias: float = 0.0,
    dynamic: bool = False,
    nan_above: float | None = None,
) -> bytes:
    """The ONNX file; `output_bias` is added to every output value (NaN makes them all NaN).

    dynamic: all lengths of input and output are left open. nan_above: a picture with a brighter
    value makes all output values NaN.
    """
    cells = (width // CELL) * (height // CELL)
    finer = sum((width // s) * (height // s) for s in (8, 16))
    ys, xs = np.mgrid[: height // CELL, : width // CELL]
    boxes = np.stack(
        [(xs.ravel() + 0.5) * CELL, (ys.ravel() + 0.5) * CELL, *np.full((2, cells), CELL)], axis=1
    )
    constants = {
        "boxes": boxes[None].astype(np.float32),
        "objectness": np.ones((1, cells, 1), np.float32),
        "rest": np.zeros((1, finer, 4 + (layout == "yolox") + len(CLASSES)), np.float32),
        "low": np.array(128.0, np.float32),
        "range": np.array(127.0, np.float32),
        "flat": np.array([1, len(CLASSES), cells], np.int64),
        "bias": np.array(output_bias, np.float32),
    }
    parts = ["boxes", "objectness", "scores"] if layout == "yolox" else ["boxes", "scores"]
    nodes = [
        helper.make_node(
            "AveragePool", ["images"], ["mean"], kernel_shape=[CELL, CELL], strides=[CELL, CELL]
        ),
        helper.make_node("Sub", ["mean", "low"], ["above"]),
        helper.make_node("Relu", ["above"], ["positive"]),
        helper.make_node("Div", ["positive", "range"], ["grid"]),
        helper.make_node("Reshape", ["grid", "flat"], ["by_class"]),
        helper.make_node("Transpose", ["by_class"], ["scores"], perm=[0, 2, 1]),
        helper.make_node("Concat", parts, ["coarse"], axis=2),
        helper.make_node("Concat", ["rest", "coarse"], ["rows"], axis=1),
        helper.make_node("Add", ["rows", "bias"], ["biased"]),
        helper.make_node(
            "Transpose", ["biased"], ["output"], perm=[0, 1, 2] if layout == "yolox" else [0, 2, 1]
        ),
    ]
    if nan_above is not None:
        constants["limit"] = np.array(nan_above, np.float32)
        nodes[0:0] = [
            helper.make_node("ReduceMax", ["images"], ["brightest"], keepdims=0),
            helper.make_node("Sub", ["limit", "brightest"], ["left"]),
            helper.make_node("Sqrt", ["left"], ["root"]),
            helper.make_node("Sub", ["root", "root"], ["poison"]),
            helper.make_node("Add", ["images", "poison"], ["seen"]),
        ]
        nodes[5].input[0] = "seen"
    columns = constants["rest"].shape[2]
    taken: list[int | str] = [1, 3, height, width]
    shape: list[int | str] = [1, columns, finer + cells]
    if layout == "yolox":
        shape = [1, finer + cells, columns]
    if dynamic:
        taken, shape = ["batch", 3, "height", "width"], ["batch", "rows", "columns"]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, taken)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def card(onnx_bytes: bytes, **changes: Any) -> dict[str, Any]:
    """A model.yaml that fits; `changes` replaces top-level keys."""
    return {
        "name": "tiny",
        "version": "1",
        "sha256": hashlib.sha256(onnx_bytes).hexdigest(),
        "licence": "Apache-2.0",
        "architecture": "average pooling",
        "layout": "yolox",
        "decoded": True,
        "input": {
            "name": "images",
            "width": 128,
            "height": 96,
            "channels": "bgr",
            "scale": 1.0,
            "mean": [0, 0, 0],
            "std": [1, 1, 1],
            "pad": 114,
        },
        "classes": list(CLASSES),
        "thresholds": {"fail": 0.6, "suspect": 0.3, "nms_iou": 0.5},
        **changes,
    }


def write_package(folder: Path, onnx_bytes: bytes | None = None, **changes: Any) -> Path:
    """Write model.onnx and model.yaml into `folder`, which is made; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    content = build_onnx() if onnx_bytes is None else onnx_bytes
    (folder / "model.onnx").write_bytes(content)
    (folder / "model.yaml").write_text(yaml.safe_dump(card(content, **changes)))
    return folder


def picture(*squares: tuple[int, int, int, int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A dark 96 x 128 BGR picture with one-cell squares (column, row, class id, value)."""
    image = np.zeros((96, 128, 3), np.uint8)
    for column, row, class_id, value in squares:
        image[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL, class_id] = value
    return image
