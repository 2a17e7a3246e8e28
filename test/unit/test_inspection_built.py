"""Files built from a model: only a whole one that fits model and host is used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_model import write_package

from shopfloor.inspection.engines import EngineError, EngineOptions, load_engine
from shopfloor.inspection.engines.built import Built, built_path, read_built, write_built
from shopfloor.inspection.engines.precisions import INT8_FILE, int8_key
from shopfloor.inspection.model import ModelPackage, load_model_package

KEY = {"model_sha256": "a" * 64, "gpu": "Orin 8.7"}
COMMAND = "python -m shopfloor.inspection build tiny/1"


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "model.plan"
    write_built(path, Built(b"plan", KEY, {"map50": 0.5}))
    assert read_built(path, KEY, COMMAND) == Built(b"plan", KEY, {"map50": 0.5})
    assert sorted(p.name for p in path.parent.iterdir()) == ["model.plan", "model.plan.json"]


@pytest.mark.parametrize(
    ("name", "here"), [("gpu", "Thor 11.0"), ("model_sha256", "b" * 64), ("tensorrt", "11.4")]
)
def test_what_was_built_for_something_else_is_refused(tmp_path: Path, name: str, here: str) -> None:
    path = tmp_path / "model.plan"
    write_built(path, Built(b"plan", KEY, {}))
    with pytest.raises(EngineError, match=f"was built for {name} .*here it is '{here}'; build it"):
        read_built(path, {**KEY, name: here}, COMMAND)


def test_half_written_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.plan"
    with pytest.raises(EngineError, match=f"model.plan: is not built yet; build it: {COMMAND}"):
        read_built(path, KEY, COMMAND)
    write_built(path, Built(b"a whole plan", KEY, {}))
    path.write_bytes(b"a whole pl")
    with pytest.raises(EngineError, match=r"model\.plan: is damaged"):
        read_built(path, KEY, COMMAND)
    record = path.with_name("model.plan.json")
    for content in ("", "[]", "{}", '{"key": 1, "sha256": "x", "report": {}}', "\x00"):
        record.write_text(content)
        with pytest.raises(EngineError, match=r"model\.plan\.json: is no record of a build"):
            read_built(path, KEY, COMMAND)
    record.unlink()
    with pytest.raises(EngineError, match=r"model.plan.json: No such file.*build it"):
        read_built(path, KEY, COMMAND)


def test_a_write_that_fails_leaves_the_old_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.plan"
    write_built(path, Built(b"old", KEY, {}))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_built(path, Built(b"new", KEY, {}))
    assert read_built(path, KEY, COMMAND).content == b"old"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelPackage:
    monkeypatch.setenv("SHOPFLOOR_CACHE_DIR", str(tmp_path / "cache"))
    return load_model_package(write_package(tmp_path / "package"))


INT8 = EngineOptions(precision="int8")


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_int8_runs_when_it_was_measured_and_loses_little(
    package: ModelPackage, engine: str
) -> None:
    with pytest.raises(EngineError, match=r"not built yet.*build tiny/1 --precision int8"):
        load_engine(engine, package, INT8)
    path = built_path(package, INT8_FILE)
    for loss in (0.03, None, float("nan"), "0.0"):
        write_built(path, Built(package.onnx, int8_key(package), {"map50_loss": loss}))
        with pytest.raises(EngineError, match=r"int8 loses .* mAP50; allowed: 0.02"):
            load_engine(engine, package, INT8)
    write_built(path, Built(package.onnx, int8_key(package), {"map50_loss": 0.01}))
    assert load_engine(engine, package, INT8).describe().precision == "int8"


def test_int8_of_another_model_is_refused(package: ModelPackage) -> None:
    path = built_path(package, INT8_FILE)
    key = {**int8_key(package), "model_sha256": "0" * 64}
    write_built(path, Built(package.onnx, key, {"map50_loss": 0.0}))
    with pytest.raises(EngineError, match="was built for model_sha256 '0000"):
        load_engine("onnxruntime", package, INT8)


def test_a_shipped_file_is_found_beside_the_model(package: ModelPackage) -> None:
    beside = package.path.parent / INT8_FILE
    assert built_path(package, INT8_FILE) != beside
    write_built(beside, Built(package.onnx, int8_key(package), {"map50_loss": 0.0}))
    assert built_path(package, INT8_FILE) == beside
    record = json.loads((package.path.parent / f"{INT8_FILE}.json").read_text())
    assert record["key"]["model_sha256"] == package.sha256
    assert load_engine("onnxruntime", package, INT8)
