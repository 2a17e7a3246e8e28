"""The little of CUDA that TensorRT needs, by cuda-python or else by pycuda.

cuda-python is taken first: it knows CUDA graphs. All calls are made on one thread.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from shopfloor.inspection.engines import EngineError

Array = npt.NDArray[Any]


class Cuda(Protocol):
    """One stream on device 0. Raises EngineError when a call fails."""

    def device(self) -> str:
        """Name and compute capability."""

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """A page-locked array: the device copies from and to it while the CPU goes on."""

    def allocate(self, size_bytes: int) -> int:
        """Address of device memory."""

    def stream(self) -> int:
        """Handle of the stream."""

    def upload(self, address: int, source: Array) -> None:
        """Queue a copy to the device."""

    def download(self, target: Array, address: int) -> None:
        """Queue a copy from the device."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """What repeats the queued `work` at one call: a CUDA graph, or `work` itself."""

    def synchronize(self) -> None:
        """Wait until all queued work is done."""

    def close(self) -> None:
        """Free everything."""


def open_cuda() -> Cuda:
    """The device; raises EngineError that says what is missing."""
    missing = []
    for binding in (CudaPython, PyCuda):
        try:
            return binding()
        except ImportError as error:
            missing.append(str(error))
    raise EngineError(f"CUDA needs cuda-python or pycuda: {'; '.join(missing)}")


class CudaPython:
    """By the runtime API of cuda-python."""

    def __init__(self) -> None:
        try:
            from cuda.bindings import runtime
        except ImportError:  # before cuda-python 12.6
            from cuda import cudart as runtime
        self._api: Any = runtime
        self._addresses: list[int] = []
        self._pinned: list[int] = []
        self._graphs: list[Any] = []
        self._call("cudaSetDevice", 0)
        self._stream = self._call("cudaStreamCreate")

    def device(self) -> str:
        """Name and compute capability."""
        properties = self._call("cudaGetDeviceProperties", 0)
        name = properties.name
        text = name.decode() if isinstance(name, bytes) else str(name)
        return f"{text.rstrip(chr(0))} {properties.major}.{properties.minor}"

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Page-locked host memory."""
        size_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        flags = self._api.cudaHostAllocDefault
        address = int(self._call("cudaHostAlloc", size_bytes, flags))
        self._pinned.append(address)
        memory = (ctypes.c_uint8 * size_bytes).from_address(address)
        return np.ctypeslib.as_array(memory).view(dtype).reshape(shape)

    def allocate(self, size_bytes: int) -> int:
        """Device memory."""
        address = int(self._call("cudaMalloc", size_bytes))
        self._addresses.append(address)
        return address

    def stream(self) -> int:
        """Handle of the stream."""
        return int(self._stream)

    def upload(self, address: int, source: Array) -> None:
        """Queue a copy to the device."""
        self._copy(address, source.ctypes.data, source.nbytes, "cudaMemcpyHostToDevice")

    def download(self, target: Array, address: int) -> None:
        """Queue a copy from the device."""
        self._copy(target.ctypes.data, address, target.nbytes, "cudaMemcpyDeviceToHost")

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """A CUDA graph of `work`."""
        mode = self._api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self._stream, mode)
        try:
            work()
        finally:
            graph = self._call("cudaStreamEndCapture", self._stream)
        instance = self._call("cudaGraphInstantiate", graph, 0)
        self._call("cudaGraphDestroy", graph)
        self._graphs.append(instance)
        return lambda: self._call("cudaGraphLaunch", instance, self._stream)

    def synchronize(self) -> None:
        """Wait for all queued work."""
        self._call("cudaStreamSynchronize", self._stream)

    def close(self) -> None:
        """Free everything."""
        api = self._api
        # After a fault on the device these fail as well; there is nothing left to do about it.
        for instance in self._graphs:
            api.cudaGraphExecDestroy(instance)
        for address in self._addresses:
            api.cudaFree(address)
        for address in self._pinned:
            api.cudaFreeHost(address)
        api.cudaStreamDestroy(self._stream)
        self._graphs, self._addresses, self._pinned = [], [], []

    def _copy(self, target: int, source: int, size: int, kind: str) -> None:
        direction = getattr(self._api.cudaMemcpyKind, kind)
        self._call("cudaMemcpyAsync", target, source, size, direction, self._stream)

    def _call(self, name: str, *arguments: Any) -> Any:
        error, *values = getattr(self._api, name)(*arguments)
        if error != self._api.cudaError_t.cudaSuccess:
            text = self._api.cudaGetErrorString(error)[1]
            reason = text.decode() if isinstance(text, bytes) else str(error)
            asked = f" of {arguments[0]} bytes" if name in ("cudaMalloc", "cudaHostAlloc") else ""
            raise EngineError(f"{name}{asked}: {reason}")
        return values[0] if values else None


class PyCuda:
    """By pycuda, without CUDA graphs. The device's context is current on the calling thread."""

    def __init__(self) -> None:
        import pycuda.driver

        self._api: Any = pycuda.driver
        self._memory: list[Any] = []
        self._api_error = (pycuda.driver.Error,)
        self._do(self._api.init)
        self._device = self._do(self._api.Device, 0)
        self._context = self._do(self._device.retain_primary_context)
        self._do(self._context.push)
        self._queue = self._do(self._api.Stream)

    def device(self) -> str:
        """Name and compute capability."""
        major, minor = self._device.compute_capability()
        return f"{self._device.name()} {major}.{minor}"

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Page-locked host memory."""
        array: Array = self._do(self._api.pagelocked_empty, shape, dtype)
        return array

    def allocate(self, size_bytes: int) -> int:
        """Device memory."""
        memory = self._do(self._api.mem_alloc, size_bytes)
        self._memory.append(memory)
        return int(memory)

    def stream(self) -> int:
        """Handle of the stream."""
        return int(self._queue.handle)

    def upload(self, address: int, source: Array) -> None:
        """Queue a copy to the device."""
        self._do(self._api.memcpy_htod_async, address, source, self._queue)

    def download(self, target: Array, address: int) -> None:
        """Queue a copy from the device."""
        self._do(self._api.memcpy_dtoh_async, target, address, self._queue)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """`work` itself."""
        return work

    def synchronize(self) -> None:
        """Wait for all queued work."""
        self._do(self._queue.synchronize)

    def close(self) -> None:
        """Free everything."""
        for memory in self._memory:
            memory.free()
        self._memory = []
        self._context.pop()
        self._context.detach()

    def _do(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except self._api_error as error:
            raise EngineError(f"CUDA: {error}") from error
