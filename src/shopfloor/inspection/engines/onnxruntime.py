"""ONNX Runtime on the CPU."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnxruntime

from shopfloor.inspection.engines import EngineError, EngineInfo, EngineOptions
from shopfloor.inspection.model import ModelPackage
from shopfloor.inspection.yolo import OutputError

_FLOAT = "tensor(float)"


class OnnxRuntimeEngine:
    """One session on the CPU provider; made by `load`."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session: onnxruntime.InferenceSession | None = session
        self._input = session.get_inputs()[0].name
        self._outputs = [output.name for output in session.get_outputs()]

    def infer(self, batch: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
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
        """Version and precision."""
        return EngineInfo(f"onnxruntime {onnxruntime.__version__} CPU", "float32")


def load(package: ModelPackage, options: EngineOptions) -> OnnxRuntimeEngine:
    """A session for the package's model, its tensors checked; raises EngineError."""
    if options.precision not in ("", "float32"):
        raise EngineError(
            f"engine onnxruntime has no precision {options.precision!r}; allowed: float32"
        )
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    # A spinning pool burns the cores that cameras and DDS need between two frames.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            package.onnx, settings, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its exceptions share no base class but this one
        raise EngineError(f"{package.path}: ONNX Runtime can't load it: {error}") from error
    _check_tensors(session, package)
    return OnnxRuntimeEngine(session)


def _check_tensors(session: onnxruntime.InferenceSession, package: ModelPackage) -> None:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    names = [tensor.name for tensor in inputs]
    if names != [package.input.name]:
        raise EngineError(
            f"{package.path}: input tensors are {names}; model.yaml says '{package.input.name}'"
        )
    wanted = [1, 3, package.input.height, package.input.width]
    given = inputs[0].shape
    fits = len(given) == 4 and all(
        not isinstance(g, int) or g == w for g, w in zip(given, wanted, strict=True)
    )
    if not fits or inputs[0].type != _FLOAT:
        raise EngineError(
            f"{package.path}: input tensor '{names[0]}' is {inputs[0].type} {given}; "
            f"model.yaml says {_FLOAT} {wanted}"
        )
    try:
        package.output.check(outputs[0].name, tuple(outputs[0].shape))
    except OutputError as error:
        raise EngineError(f"{package.path}: {error}") from error
