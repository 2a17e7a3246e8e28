"""OpenVINO on the CPU, with the precision that is asked for and no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import numpy.typing as npt
import openvino

from shopfloor.inspection.engines import (
    Batch,
    EngineError,
    EngineInfo,
    EngineOptions,
    chosen_precision,
)
from shopfloor.inspection.engines.precisions import onnx_of
from shopfloor.inspection.engines.tensors import Tensor, check_tensors
from shopfloor.inspection.model import ModelPackage

_DEVICE = "CPU"
_HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_CAPABILITIES = {"float32": "FP32", "bfloat16": "BF16", "float16": "FP16", "int8": "INT8"}


class OpenVinoEngine:
    """One compiled model with one request; made by `load`."""

    takes_bytes = False
    works_beside = True

    def __init__(self, compiled: openvino.CompiledModel, info: EngineInfo) -> None:
        self._info = info
        self._request: openvino.InferRequest | None = compiled.create_infer_request()
        self._outputs = range(len(compiled.outputs))

    def infer(self, batch: Batch) -> list[npt.NDArray[np.float32]]:
        """Raw outputs, each a new array."""
        return self.begin(batch)()

    def begin(self, batch: Batch) -> Callable[[], list[npt.NDArray[np.float32]]]:
        """Begin on OpenVINO's own thread, which reads the caller's buffer."""
        request = self._request
        if request is None:
            raise EngineError("the engine is closed")
        with _named_errors():
            request.start_async({0: batch}, share_inputs=True)
        return partial(self._outputs_of, request)

    def _outputs_of(self, request: openvino.InferRequest) -> list[npt.NDArray[np.float32]]:
        with _named_errors():
            request.wait()
            # What the request writes is its own.
            return [request.get_output_tensor(i).data.copy() for i in self._outputs]

    def close(self) -> None:
        """Drop request and model."""
        self._request = None

    def describe(self) -> EngineInfo:
        """Version and precision."""
        return self._info


def load(name: str, package: ModelPackage, options: EngineOptions) -> OpenVinoEngine:
    """The package's model compiled for one stream on the CPU; raises EngineError.

    The precision hint is always given: left alone, OpenVINO takes bfloat16 by itself where the
    CPU has it. int8 runs what is not quantised in bfloat16 where the CPU has it, else in float32.
    """
    core = openvino.Core()
    there = core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
    allowed = tuple(p for p, capability in _CAPABILITIES.items() if capability in there)
    precision = chosen_precision(name, options, allowed)
    rest = precision
    if precision == "int8":
        rest = "bfloat16" if "bfloat16" in allowed else "float32"
    content = onnx_of(package, "int8" if precision == "int8" else "float32")
    try:
        model = core.read_model(content)
        _check(model, package)
        if model.is_dynamic():
            model.reshape([1, 3, package.input.height, package.input.width])
        settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[rest],
            "INFERENCE_NUM_THREADS": options.threads,
            "NUM_STREAMS": 1,
            # Pinned threads of two processes would share a core while another idles.
            "ENABLE_CPU_PINNING": False,
        }
        compiled = core.compile_model(model, _DEVICE, settings)
        used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    except EngineError:
        raise
    except Exception as error:  # its exceptions share no base class but this one
        raise EngineError(
            f"{package.path}: OpenVINO can't load it: {_first_line(error)}"
        ) from error
    if used != _HINTS[rest]:
        raise EngineError(f"engine {name}: asked for {_HINTS[rest]}, got {used}")
    version = openvino.__version__.split("-")[0]
    return OpenVinoEngine(compiled, EngineInfo(f"openvino {version} {_DEVICE}", precision))


def _check(model: openvino.Model, package: ModelPackage) -> None:
    check_tensors(package, [_tensor(p) for p in model.inputs], [_tensor(p) for p in model.outputs])


def _tensor(port: openvino.Output) -> Tensor:
    shape = tuple(
        dimension.get_length() if dimension.is_static else None
        for dimension in port.get_partial_shape()
    )
    name = port.any_name if port.names else ""
    dtype = np.dtype(port.get_element_type().to_dtype()).name
    return Tensor(name, dtype, shape)


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, TypeError, MemoryError) as error:
        raise EngineError(f"OpenVINO failed: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    """OpenVINO's own text without its source locations, which come first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "Exception from" not in line), repr(error))
