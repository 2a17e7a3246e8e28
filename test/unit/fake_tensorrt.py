"""Stand-ins for TensorRT and CUDA: as strict about threads, order and memory as the real ones."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from shopfloor.inspection.engines import EngineError

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


def _size(shape: tuple[int, ...], dtype: npt.DTypeLike) -> int:
    return int(np.prod(shape)) * np.dtype(dtype).itemsize


class FakeCuda:
    """Host memory as the device's. Work that is queued runs at `synchronize`, not before.

    free_bytes: what still fits. Calls from another thread than the first are an error.
    """

    def __init__(self, name: str = "Orin 8.7", free_bytes: int = 1 << 26) -> None:
        self.name = name
        self.thread = threading.get_ident()
        self.free_bytes = free_bytes
        self.memory: dict[int, Bytes] = {}
        self.queue: list[Callable[[], None]] = []
        self.recorded: list[Callable[[], None]] | None = None
        self.launches = 0
        self.broken = False
        self.closed = False

    def _here(self) -> None:
        assert threading.get_ident() == self.thread, "called on another thread"
        assert not self.closed, "used after close"

    def device(self) -> str:
        self._here()
        return self.name

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        self._here()
        return np.frombuffer(bytearray(b"\xff" * _size(shape, dtype)), dtype).reshape(shape)

    def allocate(self, size_bytes: int) -> int:
        self._here()
        if size_bytes > self.free_bytes:
            raise EngineError(f"cudaMalloc of {size_bytes} bytes: out of memory")
        self.free_bytes -= size_bytes
        address = 0x1000 * (len(self.memory) + 1)
        self.memory[address] = np.full(size_bytes, 0xFF, np.uint8)  # as float32: NaN
        return address

    def stream(self) -> int:
        self._here()
        return 7

    def enqueue(self, work: Callable[[], None]) -> None:
        self._here()
        (self.queue if self.recorded is None else self.recorded).append(work)

    def upload(self, address: int, source: npt.NDArray[Any]) -> None:
        self.enqueue(lambda: np.copyto(self.memory[address], source.ravel().view(np.uint8)))

    def download(self, target: npt.NDArray[Any], address: int) -> None:
        self.enqueue(lambda: np.copyto(target.reshape(-1).view(np.uint8), self.memory[address]))

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        self._here()
        assert not self.queue, "work is still queued when the graph begins"
        self.recorded = []
        work()
        graph, self.recorded = self.recorded, None

        def launch() -> None:
            self.launches += 1
            self.queue.extend(graph)

        return launch

    def synchronize(self) -> None:
        self._here()
        if self.broken:
            raise EngineError("cudaStreamSynchronize: an illegal memory access was encountered")
        for work in self.queue:
            work()
        self.queue.clear()

    def close(self) -> None:
        self._here()
        self.closed = True


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._addresses: dict[str, int] = {}
        self._input: tuple[int, ...] = ()

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == "images"
        self._input = shape
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert self._input, "the output's shape is not known before the input's"
        return self._engine.output_shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == 7 and set(self._addresses) == {"images", "output"}
        cuda, engine, addresses = self._engine.cuda(), self._engine, dict(self._addresses)

        def work() -> None:
            batch = cuda.memory[addresses["images"]].reshape(self._input)
            cuda.memory[addresses["output"]][:] = engine.answer(batch).ravel().view(np.uint8)

        cuda.enqueue(work)
        return True


class _Engine:
    """input_shape, output_shape: -1 where decided later. answer: what the model computes."""

    def __init__(self, fake: Any) -> None:
        self._fake = fake
        self.num_io_tensors = 2 + len(fake.more_outputs)
        self.output_shape = fake.output_shape
        self.answer = fake.answer
        self.cuda = lambda: fake.cuda

    def get_tensor_name(self, index: int) -> str:
        return ("output", "images", *self._fake.more_outputs)[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._fake.input_shape if name == "images" else self.output_shape

    def get_tensor_dtype(self, name: str) -> str:
        usual = self._fake.input_type if name == "images" else "FLOAT"
        return self._fake.more_outputs.get(name, usual)  # type: ignore[no-any-return]

    def get_tensor_mode(self, name: str) -> str:
        return "INPUT" if name == "images" else "OUTPUT"

    def create_execution_context(self) -> _Context | None:
        return _Context(self) if self._fake.has_context else None


class _Log:
    ERROR, INTERNAL_ERROR, WARNING = "error", "internal", "warning"

    def __init__(self) -> None:
        pass


def fake_tensorrt(
    input_shape: tuple[int, ...], output_shape: tuple[int, ...], answer: Callable[[Bytes], Floats]
) -> Any:
    """The module `tensorrt`; a plan is good when it reads b"plan"."""
    module: Any = ModuleType("tensorrt")
    module.__version__ = "10.3.0"
    module.ILogger = _Log
    module.BuilderFlag = SimpleNamespace(FP16=0, INT8=1, TF32=2)
    module.TensorIOMode = SimpleNamespace(INPUT="INPUT", OUTPUT="OUTPUT")
    module.nptype = lambda dtype: {"FLOAT": np.float32, "INT64": np.int64, "UINT8": np.uint8}[dtype]
    module.input_type = "UINT8"
    module.input_shape, module.output_shape, module.answer = input_shape, output_shape, answer
    module.more_outputs = {}
    module.has_context = True
    module.cuda = None

    class Runtime:
        def __init__(self, log: Any) -> None:
            self._log = log

        def deserialize_cuda_engine(self, plan: bytes) -> _Engine | None:
            if plan == b"plan":
                return _Engine(module)
            self._log.log("error", "the plan's magic is wrong")
            return None

    module.Runtime = Runtime
    return module
