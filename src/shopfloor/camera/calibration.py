"""A camera's calibration as ROS camera_calibration writes it: read, checked, named where wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

COEFFICIENTS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}
"""Distortion models of sensor_msgs/CameraInfo and how many coefficients each may have."""


class CalibrationError(ValueError):
    """The file can't be used; the message names file, key and what is allowed."""


@dataclass(frozen=True)
class Calibration:
    """What sensor_msgs/CameraInfo holds. Matrices are row by row.

    width, height: pixels of the pictures that it was made with.
    k: 3 x 3 intrinsics. d: distortion coefficients. r: 3 x 3 rectification. p: 3 x 4 projection.
    """

    width: int
    height: int
    distortion_model: str
    d: tuple[float, ...]
    k: tuple[float, ...]
    r: tuple[float, ...]
    p: tuple[float, ...]


def read_calibration(path: Path) -> Calibration:
    """The calibration in a YAML file. Raises CalibrationError."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CalibrationError(f"calibration {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CalibrationError(f"calibration {path} is no YAML: {error}") from error
    try:
        return _calibration(content)
    except CalibrationError as error:
        raise CalibrationError(f"calibration {path}: {error}") from None


def _calibration(content: Any) -> Calibration:
    if not isinstance(content, dict):
        raise CalibrationError("holds no keys; camera_calibration writes image_width and so on")
    width, height = _pixels(content, "image_width"), _pixels(content, "image_height")
    model = _value(content, "distortion_model")
    if model not in COEFFICIENTS:
        raise CalibrationError(
            f"distortion_model: {model!r} is not allowed; allowed: {', '.join(COEFFICIENTS)}"
        )
    d = _matrix(content, "distortion_coefficients", 1, COEFFICIENTS[model])
    k = _matrix(content, "camera_matrix", 3, (3,))
    r = _matrix(content, "rectification_matrix", 3, (3,))
    p = _matrix(content, "projection_matrix", 3, (4,))
    for name, matrix, second in (("camera_matrix", k, 4), ("projection_matrix", p, 5)):
        if matrix[0] <= 0.0 or matrix[second] <= 0.0:
            raise CalibrationError(
                f"{name}: focal lengths {matrix[0]:g} and {matrix[second]:g}; allowed: above 0"
            )
    return Calibration(width, height, model, d, k, r, p)


def _value(content: dict[str, Any], key: str) -> Any:
    if key not in content:
        raise CalibrationError(f"{key} is missing; there are: {', '.join(map(str, content))}")
    return content[key]


def _pixels(content: dict[str, Any], key: str) -> int:
    value = _value(content, key)
    if type(value) is not int or not 1 <= value <= 65536:
        raise CalibrationError(f"{key}: {value!r} is not allowed; allowed: 1 to 65536")
    return value


def _matrix(
    content: dict[str, Any], key: str, rows: int, columns: tuple[int, ...]
) -> tuple[float, ...]:
    matrix = _value(content, key)
    allowed = " or ".join(f"{rows} x {c}" for c in columns)
    data = matrix.get("data") if isinstance(matrix, dict) else None
    if not isinstance(data, list) or len(data) not in [rows * c for c in columns]:
        count = f"{len(data)} numbers" if isinstance(data, list) else "no list of numbers"
        raise CalibrationError(f"{key}.data: {count}; allowed: {allowed}")
    for said, counted in (("rows", rows), ("cols", len(data) // rows)):
        if matrix.get(said, counted) != counted:
            raise CalibrationError(f"{key}.{said}: {matrix[said]!r}, but data is {allowed}")
    for number in data:
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise CalibrationError(f"{key}.data: {number!r} is no number")
        if not math.isfinite(number):
            raise CalibrationError(f"{key}.data: {number!r} is not finite")
    return tuple(float(number) for number in data)
