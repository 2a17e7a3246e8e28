"""ONNX Runtime: on the CPU, and on the providers of its GPU build."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnxruntime

from shopfloor.inspection.engines import (
    Batch,
    EngineError,
    EngineInfo,
    EngineOptions,
    Synchronous,
    chosen_precision,
)
from shopfloor.inspection.engines.precisions import onnx_of
from shopfloor.inspection.engines.tensors import Tensor, check_tensors
from shopfloor.inspection.model import ModelPackage

_PROVIDERS = {
    "onnxruntime": "CPUExecutionProvider",
    "onnxruntime-cuda": "CUDAExecutionProvider",
    "onnxruntime-tensorrt": "TensorrtExecutionProvider",
}
_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}


class OnnxRuntimeEngine(Synchronous):
    """One session; made by `load`."""

    def __init__(self, session: onnxruntime.InferenceSession, info: EngineInfo) -> None:
        self._session: onnxruntime.InferenceSession | None = session
        self._info = info
        self._input = session.get_inputs()[0].name
        self._outputs = [output.name for output in session.get_outputs()]

    def infer(self, batch: Batch) -> list[npt.NDArray[np.float32]]:
        """Raw outputs, each a new array."""
        if self._session is None:
            raise EngineError("the engine is closed")
        try:
            outputs: list[npt.NDArray[np.float32]] = self._session.run(
                self._outputs, {self._input: batch}
            )
        except Exception as error:  # its exceptions share no base class but this one
            raise EngineError(f"ONNX Runtime failed: {error}") from error
        return outputs

    def close(self) -> None:
        """Drop the session."""
        self._session = None

    def describe(self) -> EngineInfo:
        """Version, provider and precision."""
        return self._info


def load(name: str, package: ModelPackage, options: EngineOptions) -> OnnxRuntimeEngine:
    """A session for the package's model, its tensors checked; raises EngineError."""
    provider = _PROVIDERS[name]
    on_cpu = name == "onnxruntime"
    allowed = ("float32", "int8") if on_cpu else ("float32", "float16", "int8")
    precision = chosen_precision(name, options, allowed)
    there = onnxruntime.get_available_providers()
    if provider not in there:
        raise EngineError(
            f"engine {name} needs {provider}; this onnxruntime {onnxruntime.__version__} has "
            f"{', '.join(there)} (the GPU providers come with onnxruntime-gpu)"
        )
    content = onnx_of(package, precision, symmetric=name == "onnxruntime-tensorrt")
    try:
        session = _session(content, options, provider)
    except Exception as error:  # its exceptions share no base class but this one
        raise EngineError(f"{package.path}: ONNX Runtime can't load it: {error}") from error
    used = session.get_providers()
    if used[0] != provider:  # it falls back to the CPU without an error
        raise EngineError(f"engine {name}: {provider} can't run here, only {', '.join(used)}")
    check_tensors(
        package,
        [_tensor(value) for value in session.get_inputs()],
        [_tensor(value) for value in session.get_outputs()],
    )
    device = provider.removesuffix("ExecutionProvider")
    info = EngineInfo(f"onnxruntime {onnxruntime.__version__} {device}", precision)
    return OnnxRuntimeEngine(session, info)


def from_bytes(content: bytes, options: EngineOptions, info: EngineInfo) -> OnnxRuntimeEngine:
    """An ONNX file on the CPU, unchecked: for a model that is being built. Raises EngineError."""
    try:
        return OnnxRuntimeEngine(_session(content, options, _PROVIDERS["onnxruntime"]), info)
    except Exception as error:  # its exceptions share no base class but this one
        raise EngineError(f"ONNX Runtime can't load the model: {error}") from error


def _session(content: bytes, options: EngineOptions, provider: str) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    # A spinning pool burns the cores that cameras and DDS need between two frames.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(content, settings, providers=[provider])


def _tensor(value: onnxruntime.NodeArg) -> Tensor:
    shape = tuple(length if isinstance(length, int) else None for length in value.shape)
    return Tensor(value.name, _TYPES.get(value.type, value.type), shape)
