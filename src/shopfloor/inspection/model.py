"""A model package: `models/NAME/VERSION/` with model.onnx and model.yaml, checked before use."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from shopfloor.inspection.yolo import LAYOUTS, OutputLayout

MODEL_FILE = "model.onnx"
CARD_FILE = "model.yaml"
NAME_BYTES, VERSION_BYTES = 64, 32
"""Limits of the fields of results that carry names of models and classes, and versions."""

STRIDE = 32
"""Input sizes are multiples of the coarsest stride."""


class ModelError(ValueError):
    """A package that can't be used; the message names file and key."""


@dataclass(frozen=True, slots=True)
class InputFormat:
    """What the network wants: (1, 3, height, width) float32 of (value * scale - mean) / std.

    name: of the input tensor. width, height: pixels. channels: bgr or rgb. pad: grey value 0-255.
    """

    name: str
    width: int
    height: int
    channels: str = "bgr"
    scale: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    pad: int = 114

    @property
    def gain(self) -> tuple[float, ...]:
        """With `offset`, the same as scale, mean and std: value * gain + offset."""
        return tuple(self.scale / deviation for deviation in self.std)

    @property
    def offset(self) -> tuple[float, ...]:
        """See `gain`."""
        return tuple(-mean / deviation for mean, deviation in zip(self.mean, self.std, strict=True))


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Scores 0-1: at or above `fail` a part fails, at or above `suspect` it is suspect."""

    fail: float
    suspect: float
    nms_iou: float = 0.5


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A checked package.

    path: of the ONNX file; onnx: its bytes, of which `sha256` was verified.
    classes: names, by class id. card: all of model.yaml, for what isn't needed to run the model.
    """

    name: str
    version: str
    path: Path
    sha256: str
    input: InputFormat
    layout: str
    decoded: bool
    classes: tuple[str, ...]
    thresholds: Thresholds
    onnx: bytes = field(repr=False)
    card: Mapping[str, Any] = field(repr=False)

    @property
    def output(self) -> OutputLayout:
        """What the output tensor must look like."""
        return OutputLayout(
            self.layout, self.decoded, self.input.width, self.input.height, len(self.classes)
        )


def load_model_package(folder: str | Path) -> ModelPackage:
    """Read and check a package; raises ModelError.

    Checked: both files are there, every key that is needed has an allowed value, and model.onnx has
    the sha256 that model.yaml names.
    """
    folder = Path(folder).expanduser()
    card_path = folder / CARD_FILE
    card = _Card(card_path, _read_card(card_path))
    name, version = card.text("name", NAME_BYTES), card.text("version", VERSION_BYTES)
    classes = card.texts("classes")
    layout = card.choice("layout", LAYOUTS)
    decoded = card.flag("decoded", default=True)
    if layout == "yolov8" and not decoded:
        raise card.error("decoded", False, "true: boxes of layout yolov8 are always decoded")
    input_format = _input_format(card.section("input"))
    thresholds = _thresholds(card.section("thresholds"))
    path = folder / MODEL_FILE
    onnx = _read(path)
    sha256 = hashlib.sha256(onnx).hexdigest()
    if sha256 != card.text("sha256").lower():
        raise ModelError(
            f"{path}: sha256 is {sha256}, but {card_path} says {card.text('sha256')}: "
            "the file is damaged or was swapped"
        )
    return ModelPackage(
        name=name,
        version=version,
        path=path,
        sha256=sha256,
        input=input_format,
        layout=layout,
        decoded=decoded,
        classes=classes,
        thresholds=thresholds,
        onnx=onnx,
        card=card.values,
    )


def _input_format(card: _Card) -> InputFormat:
    width, height = (int(card.number(key, 1, 8192, whole=True)) for key in ("width", "height"))
    for key, size in (("width", width), ("height", height)):
        if size % STRIDE:
            raise card.error(key, size, f"a multiple of {STRIDE}")
    std = card.triple("std", 1.0)
    if min(std) <= 0:
        raise card.error("std", list(std), "3 numbers above 0")
    return InputFormat(
        name=card.text("name"),
        width=width,
        height=height,
        channels=card.choice("channels", ("bgr", "rgb"), default="bgr"),
        scale=card.number("scale", 1e-6, 1e6, default=1.0),
        mean=card.triple("mean", 0.0),
        std=std,
        pad=int(card.number("pad", 0, 255, default=114, whole=True)),
    )


def _thresholds(card: _Card) -> Thresholds:
    fail = card.number("fail", 0.0, 1.0)
    suspect = card.number("suspect", 0.0, 1.0)
    if suspect > fail:
        raise card.error("suspect", suspect, f"at most the fail threshold, {fail:g}")
    return Thresholds(fail, suspect, card.number("nms_iou", 0.0, 1.0, default=0.5))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{path}: there is no such file") from None
    except OSError as error:
        raise ModelError(f"{path}: can't be read: {error.strerror}") from error


def _read_card(path: Path) -> Any:
    try:
        return yaml.safe_load(_read(path).decode())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: is no YAML: {error}") from error


class _Card:
    """A mapping of model.yaml that names file and key in each complaint."""

    def __init__(self, path: Path, values: Any, prefix: str = "") -> None:
        self._path = path
        self._prefix = prefix
        if not isinstance(values, Mapping):
            where = f"{prefix.rstrip('.')}: " if prefix else ""
            raise ModelError(f"{path}: {where}must be a mapping, not {type(values).__name__}")
        self.values: Mapping[str, Any] = values

    def error(self, key: str, value: object, allowed: str) -> ModelError:
        """The complaint about a value."""
        return ModelError(
            f"{self._path}: {self._prefix}{key}: {value!r} is not allowed; allowed: {allowed}"
        )

    def section(self, key: str) -> _Card:
        """A mapping inside this one."""
        return _Card(self._path, self._required(key), f"{self._prefix}{key}.")

    def text(self, key: str, max_bytes: int = 254) -> str:
        """A string or number as text, not empty."""
        value = self._required(key)
        fits = isinstance(value, (str, int, float)) and not isinstance(value, bool)
        if not fits or not 1 <= len(str(value).encode()) <= max_bytes:
            raise self.error(key, value, f"a text of 1 to {max_bytes} bytes")
        return str(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of different texts, not empty."""
        value = self._required(key)
        good = isinstance(value, list) and all(
            isinstance(v, str) and 1 <= len(v.encode()) <= NAME_BYTES for v in value
        )
        if not good or not value or len(set(value)) != len(value):
            allowed = f"a list of different names of 1 to {NAME_BYTES} bytes"
            raise self.error(key, value, allowed)
        return tuple(value)

    def choice(self, key: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        """One of `allowed`."""
        value = self.values.get(key, default) if default is not None else self._required(key)
        if value not in allowed:
            raise self.error(key, value, ", ".join(allowed))
        return str(value)

    def flag(self, key: str, *, default: bool) -> bool:
        """true or false."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, value, "true or false")
        return value

    def number(
        self,
        key: str,
        low: float,
        high: float,
        *,
        default: float | None = None,
        whole: bool = False,
    ) -> float:
        """A number from `low` to `high`."""
        value = self.values.get(key, default) if default is not None else self._required(key)
        types = int if whole else (int, float)
        # The negated comparison also refuses NaN.
        if isinstance(value, bool) or not isinstance(value, types) or not low <= value <= high:
            kind = "a whole number" if whole else "a number"
            raise self.error(key, value, f"{kind} from {low:g} to {high:g}")
        return float(value)

    def triple(self, key: str, default: float) -> tuple[float, float, float]:
        """Three numbers, or nothing."""
        value = self.values.get(key)
        if value is None:
            return (default, default, default)
        good = isinstance(value, list) and len(value) == 3
        if not good or not all(
            isinstance(v, (int, float)) and not isinstance(v, bool) for v in value
        ):
            raise self.error(key, value, "a list of 3 numbers")
        first, second, third = (float(v) for v in value)
        return (first, second, third)

    def _required(self, key: str) -> Any:
        if key not in self.values:
            given = ", ".join(str(k) for k in self.values) or "nothing"
            raise ModelError(f"{self._path}: {self._prefix}{key}: is missing; given: {given}")
        return self.values[key]
