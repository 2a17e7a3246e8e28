"""Post-training quantisation to int8, as far as the figures allow.

Static, per channel, of convolutions only, with quantise and dequantise nodes in the ONNX file
(QDQ), which ONNX Runtime, OpenVINO and TensorRT all read. Activations have zero points, but for
TensorRT: SiLU hardly goes below zero, so that symmetric steps are half unused. The convolutions
that write the predictions stay in float32; so do the early stages, as many as it takes: their few
channels of large maps hold the finest defects and the widest range of values.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from shopfloor.inspection.engines import EngineError
from shopfloor.inspection.engines.graph import convolutions, prediction_convolutions
from shopfloor.inspection.engines.precisions import MAX_MAP_LOSS
from shopfloor.inspection.model import ModelPackage

Floats = npt.NDArray[np.float32]

FLOAT_STRIDES = (0, 2, 4, 8, 16)
"""Tried in this order: convolutions of the backbone whose output has at most this stride stay in
float32.
"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One quantisation. float_stride: see FLOAT_STRIDES; quantised: share of convolutions.

    complaint: of the parity gate; empty: it passes.
    """

    float_stride: int
    quantised: float
    map50: float
    loss: float
    complaint: str

    @property
    def good(self) -> bool:
        """Whether it may be served."""
        return self.loss <= MAX_MAP_LOSS and not self.complaint


class _Batches(CalibrationDataReader):
    """Hands the calibration batches to ONNX Runtime, one by one."""

    def __init__(self, name: str, inputs: Sequence[Floats]) -> None:
        self._name = name
        self._inputs = inputs
        self._next: Iterator[Floats] = iter(inputs)

    def get_next(self) -> dict[str, Floats] | None:
        batch = next(self._next, None)
        return None if batch is None else {self._name: batch}


def float_nodes(model: onnx.ModelProto, float_stride: int) -> tuple[list[str], float]:
    """Names of the convolutions that stay in float32, and the share that is quantised.

    Only the backbone on its way down counts as early: the stride of its maps never falls.
    """
    found = convolutions(model)
    kept = set(prediction_convolutions(model))
    for node, stride in found:
        if stride > float_stride:
            break
        kept.add(node.name)
    return sorted(kept), 1.0 - len(kept) / len(found)


def quantise(
    package: ModelPackage, inputs: Sequence[Floats], float_stride: int, *, symmetric: bool = False
) -> tuple[bytes, float]:
    """The package's model in int8 and the share of its convolutions that are; raises EngineError.

    inputs: calibration batches, (1, 3, H, W) float32 each. symmetric: no zero points.
    """
    try:
        model = onnx.load_model_from_string(package.onnx)
        excluded, share = float_nodes(model, float_stride)
        # Says that it is prepared: the norms are folded already, there is nothing left to fuse.
        add_pre_process_metadata(model)
        with tempfile.TemporaryDirectory(prefix="shopfloor-int8-") as folder:
            target = Path(folder) / "int8.onnx"
            quantize_static(
                model,
                str(target),
                _Batches(package.input.name, inputs),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                nodes_to_exclude=excluded,
                per_channel=True,
                activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={
                    "ActivationSymmetric": symmetric,
                    "WeightSymmetric": True,
                    "QuantizeBias": False,  # TensorRT reads no int32 biases
                    # A convolution and the activation behind it then fuse into one step.
                    "OpTypesToExcludeOutputQuantization": ["Conv"],
                    # One picture's extremes don't set the scale: worth 0.05 mAP50 to surface_nano.
                    "CalibMovingAverage": True,
                },
            )
            return target.read_bytes(), share
    except Exception as error:  # onnx and the quantiser share no base class but this one
        raise EngineError(f"{package.path}: can't be quantised: {error}") from error


def search(
    package: ModelPackage,
    inputs: Sequence[Floats],
    float_map50: float,
    measure: Callable[[bytes], tuple[float, str]],
    report: Callable[[Attempt], None],
    *,
    symmetric: bool = False,
) -> tuple[bytes, Attempt]:
    """The most quantised model that loses at most MAX_MAP_LOSS and passes the parity gate.

    float_map50: of the float32 model on the pictures that `measure` uses. measure: gives the mAP50
    of a quantised model and the gate's complaint. report: is told of each attempt.
    Raises EngineError if there is none.
    """
    best: Attempt | None = None
    for stride in FLOAT_STRIDES:
        content, share = quantise(package, inputs, stride, symmetric=symmetric)
        map50, complaint = measure(content)
        attempt = Attempt(stride, share, map50, float_map50 - map50, complaint)
        report(attempt)
        if attempt.good:
            return content, attempt
        if best is None or attempt.loss < best.loss:
            best = attempt
    assert best is not None
    raise EngineError(
        f"{package.name}/{package.version}: int8 loses {best.loss:.3f} mAP50 at best, with the "
        f"first stages up to stride {best.float_stride} in float32; allowed: {MAX_MAP_LOSS}"
        + (f". {best.complaint}" if best.complaint else "")
    )
