"""Building a TensorRT plan: minutes on a small board, so a command does it and no node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shopfloor.inspection.engines import EngineError
from shopfloor.inspection.engines.built import Built
from shopfloor.inspection.engines.precisions import onnx_of
from shopfloor.inspection.engines.tensorrt import plan_key, trt
from shopfloor.inspection.engines.tensorrt_api import make_log, strongly_typed
from shopfloor.inspection.model import ModelPackage

WORKSPACE_BYTES = 1 << 30

Progress = Callable[[str, int, int], None]
"""Told of (phase, steps done, steps in all)."""


def build_plan(package: ModelPackage, precision: str, gpu: str, progress: Progress) -> Built:
    """Build the plan for this host; raises EngineError.

    gpu: the device's name, see `Cuda.device`; a plan only runs on that kind of device.
    """
    log = make_log(trt)
    typed = strongly_typed(trt)
    # Builder flags choose float16 layer by layer; without them the ONNX file has to say it.
    in_file = precision if typed or precision == "int8" else "float32"
    builder = trt.Builder(log)
    network = builder.create_network(_network_flags(typed))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(_with_bytes(package, onnx_of(package, in_file, symmetric=True))):
        errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise EngineError(f"{package.path}: TensorRT can't read it: {errors}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    for flag in _flags(typed, precision):
        config.set_flag(flag)
    if precision == "float32":
        config.clear_flag(trt.BuilderFlag.TF32)  # its 10 bits are no float32
    _fix_shape(builder, network, config, package)
    config.progress_monitor = _monitor(progress)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"{package.path}: TensorRT can't build it: {log.reason()}")
    report = {"typed": "in the ONNX file" if typed else "builder flags", "onnx": in_file}
    return Built(bytes(plan), plan_key(package, precision, gpu), report)


def _with_bytes(package: ModelPackage, content: bytes) -> bytes:
    """The ONNX file, taking pixels as bytes; raises EngineError."""
    try:
        import onnx

        from shopfloor.inspection.engines.graph import take_bytes

        model = onnx.load_model_from_string(content)
        take_bytes(model, package.input.gain, package.input.offset)
        return bytes(model.SerializeToString())
    except ImportError as error:
        raise EngineError(f"a plan needs onnx to be built: {error}") from error
    except Exception as error:  # protobuf's errors share no base class but this one
        raise EngineError(f"{package.path}: TensorRT can't read it: {error}") from error


def _network_flags(typed: bool) -> int:
    """TensorRT 10 must be told that a network is typed; later it always is."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 1 << int(flag) if typed and flag is not None else 0


def _flags(typed: bool, precision: str) -> list[Any]:
    if typed or precision == "float32":
        return []
    flags = [trt.BuilderFlag.FP16]  # beside int8 what is not quantised runs in float16
    return [*flags, trt.BuilderFlag.INT8] if precision == "int8" else flags


def _fix_shape(builder: Any, network: Any, config: Any, package: ModelPackage) -> None:
    """One picture of the package's size, where the model leaves lengths open."""
    tensor = network.get_input(0)
    if all(length >= 0 for length in tensor.shape):
        return
    shape = (1, 3, package.input.height, package.input.width)
    profile = builder.create_optimization_profile()
    profile.set_shape(tensor.name, shape, shape, shape)
    config.add_optimization_profile(profile)


def _monitor(progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase: str, _parent: str | None, steps: int) -> None:
            self._steps[phase] = steps
            progress(phase, 0, steps)

        def step_complete(self, phase: str, step: int) -> bool:
            progress(phase, step + 1, self._steps.get(phase, 0))
            return True

        def phase_finish(self, phase: str) -> None:
            progress(phase, self._steps.get(phase, 0), self._steps.pop(phase, 0))

    return Monitor()
