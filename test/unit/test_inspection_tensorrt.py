"""TensorRT without a GPU: logic on stand-ins; names, parsing and plans on the real wheels."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_tensorrt import FakeCuda, fake_tensorrt
from tiny_model import build_onnx, write_package

from shopfloor.inspection.engines import Engine, EngineError, EngineOptions, load_engine
from shopfloor.inspection.engines.built import Built, built_path, write_built
from shopfloor.inspection.engines.tensorrt_api import MODULES, import_tensorrt, strongly_typed
from shopfloor.inspection.model import ModelPackage, load_model_package

ENGINE = "shopfloor.inspection.engines.tensorrt"
SHAPE = (1, 3, 96, 128)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelPackage:
    monkeypatch.setenv("SHOPFLOOR_CACHE_DIR", str(tmp_path / "cache"))
    return load_model_package(write_package(tmp_path / "package"))


def _forget() -> None:
    for name in (ENGINE, f"{ENGINE}_build"):
        sys.modules.pop(name, None)


@pytest.fixture
def fake(package: ModelPackage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module `tensorrt`, answering what ONNX Runtime answers, with a plan in place."""
    reference = load_engine("onnxruntime", package, EngineOptions())

    def answer(batch: Any) -> Any:
        return reference.infer(batch.astype(np.float32))[0]

    trt = fake_tensorrt(SHAPE, (1, 252, 8), answer)
    _forget()
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    engine = importlib.import_module(ENGINE)

    def open_cuda() -> FakeCuda:
        trt.cuda = FakeCuda()
        trt.cuda.free_bytes = trt.free_bytes
        return trt.cuda  # type: ignore[no-any-return]

    trt.free_bytes = 1 << 26
    monkeypatch.setattr(engine, "open_cuda", open_cuda)
    put_plan(package, engine)
    yield trt
    _forget()


def put_plan(package: ModelPackage, engine: Any, content: bytes = b"plan", **key: str) -> None:
    path = built_path(package, engine.plan_file(package, "float32"))
    wanted = engine.plan_key(package, "float32", "Orin 8.7")
    write_built(path, Built(content, {**wanted, **key}, {}))


def load(package: ModelPackage, precision: str = "float32") -> Engine:
    return load_engine("tensorrt", package, EngineOptions(precision=precision))


def test_one_thread_owns_the_device_and_the_graph_is_launched(
    package: ModelPackage, fake: Any
) -> None:
    reference = load_engine("onnxruntime", package, EngineOptions())
    engine = load(package)
    assert engine.describe().name == "tensorrt 10.3.0 Orin 8.7"
    rng = np.random.default_rng(0)
    kept = []
    for _ in range(3):  # FakeCuda refuses any other thread, and a read before the wait
        batch = rng.integers(0, 256, SHAPE, np.uint8)
        kept.append((engine.infer(batch)[0], reference.infer(batch.astype(np.float32))[0]))
    for given, wanted in kept:
        np.testing.assert_array_equal(given, wanted)
    assert fake.cuda.launches == 3
    engine.close()
    engine.close()
    assert fake.cuda.closed
    with pytest.raises(EngineError, match="closed"):
        engine.infer(batch)


def test_open_lengths_are_fixed_by_the_package(package: ModelPackage, fake: Any) -> None:
    fake.input_shape = (-1, 3, -1, -1)
    assert load(package).infer(np.zeros(SHAPE, np.uint8))[0].shape == (1, 252, 8)


@pytest.mark.parametrize(
    ("key", "there"),
    [
        ("gpu", "Thor 11.0"),
        ("tensorrt", "tensorrt 10.2.0"),
        ("model_sha256", "0" * 64),
        ("precision", "float16"),
        ("input", "640 x 640"),
    ],
)
def test_a_plan_for_something_else_is_refused(
    package: ModelPackage, fake: Any, key: str, there: str
) -> None:
    put_plan(package, sys.modules[ENGINE], **{key: there})
    with pytest.raises(EngineError, match=f"was built for {key} '{there}', here it is .*build"):
        load(package)
    assert fake.cuda.closed


def test_what_can_be_wrong_when_it_is_loaded(package: ModelPackage, fake: Any) -> None:
    with pytest.raises(EngineError, match="no precision 'bfloat16'; allowed: float32, float16"):
        load(package, "bfloat16")
    with pytest.raises(EngineError, match=r"not built yet.*--engine tensorrt --precision float16"):
        load(package, "float16")
    fake.has_context = False
    with pytest.raises(EngineError, match="no room for its context"):
        load(package)
    fake.has_context = True
    fake.free_bytes = 400
    with pytest.raises(EngineError, match=r"tensor 'images' .*cudaMalloc of 36864 bytes: out of"):
        load(package)
    assert fake.cuda.closed
    fake.free_bytes = 1 << 26
    fake.output_shape = (1, 252, 7)
    with pytest.raises(EngineError, match=r"output tensor 'output' has shape \[1, 252, 7\]"):
        load(package)
    fake.output_shape = (1, 252, 8)
    fake.more_outputs = {"classes": "INT64"}  # would overflow a buffer of float32
    with pytest.raises(EngineError, match=r"output tensor 'classes' is int64; allowed: float32"):
        load(package)
    assert fake.cuda.closed
    put_plan(package, sys.modules[ENGINE], b"a damaged plan")
    with pytest.raises(EngineError, match="TensorRT can't load it: the plan's magic is wrong"):
        load(package)
    assert fake.cuda.closed


def test_a_fault_on_the_device_is_an_error_of_the_engine(package: ModelPackage, fake: Any) -> None:
    engine = load(package)
    for wrong in (np.zeros((1, 3, 32, 32), np.uint8), np.zeros(SHAPE, np.float32)):
        with pytest.raises(EngineError, match=r"batch .*allowed: uint8 \[1, 3, 96, 128\]"):
            engine.infer(wrong)
    fake.cuda.broken = True
    for _ in range(2):
        with pytest.raises(EngineError, match="illegal memory access"):
            engine.infer(np.zeros(SHAPE, np.uint8))
    engine.close()


def test_builder_flags_up_to_10_only() -> None:
    ten = SimpleNamespace(BuilderFlag=SimpleNamespace(FP16=0, INT8=1, TF32=2))
    eleven = SimpleNamespace(BuilderFlag=SimpleNamespace(TF32=2))
    assert not strongly_typed(ten) and strongly_typed(eleven)


# On the real wheels -------------------------------------------------------------------------------


@pytest.fixture
def real(package: ModelPackage) -> Iterator[Any]:
    """`shopfloor.inspection.engines.tensorrt_build` on the installed TensorRT."""
    _forget()
    try:
        import_tensorrt()
    except ImportError as error:
        pytest.skip(f"{error}; `pip install tensorrt-rtx-cu13` needs no GPU")
    yield importlib.import_module(f"{ENGINE}_build")
    _forget()


USED = (
    "Runtime.deserialize_cuda_engine", "ICudaEngine.create_execution_context",
    "ICudaEngine.num_io_tensors", "ICudaEngine.get_tensor_name", "ICudaEngine.get_tensor_shape",
    "ICudaEngine.get_tensor_dtype", "ICudaEngine.get_tensor_mode",
    "IExecutionContext.set_input_shape", "IExecutionContext.get_tensor_shape",
    "IExecutionContext.set_tensor_address", "IExecutionContext.execute_async_v3",
    "TensorIOMode.INPUT", "ILogger.ERROR", "ILogger.INTERNAL_ERROR", "ILogger.WARNING", "nptype",
    "BuilderFlag.TF32", "MemoryPoolType.WORKSPACE", "IProgressMonitor",
)  # fmt: skip


def test_every_name_that_is_used_is_there(real: Any) -> None:
    for name in USED:
        value = real.trt
        for part in name.split("."):
            assert hasattr(value, part), f"{real.trt.__name__} has no {name}"
            value = getattr(value, part)


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_plan_is_built_without_a_gpu(
    tmp_path: Path, real: Any, precision: str, dynamic: bool
) -> None:
    if real.trt.__name__ == "tensorrt":
        pytest.skip("TensorRT builds only where a GPU is; TensorRT for RTX also elsewhere")
    folder = write_package(tmp_path / "model", build_onnx(dynamic=dynamic))
    seen: list[tuple[str, int, int]] = []
    built = real.build_plan(
        load_model_package(folder), precision, "none", lambda *step: seen.append(step)
    )
    assert len(built.content) > 1000 and seen
    assert built.key["gpu"] == "none" and built.key["precision"] == precision
    assert built.report["onnx"] == precision


def test_what_tensorrt_cannot_read_is_named(tmp_path: Path, real: Any) -> None:
    package = load_model_package(write_package(tmp_path / "model", b"no ONNX"))
    with pytest.raises(EngineError, match=r"model\.onnx: TensorRT can't read it"):
        real.build_plan(package, "float32", "none", lambda *_: None)


def test_without_tensorrt_the_engine_says_what_is_missing(package: ModelPackage) -> None:
    _forget()
    try:
        import_tensorrt()
    except ImportError:
        with pytest.raises(EngineError, match=f"not installed .*{', '.join(MODULES)}"):
            load(package)
    else:
        pytest.skip("TensorRT is installed")
