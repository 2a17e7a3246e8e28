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
from shopfloor.camera.source import BadFrame, Cause, SourceError

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
    assert math.isnan(on.chunk(frame, "CounterValue")), "this frame came without it"
    assert on.sends("CounterValue") and not on.sends("Gain")
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

    ErrorDescription, ErrorCode = "cut", 1

    def __init__(
        self, block: int, ticks: int = 0, count: int | None = None, whole: bool = True
    ) -> None:
        self.BlockID, self.TimeStamp, self.ImageNumber = block, ticks, block
        self.NumberOfSkippedImages, self.Array = 0, None
        self.ChunkDataNodeMap = Nodes({} if count is None else {"ChunkCounterValue": Number(count)})
        self._whole = whole

    def GrabSucceeded(self) -> bool:
        return self._whole


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


def counting_source() -> GenicamSource:
    """Behind a wire, with a camera that sends its count of triggers with each frame."""
    source = GenicamSource("7", GenicamSettings(trigger="line"))
    source._given = {"exposure_us": "not told", "gain_db": "not told"}
    source._features = features(
        ChunkModeActive=Number(0.0),
        ChunkSelector=Choice("", "CounterValue"),
        ChunkEnable=Number(0.0),
    )
    source._features.chunks(("CounterValue",))
    return source


def test_a_damaged_frame_is_placed_by_the_count_of_triggers_not_by_that_of_frames() -> None:
    """The camera had counted 500 triggers before it was opened."""
    source = counting_source()
    first = source._grab(Frame(0, count=500), 1).trigger
    assert source._grab(Frame(1, count=501), 2).trigger == first + 1
    with pytest.raises(BadFrame) as lost:
        source._grab(Frame(3, count=9, whole=False), 3)  # frame 2 never came
    assert lost.value.trigger == first + 3, "what a damaged frame says is not believed"
    assert source._grab(Frame(4), 4).trigger == first + 4, "a whole frame without its count"
    assert source._grab(Frame(5, count=505), 5).trigger == first + 5


def test_a_count_that_begins_with_0_names_no_two_parts_alike() -> None:
    source = counting_source()
    triggers = [source._grab(Frame(n, count=n), n).trigger for n in range(3)]
    assert triggers == [1, 2, 3]


def test_a_damaged_frame_before_the_first_count_has_none() -> None:
    with pytest.raises(BadFrame) as lost:
        counting_source()._grab(Frame(0, whole=False), 1)
    assert lost.value.trigger == 0
