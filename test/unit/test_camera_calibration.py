"""Calibration files: a good one, and what is said of each wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from shopfloor.camera.calibration import CalibrationError, read_calibration


def content() -> dict[str, Any]:
    """As camera_calibration writes it."""
    return {
        "image_width": 640,
        "image_height": 480,
        "camera_name": "narrow_stereo",
        "camera_matrix": {
            "rows": 3, "cols": 3, "data": [430.2, 0, 306.7, 0, 430.5, 227.2, 0, 0, 1]
        },
        "distortion_model": "plumb_bob",
        "distortion_coefficients": {"rows": 1, "cols": 5, "data": [-0.33, 0.11, 0.0, 0.0, 0.0]},
        "rectification_matrix": {"rows": 3, "cols": 3, "data": [1, 0, 0, 0, 1, 0, 0, 0, 1]},
        "projection_matrix": {
            "rows": 3, "cols": 4, "data": [355.6, 0, 303.0, 0, 0, 415.0, 222.0, 0, 0, 0, 1, 0]
        },
    }  # fmt: skip


def written(folder: Path, what: object) -> Path:
    path = folder / "camera.yaml"
    path.write_text(what if isinstance(what, str) else yaml.safe_dump(what), "utf-8")
    return path


def test_a_file_of_camera_calibration_is_read(tmp_path: Path) -> None:
    calibration = read_calibration(written(tmp_path, content()))
    assert (calibration.width, calibration.height) == (640, 480)
    assert calibration.k[0] == 430.2 and calibration.k[4] == 430.5
    assert (len(calibration.d), len(calibration.r), len(calibration.p)) == (5, 9, 12)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("image_width",), None, "image_width is missing"),
        (("image_width",), 0, "image_width: 0 is not allowed; allowed: 1 to 65536"),
        (("image_height",), "480", "image_height: '480' is not allowed"),
        (("image_height",), True, "image_height: True is not allowed"),
        (("distortion_model",), "fisheye", "distortion_model: 'fisheye' is not allowed; allowed: "),
        (("camera_matrix",), None, "camera_matrix is missing"),
        (("camera_matrix", "data"), [1.0] * 8, "camera_matrix.data: 8 numbers; allowed: 3 x 3"),
        (("camera_matrix", "data"), "x", "camera_matrix.data: no list of numbers"),
        (("camera_matrix", "data"), [0.0] * 9, "camera_matrix: focal lengths 0 and 0"),
        (("camera_matrix", "rows"), 4, "camera_matrix.rows: 4, but data is 3 x 3"),
        (("distortion_coefficients", "data"), [0.1] * 8, "8 numbers; allowed: 1 x 4 or 1 x 5"),
        (("projection_matrix", "data"), [float("nan")] * 12, "nan is not finite"),
        (("rectification_matrix", "data"), ["a"] * 9, "'a' is no number"),
        (("rectification_matrix",), [1] * 9, "rectification_matrix.data: no list of numbers"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_key(
    tmp_path: Path, path: tuple[str, ...], value: object, says: str
) -> None:
    wrong = content()
    inner = wrong
    for key in path[:-1]:
        inner = inner[key]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    file = written(tmp_path, wrong)
    with pytest.raises(CalibrationError) as error:
        read_calibration(file)
    assert says in str(error.value) and str(file) in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"), [("", "no keys"), ("a: [", "no YAML"), ("- 1", "no keys")]
)
def test_a_file_that_holds_no_calibration_says_so(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(CalibrationError, match=says):
        read_calibration(written(tmp_path, text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"absent\.yaml: No such file"):
        read_calibration(tmp_path / "absent.yaml")
