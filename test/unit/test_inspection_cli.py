"""`python -m shopfloor.inspection`: what it picks, writes and refuses."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
import yaml
from tiny_model import build_onnx, picture, write_package

from shopfloor.inspection.cli import FAILED, WRONG_INPUT, main
from shopfloor.inspection.engine_bench import Candidate, Measured, candidates, fastest
from shopfloor.inspection.parameters import InspectorParameters
from shopfloor.inspection.parity import Parity

AGREES = Parity(0.001, 1.0, 4, "")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SHOPFLOOR_CACHE_DIR", str(tmp_path / "cache"))
    folder = write_package(tmp_path / "package")
    (folder / "parity").mkdir()
    cv2.imwrite(str(folder / "parity" / "1.png"), picture((1, 0, 0, 255), (3, 2, 2, 200)))
    return str(folder)


def test_the_choice_is_parameters_of_the_inspector(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "inspector.yaml"
    arguments = ["bench", model, "--seconds", "0", "--threads", "1", "2", "--write", str(target)]
    assert main(arguments) == 0
    chosen = yaml.safe_load(target.read_text())["parameters"]
    assert chosen["engine"] in ("onnxruntime", "openvino") and chosen["model"] == "tiny/1"
    InspectorParameters(**chosen)
    shown = capsys.readouterr().out
    assert "tensorrt" in shown and "not built yet" in shown and target.read_text() in shown


def test_only_what_may_serve_is_picked() -> None:
    def one(name: str, ms: float, complaint: str = "") -> Measured:
        return Measured(Candidate(name, "int8", 1), name, AGREES, (ms, ms), complaint)

    wrong, slow, good = one("wrong", 1.0, "a score is off"), one("slow", 9.0), one("good", 2.0)
    missing = Measured(Candidate("tensorrt", "int8", 1), "", None, (), "not installed")
    assert fastest([wrong, slow, good, missing]) is good
    assert fastest([wrong, missing]) is None


def test_threads_count_on_the_cpu_only() -> None:
    found = candidates(("openvino", "tensorrt"), ("float32",), (1, 2, 4))
    assert [(c.engine, c.threads) for c in found] == [
        ("openvino", 1), ("openvino", 2), ("openvino", 4), ("tensorrt", 1)
    ]  # fmt: skip


def test_parity_says_by_its_exit_code_whether_engines_agree(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["parity", model, "--engine", "openvino", "--precision", "float32"]) == 0
    assert "yes" in capsys.readouterr().out
    assert main(["parity", model, "--engine", "tensorrt", "--precision", "int8"]) == FAILED
    write_package(Path(model), build_onnx(output_bias=float("nan")))
    assert main(["parity", model, "--engine", "openvino", "--precision", "float32"]) == FAILED
    assert "NaN" in capsys.readouterr().out


def test_wrong_input_is_one_line(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = str(Path(model) / "none")
    cases = {
        "no model 'none/9'": ["bench", "none/9"],
        "--pictures and --truth": ["build", model, "--precision", "int8"],
        "only --engine tensorrt": ["build", model, "--precision", "float16"],
        "No such file": [
            "build", model, "--precision", "int8", "--pictures", nothing, "--truth", nothing
        ],
    }  # fmt: skip
    for message, arguments in cases.items():
        assert main(arguments) == WRONG_INPUT
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1
    (Path(model) / "model.onnx").write_bytes(b"swapped")
    assert main(["bench", model]) == WRONG_INPUT
    assert "damaged or was swapped" in capsys.readouterr().err


def test_drawn_pictures_are_what_the_evaluation_reads(tmp_path: Path) -> None:
    from shopfloor.inspection.offline import labelled_images
    from shopfloor.sim import pictures

    assert pictures.main([str(tmp_path), "--count", "2", "--size", "160", "--seed", "3"]) == 0
    read = list(labelled_images(tmp_path / "pictures", tmp_path / "truth"))
    assert len(read) == 4 and all(item.image.shape == (160, 160, 3) for item in read)
    assert sum(len(item.truth) for item in read) > 0
    with pytest.raises(SystemExit):
        pictures.main([str(tmp_path), "--size", "10"])
