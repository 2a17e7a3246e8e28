"""The ONNX file of a package in another precision.

int8 is built by a command, because it has to be measured; float16 is converted where it is needed.
In both, the decoding of boxes stays in float32: pixels up to 640 need more digits than float16 has.
"""

from __future__ import annotations

from shopfloor.inspection.engines import EngineError
from shopfloor.inspection.engines.built import BUILD, built_path, read_built
from shopfloor.inspection.model import ModelPackage

INT8_FILE = "model.int8.onnx"
INT8_SYMMETRIC_FILE = "model.int8-symmetric.onnx"
"""For TensorRT, which has no zero points; the other keeps twice the steps of an activation."""

MAX_MAP_LOSS = 0.02
"""A quantised model that loses more mean average precision than this is not served."""


def int8_key(package: ModelPackage) -> dict[str, str]:
    """What a quantised model must have been built from."""
    return {"model_sha256": package.sha256, "precision": "int8"}


def onnx_of(package: ModelPackage, precision: str, *, symmetric: bool = False) -> bytes:
    """The ONNX file for `precision`; symmetric: int8 without zero points. Raises EngineError."""
    if precision == "float32":
        return package.onnx
    if precision == "float16":
        return to_float16(package)
    path = built_path(package, INT8_SYMMETRIC_FILE if symmetric else INT8_FILE)
    command = f"{BUILD} {package.name}/{package.version} --precision int8"
    command += " --symmetric" if symmetric else ""
    built = read_built(path, int8_key(package), command)
    loss = built.report.get("map50_loss")
    if not isinstance(loss, (int, float)) or not loss <= MAX_MAP_LOSS:  # NaN is refused, too
        raise EngineError(
            f"{path}: int8 loses {loss} mAP50; allowed: {MAX_MAP_LOSS}; run it in another precision"
        )
    return built.content


def to_float16(package: ModelPackage) -> bytes:
    """The model with float16 weights and layers, and float32 input, output and decoding.

    Raises EngineError.
    """
    try:
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16

        from shopfloor.inspection.engines.graph import after_last_convolution
    except ImportError as error:
        raise EngineError(f"float16 needs onnx and onnxruntime: {error}") from error
    try:
        model = onnx.load_model_from_string(package.onnx)
        tail = [node.name for node in after_last_convolution(model)]
        converted = convert_float_to_float16(model, keep_io_types=True, node_block_list=tail)
        return bytes(converted.SerializeToString())
    except Exception as error:  # protobuf and the converter share no base class but this one
        raise EngineError(f"{package.path}: can't be converted to float16: {error}") from error
