"""The offline evaluation: figures that can be worked out by hand, and its command line."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_model import CELL, CLASSES, picture, write_package

from shopfloor.inspection.offline import figures, labelled_images, load_inspector, main, read_truth


def write_parts(folder: Path) -> tuple[Path, Path]:
    """Two bad parts that are found, one that is found with the wrong class, two good ones."""
    pictures, truth = folder / "pictures", folder / "truth"
    pictures.mkdir()
    truth.mkdir()
    squares = {"bad1": (1, 1, 0, 255), "bad2": (2, 0, 2, 230), "wrong": (0, 0, 1, 240)}
    labels = {"bad1": 0, "bad2": 2, "wrong": 0}
    for name, (column, row, class_id, value) in squares.items():
        cv2.imwrite(str(pictures / f"{name}.png"), picture((column, row, class_id, value)))
        box = [column * CELL, row * CELL, (column + 1) * CELL, (row + 1) * CELL]
        (truth / f"{name}.txt").write_text(" ".join(map(str, [*box, labels[name] + 1])) + "\n\n")
    for name in ("good1", "good2"):
        cv2.imwrite(str(pictures / f"{name}.png"), picture((1, 1, 0, 100)))
    return pictures, truth


def test_command_line_writes_figures_that_are_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, truth = write_parts(tmp_path)
    (pictures / "cut.png").write_bytes((pictures / "bad1.png").read_bytes()[:60])
    model = write_package(tmp_path / "model")
    out = tmp_path / "out.json"
    arguments = [str(model), str(pictures), "--truth", str(truth), "--first-class", "1"]
    assert main([*arguments, "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    # Blue: one of two found; red: its one found; green is never true, so it has no figure.
    assert result["figures"]["class_ap50"] == {"blue": 0.5, "red": 1.0}
    assert result["figures"]["map50"] == pytest.approx(0.75)
    assert result["figures"]["auroc"] == 1.0 and result["figures"]["false_rejects"] == 0.0
    assert result["verdicts"] == {"fail": 3, "pass": 2}
    assert len(result["unreadable"]) == 1 and "cut.png" in result["unreadable"][0]
    printed = capsys.readouterr().out
    assert "mAP50: 0.7500" in printed and "infer" in printed and "cut.png" in printed


def test_pictures_without_truth_have_verdicts_and_no_figures(tmp_path: Path) -> None:
    pictures, _ = write_parts(tmp_path)
    model = write_package(tmp_path / "model")
    out = tmp_path / "out.json"
    assert main([str(model), str(pictures), "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert math.isnan(result["figures"]["map50"]) and result["verdicts"]["fail"] == 3


@pytest.mark.parametrize("wrong", ["model", "pictures", "truth"])
def test_what_is_missing_or_wrong_is_one_line_that_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    pictures, truth = write_parts(tmp_path)
    model = write_package(tmp_path / "model")
    if wrong == "truth":
        (truth / "bad1.txt").write_text("1 2 3 4 5\n1 2 three 4 5\n")
    arguments = [
        str(tmp_path / "absent" if wrong == "model" else model),
        str(tmp_path / "absent" if wrong == "pictures" else pictures),
        "--truth",
        str(truth),
    ]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert ("bad1.txt:2" if wrong == "truth" else "absent") in error


def test_truth_may_be_empty_and_separated_by_commas(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("")
    assert read_truth(path).shape == (0, 5)
    path.write_text("1,2,3,4,1\n")
    np.testing.assert_array_equal(read_truth(path, 1), [[1, 2, 3, 4, 0]])


def test_figures_of_no_bad_part_are_nan_and_of_no_picture_too() -> None:
    empty = np.empty((0, 6))
    only_good = figures([empty], [np.empty((0, 5))], CLASSES)
    assert math.isnan(only_good.auroc) and only_good.good == 1
    assert math.isnan(figures([], [], CLASSES).map50)


def test_grey_pictures_stay_grey(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((96, 128), np.uint8))
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((96, 128), np.uint16))
    assert [i.encoding for i in labelled_images(tmp_path, None)] == ["mono8", "mono16"]


def test_the_inspector_has_the_models_thresholds(tmp_path: Path) -> None:
    inspector = load_inspector(str(write_package(tmp_path)))
    assert (inspector.criteria.fail, inspector.criteria.suspect) == (0.6, 0.3)
