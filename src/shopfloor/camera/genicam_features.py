"""A GenICam camera's features: set, read back, and named with what is allowed where refused."""

from __future__ import annotations

import importlib
import math
import time
from typing import Any

from shopfloor.camera.device_clock import Latch
from shopfloor.camera.source import Cause, SourceError

ENCODINGS: dict[str, tuple[str, int]] = {
    "Mono8": ("mono8", 0),
    "Mono10": ("mono16", 6),
    "Mono12": ("mono16", 4),
    "Mono16": ("mono16", 0),
    "RGB8": ("rgb8", 0),
    "RGB8Packed": ("rgb8", 0),
    "BGR8": ("bgr8", 0),
    "BGR8Packed": ("bgr8", 0),
    "YCbCr422_8": ("yuv422_yuy2", 0),
    "YUV422Packed": ("yuv422", 0),
    "YUV422_YUYV_Packed": ("yuv422_yuy2", 0),
    **{
        f"Bayer{pattern}{bits}": (f"bayer_{name}{16 if bits > 8 else 8}", (16 - bits) % 8)
        for pattern, name in (("RG", "rggb"), ("BG", "bggr"), ("GB", "gbrg"), ("GR", "grbg"))
        for bits in (8, 10, 12, 16)
    },
}
"""PixelFormat: encoding, and by how many bits to shift 10 and 12 bits up to the full range."""

_LATCHES = (
    ("TimestampLatch", "TimestampLatchValue"),
    ("GevTimestampControlLatch", "GevTimestampValue"),
)
_CAUSES = (
    (Cause.BUSY, ("controlled by another", "exclusively", "already open", "in use", "busy")),
    (Cause.DENIED, ("permission", "access denied", "insufficient rights", "privileges")),
    (Cause.ABSENT, ("no device is available", "not found", "not reachable", "not connected")),
)


def pylon_modules() -> tuple[Any, Any]:
    """pypylon's `pylon` and `genicam`; SourceError where it is not installed."""
    try:
        return importlib.import_module("pypylon.pylon"), importlib.import_module("pypylon.genicam")
    except ImportError as missing:
        raise SourceError(
            Cause.CONFIGURATION, f"source genicam needs the package pypylon: {missing}"
        ) from missing


def open_cause(text: str) -> Cause:
    """Why a camera did not open, by what the SDK says; it has no codes for it in Python."""
    lower = text.lower()
    for cause, words in _CAUSES:
        if any(word in lower for word in words):
            return cause
    return Cause.UNKNOWN


class Features:
    """The features of an open camera. Names differ between cameras: the first that is there counts.

    camera: an open InstantCamera. genicam: the SDK's module. name: for messages.
    """

    def __init__(self, camera: Any, genicam: Any, name: str) -> None:
        self._nodes = camera.GetNodeMap()
        self._is_available = genicam.IsAvailable
        self._error: type[Exception] = genicam.GenericException
        self.name = name
        self._chunks: dict[str, str] = {}

    def choose(
        self, feature: str, wanted: str, allowed: tuple[str, ...] = (), optional: bool = False
    ) -> str:
        """Set an enumeration to `wanted`, empty: leave it; returns what it is.

        allowed: those that we can use, empty: all. Raises SourceError naming what there is.
        """
        node = self._node(feature)
        if node is None:
            if optional:
                return ""
            raise SourceError(Cause.CONFIGURATION, f"{self.name} has no {feature}")
        there = [str(symbol) for symbol in node.GetSymbolics()]
        usable = [symbol for symbol in there if not allowed or symbol in allowed]
        value = wanted or node.ToString()
        if value not in usable:
            if optional:
                return str(node.ToString())
            cause = Cause.FORMAT if feature == "PixelFormat" else Cause.CONFIGURATION
            raise SourceError(
                cause, f"{self.name}: {feature} {value!r} can't be; allowed: {', '.join(usable)}"
            )
        if wanted:
            node.FromString(wanted)
        return str(node.ToString())

    def number(self, features: tuple[str, ...], wanted: float | None) -> Any:
        """Set a number, None: leave it; returns what it is, None where no such feature is there.

        The camera rounds to its own steps. Raises SourceError outside of its range.
        """
        node = next((n for n in map(self._node, features) if n is not None), None)
        if node is None:
            if wanted is None:
                return None
            raise SourceError(Cause.CONFIGURATION, f"{self.name} has no {' or '.join(features)}")
        if wanted is not None:
            low, high = node.GetMin(), node.GetMax()
            if not low <= wanted <= high:
                raise SourceError(
                    Cause.CONFIGURATION,
                    f"{self.name}: {features[0]} {wanted:g} can't be; allowed: {low:g} to {high:g}",
                )
            node.SetValue(wanted)
        return node.GetValue()

    def switch(self, feature: str, on: bool) -> None:
        """Set a boolean where there is one."""
        node = self._node(feature)
        if node is not None:
            node.SetValue(on)

    def chunks(self, wanted: tuple[str, ...]) -> None:
        """Have the camera send these values with each frame, as far as it can."""
        selector, active = self._node("ChunkSelector"), self._node("ChunkModeActive")
        if selector is None or active is None:
            return
        active.SetValue(True)
        for name in set(wanted) & {str(symbol) for symbol in selector.GetSymbolics()}:
            selector.FromString(name)
            self.switch("ChunkEnable", True)
            self._chunks[name] = f"Chunk{name}"

    def sends(self, name: str) -> bool:
        """Whether the camera was told to send this value with each frame."""
        return name in self._chunks

    def chunk(self, result: Any, name: str, otherwise: object = None) -> float:
        """A value that came with the frame, else `otherwise`; NaN if that is no number."""
        if name in self._chunks:
            try:
                node = result.ChunkDataNodeMap.GetNode(self._chunks[name])
                if node is not None and self._is_available(node):
                    return float(node.GetValue())
            except self._error:
                pass  # this frame came without it
        return float(otherwise) if isinstance(otherwise, (int, float)) else math.nan

    def latch(self, ticks_hz: float) -> Latch | None:
        """The camera's clock now; None where it can't be read."""
        for command_name, value_name in _LATCHES:
            command, value = self._node(command_name), self._node(value_name)
            if command is None or value is None:
                continue
            before_ns = time.monotonic_ns()
            command.Execute()
            after_ns = time.monotonic_ns()
            return Latch(round(value.GetValue() * 1e9 / ticks_hz), before_ns, after_ns)
        return None

    def _node(self, name: str) -> Any:
        """The feature, None where the camera lacks it now."""
        try:
            node = self._nodes.GetNode(name)
            return node if node is not None and self._is_available(node) else None
        except self._error:
            return None
