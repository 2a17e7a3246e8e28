"""The parity gate: an engine that answers differently does not serve."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from tiny_model import build_onnx, picture, write_package

from shopfloor.inspection import parity
from shopfloor.inspection.engine_bench import Bench, Candidate
from shopfloor.inspection.engines import (
    Engine,
    EngineError,
    EngineInfo,
    EngineOptions,
    Synchronous,
    load_engine,
)
from shopfloor.inspection.model import ModelPackage, load_model_package
from shopfloor.ros.paths import models_folder

Floats = npt.NDArray[np.float32]


class Altered(Synchronous):
    """The reference, with its outputs changed on the way out."""

    def __init__(self, engine: Engine, change: Callable[[Floats], Any], precision: str) -> None:
        self._engine = engine
        self._change = change
        self._precision = precision
        self.closed = False

    def infer(self, batch: Floats) -> list[Floats]:
        outputs = self._engine.infer(batch)
        self._change(outputs[0])
        return outputs

    def close(self) -> None:
        self.closed = True

    def describe(self) -> EngineInfo:
        return EngineInfo("altered", self._precision)


@pytest.fixture
def package(tmp_path: Path) -> ModelPackage:
    folder = write_package(tmp_path)
    (folder / "parity").mkdir()
    cv2.imwrite(str(folder / "parity" / "1.png"), picture((1, 0, 0, 255), (3, 2, 2, 200)))
    return load_model_package(folder)


def altered(
    package: ModelPackage,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Floats], Any],
    precision: str = "float32",
) -> Altered:
    """What `open_engine` gets when it asks for the engine "altered"."""
    real = load_engine("onnxruntime", package, EngineOptions())
    changed = Altered(real, change, precision)

    def load(name: str, *_: object) -> Engine:
        return changed if name == "altered" else load_engine(name, package, EngineOptions())

    monkeypatch.setattr(parity, "load_engine", load)
    return changed


def _higher(output: Floats) -> None:
    output[0, :, 5] += 0.01


def _moved(output: Floats) -> None:
    output[0, :, 0] += 4.0


def _not_a_number(output: Floats) -> None:
    output[0, 7, 2] = np.nan


def _swapped(output: Floats) -> None:
    output[..., [5, 6, 7]] = output[..., [6, 7, 5]]


def test_an_engine_that_agrees_serves(
    package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = altered(package, monkeypatch, lambda output: None)
    assert parity.open_engine("altered", package, EngineOptions()) is engine
    assert not engine.closed


@pytest.mark.parametrize(
    ("work", "complaint"),
    [
        (_higher, r"a score is off by 0\.0100; allowed: 0\.002"),
        (_swapped, "a score is off by"),
        (_moved, r"a box overlaps by 0\.7\d\d only; allowed: 0\.99"),
        (_not_a_number, "1 values that are NaN"),
    ],
)
def test_an_engine_that_differs_is_refused_and_closed(
    package: ModelPackage,
    monkeypatch: pytest.MonkeyPatch,
    work: Callable[[Floats], Any],
    complaint: str,
) -> None:
    engine = altered(package, monkeypatch, work)
    with pytest.raises(EngineError, match=f"tiny/1: altered in float32 .*{complaint}"):
        parity.open_engine("altered", package, EngineOptions())
    assert engine.closed


def _silent(output: Floats) -> None:
    output[:] = 0.0


def test_an_engine_that_sees_nothing_is_refused_at_any_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = load_model_package(write_package(tmp_path))
    pictures = tmp_path / "parity"
    pictures.mkdir()
    # 0.35: suspect from 0.3, and less than int8 may be off by.
    cv2.imwrite(str(pictures / "1.png"), picture((1, 0, 0, 173)))
    altered(package, monkeypatch, _silent, "int8")
    with pytest.raises(EngineError, match=r"a box overlaps by 0\.000 only"):
        parity.open_engine("altered", package, EngineOptions())
    cv2.imwrite(str(pictures / "1.png"), picture((1, 0, 0, 150)))
    engine = altered(package, monkeypatch, lambda output: None, "int8")
    with pytest.raises(EngineError, match=r"nothing from 0\.3 up in the 1 pictures, .*/parity"):
        parity.open_engine("altered", package, EngineOptions())
    assert engine.closed
    assert parity.open_engine("onnxruntime", package, EngineOptions())


def test_the_reference_is_timed_also_where_pictures_show_nothing(tmp_path: Path) -> None:
    package = load_model_package(write_package(tmp_path))
    (tmp_path / "parity").mkdir()
    cv2.imwrite(str(tmp_path / "parity" / "1.png"), picture((1, 0, 0, 150)))
    bench = Bench(package, seconds=0.0)
    assert bench.measure(Candidate("onnxruntime", "float32", 1)).complaint == ""
    assert "tell nothing" in bench.measure(Candidate("openvino", "float32", 1)).complaint


SHIPPED = sorted(path.parent for path in models_folder().glob("*/*/model.yaml"))


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda path: path.parent.name)
def test_the_pictures_of_every_shipped_package_have_something_to_compare(folder: Path) -> None:
    package = load_model_package(folder)
    inputs = parity.batches(package, parity.parity_pictures(package))
    assert 2 <= len(inputs) <= 4
    engine = load_engine("onnxruntime", package, EngineOptions())
    reference = parity.reference_outputs(package, inputs)
    found = parity.check_parity(package, engine, reference, inputs, parity.TOLERANCES["float32"])
    assert found.complaint == "" and found.candidates >= 4


def test_less_precision_may_differ_by_more(
    package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = altered(package, monkeypatch, _higher, "bfloat16")
    assert parity.open_engine("altered", package, EngineOptions()) is engine


def test_without_pictures_only_the_reference_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPFLOOR_MODELS", str(tmp_path / "models"))
    package = load_model_package(write_package(tmp_path / "package"))
    assert parity.open_engine("onnxruntime", package, EngineOptions())
    with pytest.raises(EngineError, match=r"no picture .*\.jpg or \.png.*package/parity"):
        parity.open_engine("openvino", package, EngineOptions())
    (tmp_path / "models" / "parity").mkdir(parents=True)
    (tmp_path / "models" / "parity" / "1.png").write_bytes(b"no picture")
    with pytest.raises(EngineError, match=r"1\.png: can't be read"):
        parity.open_engine("openvino", package, EngineOptions())


@pytest.mark.parametrize("layout", ["yolox", "yolov8"])
def test_openvino_passes_on_the_shipped_pictures(tmp_path: Path, layout: str) -> None:
    package = load_model_package(write_package(tmp_path, build_onnx(layout=layout), layout=layout))
    assert parity.open_engine("openvino", package, EngineOptions()).describe().name
