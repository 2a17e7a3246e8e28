"""What the emulator lacks of a real camera: its clock, latches, chunks, and cameras with less."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("pypylon", reason="pypylon is not installed")

from shopfloor.camera.device_clock import DeviceClock, Latch
from shopfloor.camera.genicam import GenicamSettings, GenicamSource
from shopfloor.camera.genicam_features import Features
from shopfloor.camera.source import Cause, SourceError

# SWIG's own types, when the SDK is imported.
pytestmark = pytest.mark.filterwarnings("ignore:builtin type .* has no __module__")


class SdkError(Exception):
    """Stands for genicam.GenericException."""


class Number:
    def __init__(self, value: float, low: float = 0.0, high: float = 100.0) -> None:
        self.value, self.low, self.high = value, low, high

    def GetValue(self) -> float:
        return self.value

    def SetValue(self, value: float) -> None:
        self.value = value

    def GetMin(self) -> float:
        return self.low

    def GetMax(self) -> float:
        return self.high


class Choice:
    def __init__(self, value: str, *symbols: str) -> None:
        self.value, self.symbols = value, symbols

    def GetSymbolics(self) -> tuple[str, ...]:
        return self.symbols

    def ToString(self) -> str:
        return self.value

    def FromString(self, value: str) -> None:
        self.value = value


class Nodes(dict[str, Any]):
    """A node map; a name that is missing raises, as the SDK does."""

    def GetNode(self, name: str) -> Any:
        if name not in self:
            raise SdkError(name)
        return self[name]


SDK = SimpleNamespace(IsAvailable=lambda node: True, GenericException=SdkError)


def features(**nodes: Any) -> Features:
    return Features(SimpleNamespace(GetNodeMap=lambda: Nodes(nodes)), SDK, "camera 7")


def test_the_clock_is_latched_by_whichever_name_the_camera_has() -> None:
    for command, value in (
        ("TimestampLatch", "TimestampLatchValue"),
        ("GevTimestampControlLatch", "GevTimestampValue"),
    ):
        clock = Number(0.0)
        execute = SimpleNamespace(Execute=lambda clock=clock: clock.SetValue(250.0))
        latch = features(**{command: execute, value: clock}).latch(125e6)
        assert latch is not None and latch.device_ns == 2000, "250 ticks of 8 ns"
        assert latch.before_ns <= latch.after_ns
    assert features().latch(1e9) is None


def test_chunks_are_switched_on_as_far_as_they_go_and_read_per_frame() -> None:
    active, selector = Number(0.0), Choice("", "Timestamp", "ExposureTime", "CounterValue")
    enable = Number(0.0)
    on = features(ChunkModeActive=active, ChunkSelector=selector, ChunkEnable=enable)
    on.chunks(("ExposureTime", "Gain", "CounterValue"))
    assert active.value is True and enable.value is True
    nodes = Nodes(ChunkExposureTime=Number(800.0))
    frame = SimpleNamespace(ChunkDataNodeMap=nodes)
    assert on.chunk(frame, "ExposureTime", 10.0) == 800.0
    assert on.chunk(frame, "Gain", 3.0) == 3.0, "no such chunk: as it was read back"
    assert on.chunk(frame, "CounterValue") == 0.0, "this frame came without it"
    assert math.isnan(on.chunk(frame, "Gain", "not told"))


def test_a_camera_without_a_feature_says_which() -> None:
    with pytest.raises(SourceError, match="camera 7 has no ExposureTime or ExposureTimeAbs"):
        features().number(("ExposureTime", "ExposureTimeAbs"), 100.0)
    assert features().number(("Gain",), None) is None
    assert features(GainAbs=Number(4.0)).number(("Gain", "GainAbs"), None) == 4.0
    with pytest.raises(SourceError, match="has no TriggerSource") as error:
        features().choose("TriggerSource", "Line1")
    assert error.value.cause is Cause.CONFIGURATION
    assert features().choose("GainAuto", "Off", optional=True) == ""


class Frame:
    """A grab result of a camera with a clock of 125 MHz."""

    def __init__(self, block: int, ticks: int) -> None:
        self.BlockID, self.TimeStamp, self.ImageNumber = block, ticks, block
        self.NumberOfSkippedImages, self.Array = 0, None

    def GrabSucceeded(self) -> bool:
        return True


def test_frames_of_a_camera_with_a_clock_are_mapped_with_an_error() -> None:
    """Exposure to arrival takes 20 ms here; only the latch can tell."""
    ticks_hz, began = 125e6, 1_000_000_000
    now = began
    source = GenicamSource("7", GenicamSettings())
    source._ticks_hz = ticks_hz
    source._given = {"exposure_us": 1000.0, "gain_db": "not told"}
    source._features = features()
    # The host's times are this test's own.
    source._features.latch = lambda hz: Latch(now - began, now - 100_000, now + 100_000)  # type: ignore[method-assign]
    mapping = DeviceClock()
    for n in range(1, 200):
        exposed = began + n * 33_000_000
        now = exposed + 20_000_000
        grab = source._grab(Frame(n, round((exposed - began) / 1e9 * ticks_hz)), now)
        assert grab.device_stamp_ns is not None and math.isnan(grab.gain_db)
        if grab.latch is not None:
            mapping.latch(grab.latch)
        mapped = mapping.observe(grab.device_stamp_ns, grab.steady_ns)
        assert abs(mapped.steady_ns - exposed) <= mapped.error_ns <= 500_000
