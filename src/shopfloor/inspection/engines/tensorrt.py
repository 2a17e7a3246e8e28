"""TensorRT, natively: a plan that was built before, run on a thread that owns the context."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from shopfloor.inspection.engines import (
    Batch,
    EngineError,
    EngineInfo,
    EngineOptions,
    chosen_precision,
)
from shopfloor.inspection.engines.built import BUILD, built_path, read_built
from shopfloor.inspection.engines.cuda import Cuda, open_cuda
from shopfloor.inspection.engines.tensorrt_api import import_tensorrt, make_log
from shopfloor.inspection.engines.tensors import Tensor, check_tensors
from shopfloor.inspection.model import ModelPackage

trt: Any = import_tensorrt()

Floats = npt.NDArray[np.float32]
T = TypeVar("T")

ALLOWED = ("float32", "float16", "int8")


def plan_file(package: ModelPackage, precision: str) -> str:
    """Name of the plan; a ladder may run one model at several sizes."""
    return f"tensorrt.{precision}.{package.input.width}x{package.input.height}.plan"


def plan_key(package: ModelPackage, precision: str, gpu: str) -> dict[str, str]:
    """What a plan must have been built for: another model, device or version can't run it."""
    return {
        "model_sha256": package.sha256,
        "precision": precision,
        "input": f"{package.input.width} x {package.input.height} bytes",
        "tensorrt": f"{trt.__name__} {trt.__version__}",
        "gpu": gpu,
    }


class TensorRtEngine:
    """Hands each call to the one thread that owns device, context and buffers; made by `load`.

    A plan takes pixels as bytes: conversion and normalising are work for the device, and a quarter
    of the bytes go there.
    """

    takes_bytes = True
    works_beside = True

    def __init__(self) -> None:
        self._owner: ThreadPoolExecutor | None = ThreadPoolExecutor(1, "tensorrt")
        self._session: Session | None = None
        self._info = EngineInfo("tensorrt", "")

    def open(self, package: ModelPackage, precision: str, cuda: Callable[[], Cuda]) -> None:
        """Load the plan on the owner's thread; raises EngineError."""
        try:
            self._session = self._run(lambda: Session(package, precision, cuda()))
        except BaseException:
            self.close()
            raise
        self._info = EngineInfo(f"tensorrt {trt.__version__} {self._session.gpu}", precision)

    def infer(self, batch: Batch) -> list[Floats]:
        """Raw outputs, each a new array."""
        return self.begin(batch)()

    def begin(self, batch: Batch) -> Callable[[], list[Floats]]:
        """Begin on the owner's thread."""
        session, owner = self._session, self._owner
        if session is None or owner is None:
            raise EngineError("the engine is closed")
        try:
            return owner.submit(session.infer, batch).result
        except RuntimeError as error:  # shut down meanwhile
            raise EngineError("the engine is closed") from error

    def close(self) -> None:
        """Free the device's memory and end the thread."""
        owner, session = self._owner, self._session
        self._owner = self._session = None  # first: nothing may be queued behind the end
        if owner is None:
            return
        if session is not None:
            owner.submit(session.close).result()
        owner.shutdown()

    def describe(self) -> EngineInfo:
        """Version, GPU and precision."""
        return self._info

    def _run(self, work: Callable[[], T]) -> T:
        if self._owner is None:
            raise EngineError("the engine is closed")
        return self._owner.submit(work).result()


class Session:
    """Plan, context and buffers; belongs to the thread that made it. Closes `cuda`."""

    def __init__(self, package: ModelPackage, precision: str, cuda: Cuda) -> None:
        self._cuda = cuda
        self._context: Any = None
        self._engine: Any = None
        try:
            self._open(package, precision)
        except BaseException:
            self.close()
            raise

    def _open(self, package: ModelPackage, precision: str) -> None:
        self.gpu = self._cuda.device()
        path = built_path(package, plan_file(package, precision))
        command = (
            f"{BUILD} {package.name}/{package.version} --engine tensorrt --precision {precision}"
        )
        built = read_built(path, plan_key(package, precision, self.gpu), command)
        self._log = make_log(trt)
        self._runtime = trt.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(built.content)
        if self._engine is None:
            raise EngineError(f"{path}: TensorRT can't load it: {self._log.reason()}")
        inputs, outputs = tensors(self._engine)
        check_tensors(package, inputs, outputs, "uint8")
        for output in outputs:
            if output.dtype != "float32":  # buffers are of float32: a wider one would overflow its
                raise EngineError(
                    f"{path}: output tensor '{output.name}' is {output.dtype}; allowed: float32"
                )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(f"{path}: no room for its context: {self._log.reason()}")
        form = package.input
        shape = (1, 3, form.height, form.width)
        self._context.set_input_shape(inputs[0].name, shape)
        self._host_in, self._device_in = self._buffer(inputs[0].name, shape, np.uint8)
        self._outputs = [
            self._buffer(
                output.name, tuple(self._context.get_tensor_shape(output.name)), np.float32
            )
            for output in outputs
        ]
        # The first run settles lazy allocations, which a graph must not contain.
        self._host_in.fill(0)
        self._queue_work()
        self._cuda.synchronize()
        self._launch = self._cuda.record(self._queue_work)

    def infer(self, batch: Batch) -> list[Floats]:
        """Raw outputs; raises EngineError."""
        if (batch.shape, batch.dtype) != (self._host_in.shape, self._host_in.dtype):
            raise EngineError(
                f"TensorRT failed: batch {batch.dtype} {list(batch.shape)}; "
                f"allowed: {self._host_in.dtype} {list(self._host_in.shape)}"
            )
        np.copyto(self._host_in, batch)
        self._launch()
        self._cuda.synchronize()
        return [host.copy() for host, _ in self._outputs]

    def close(self) -> None:
        """Free context and plan before the memory that they use."""
        self._context = self._engine = None
        self._cuda.close()

    def _queue_work(self) -> None:
        cuda = self._cuda
        cuda.upload(self._device_in, self._host_in)
        if not self._context.execute_async_v3(cuda.stream()):
            raise EngineError(f"TensorRT failed: {self._log.reason()}")
        for host, device in self._outputs:
            cuda.download(host, device)

    def _buffer(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> tuple[Batch, int]:
        """Pinned host memory and device memory for a tensor, which is told about it."""
        try:
            host = self._cuda.pinned(shape, dtype)
            device = self._cuda.allocate(host.nbytes)
        except EngineError as error:
            raise EngineError(f"tensor '{name}' {list(shape)}: {error}") from error
        self._context.set_tensor_address(name, device)
        return host, device


def tensors(engine: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and outputs of a TensorRT engine."""
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        shape = tuple(int(n) if n >= 0 else None for n in engine.get_tensor_shape(name))
        dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name))).name
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        (inputs if is_input else outputs).append(Tensor(name, dtype, shape))
    return inputs, outputs


def load(name: str, package: ModelPackage, options: EngineOptions) -> TensorRtEngine:
    """The plan that `python -m shopfloor.inspection build` made; raises EngineError.

    Refused with the reason: no plan, a damaged one, or one for another model, precision, GPU or
    TensorRT. Nothing is built here.
    """
    precision = chosen_precision(name, options, ALLOWED)
    engine = TensorRtEngine()
    engine.open(package, precision, open_cuda)
    return engine
