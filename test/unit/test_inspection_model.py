"""Model packages: each way in which one can be wrong has an error that names file and key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_model import CLASSES, build_onnx, card, write_package

from shopfloor.inspection.engines import EngineError, EngineOptions, load_engine
from shopfloor.inspection.model import ModelError, load_model_package

ONNX = build_onnx()


def test_a_good_package(tmp_path: Path) -> None:
    package = load_model_package(write_package(tmp_path, ONNX))
    assert (package.name, package.version, package.classes) == ("tiny", "1", CLASSES)
    assert (package.input.width, package.input.height, package.input.pad) == (128, 96, 114)
    assert package.output.shape == (1, 252, 8)
    assert package.thresholds.fail == 0.6 and package.onnx == ONNX
    assert package.card["architecture"] == "average pooling"


def test_optional_keys_have_defaults(tmp_path: Path) -> None:
    write_package(
        tmp_path,
        ONNX,
        input={"name": "images", "width": 128, "height": 96},
        thresholds={"fail": 0.5, "suspect": 0.5},
        version=1,
    )
    package = load_model_package(tmp_path)
    assert package.input.std == (1.0, 1.0, 1.0) and package.input.channels == "bgr"
    assert package.thresholds.nms_iou == 0.5 and package.version == "1"


INPUT = card(ONNX)["input"]


@pytest.mark.parametrize(
    ("changes", "key", "allowed"),
    [
        ({"name": ""}, "name", "a text"),
        ({"version": True}, "version", "a text"),
        ({"name": "n" * 65}, "name", "1 to 64 bytes"),
        ({"classes": ["\u00e4" * 33]}, "classes", "1 to 64 bytes"),
        ({"layout": "ssd"}, "layout", "yolox, yolov8"),
        ({"decoded": "yes"}, "decoded", "true or false"),
        ({"layout": "yolov8", "decoded": False}, "decoded", "always decoded"),
        ({"classes": []}, "classes", "different names"),
        ({"classes": ["a", "a"]}, "classes", "different names"),
        ({"classes": "short"}, "classes", "different names"),
        ({"thresholds": {"fail": 1.5, "suspect": 0.1}}, "thresholds.fail", "from 0 to 1"),
        ({"thresholds": {"fail": 0.2, "suspect": 0.3}}, "thresholds.suspect", "at most"),
        ({"thresholds": {"fail": float("nan"), "suspect": 0}}, "thresholds.fail", "from 0 to 1"),
        ({"input": {**INPUT, "width": 130}}, "input.width", "multiple of 32"),
        ({"input": {**INPUT, "width": 128.0}}, "input.width", "whole number"),
        ({"input": {**INPUT, "channels": "grey"}}, "input.channels", "bgr, rgb"),
        ({"input": {**INPUT, "std": [1, 0, 1]}}, "input.std", "above 0"),
        ({"input": {**INPUT, "mean": [1, 2]}}, "input.mean", "3 numbers"),
        ({"input": {**INPUT, "pad": 300}}, "input.pad", "from 0 to 255"),
    ],
)
def test_a_wrong_value_names_file_key_and_what_is_allowed(
    tmp_path: Path, changes: dict[str, Any], key: str, allowed: str
) -> None:
    write_package(tmp_path, ONNX, **changes)
    with pytest.raises(ModelError) as caught:
        load_model_package(tmp_path)
    text = str(caught.value)
    assert str(tmp_path / "model.yaml") in text and f" {key}: " in text and allowed in text


@pytest.mark.parametrize(
    "key", ["name", "version", "sha256", "layout", "input", "classes", "thresholds"]
)
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    write_package(tmp_path, ONNX)
    content = yaml.safe_load((tmp_path / "model.yaml").read_text())
    del content[key]
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ModelError, match=rf"model.yaml: {key}: is missing"):
        load_model_package(tmp_path)


@pytest.mark.parametrize("missing", ["model.onnx", "model.yaml"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    (write_package(tmp_path, ONNX) / missing).unlink()
    with pytest.raises(ModelError, match=f"{missing}: there is no such file"):
        load_model_package(tmp_path)


@pytest.mark.parametrize("content", ["[1, 2]", "", "a: [", "\x00"])
def test_a_card_that_is_no_mapping_is_an_error(tmp_path: Path, content: str) -> None:
    write_package(tmp_path, ONNX)
    (tmp_path / "model.yaml").write_text(content)
    with pytest.raises(ModelError, match=r"model\.yaml"):
        load_model_package(tmp_path)


def test_a_damaged_or_swapped_model_file_is_refused(tmp_path: Path) -> None:
    write_package(tmp_path, ONNX)
    (tmp_path / "model.onnx").write_bytes(ONNX[:-1] + b"\x7f")
    with pytest.raises(ModelError, match=r"model.onnx: sha256 is [0-9a-f]{64}, but .*model.yaml"):
        load_model_package(tmp_path)


def load(folder: Path, engine: str = "onnxruntime", **options: Any) -> Any:
    return load_engine(engine, load_model_package(folder), EngineOptions(**options))


def test_engine_refuses_what_does_not_fit_the_card(tmp_path: Path) -> None:
    cases: dict[str, dict[str, Any]] = {
        r"tensor 'output' has shape \[1, 252, 8\].* 2 classes.*\[1, 252, 7\]": {
            "classes": ["a", "b"]
        },
        r"input tensor 'images' is .*\[1, 3, 96, 128\].*\[1, 3, 96, 96\]": {
            "input": {**INPUT, "width": 96}
        },
        r"input tensors are \['images'\].*'data'": {"input": {**INPUT, "name": "data"}},
        r"tensor 'output' .* layout yolov8": {"layout": "yolov8"},
    }
    for message, changes in cases.items():
        write_package(tmp_path, ONNX, **changes)
        with pytest.raises(EngineError, match=message):
            load(tmp_path)


def test_engine_refuses_a_file_that_is_no_model(tmp_path: Path) -> None:
    write_package(tmp_path, b"this is no ONNX file")
    with pytest.raises(EngineError, match=r"model\.onnx: ONNX Runtime can't load it"):
        load(tmp_path)


def test_unknown_engine_and_precision_are_named(tmp_path: Path) -> None:
    write_package(tmp_path, ONNX)
    with pytest.raises(EngineError, match="'tpu' is not known; allowed: onnxruntime"):
        load(tmp_path, "tpu")
    with pytest.raises(EngineError, match="no precision 'bfloat16'; allowed: float32"):
        load(tmp_path, precision="bfloat16")


def test_engine_describes_itself_and_refuses_work_when_closed(tmp_path: Path) -> None:
    import numpy as np

    engine = load(write_package(tmp_path, ONNX), threads=2)
    assert engine.describe().name.startswith("onnxruntime ")
    assert engine.describe().precision == "float32"
    batch = np.zeros((1, 3, 96, 128), np.float32)
    assert engine.infer(batch)[0].shape == (1, 252, 8)
    with pytest.raises(EngineError, match="failed"):
        engine.infer(batch[:, :, :64])
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(batch)
