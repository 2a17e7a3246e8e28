"""GenICam on Basler's emulator: real SDK, real frames, no hardware."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pypylon", reason="pypylon is not installed")

from pulled_camera import SERIAL, plug_in, pull

from shopfloor.camera.capture import CaptureHealth, CaptureLoop, CaptureState
from shopfloor.camera.genicam import GenicamSettings, GenicamSource
from shopfloor.camera.genicam_features import ENCODINGS, open_cause
from shopfloor.camera.source import BadFrame, Cause, Grab, SourceError, SourceLost
from shopfloor.ros.images import to_bgr8

# SWIG's own types, when the SDK is imported.
pytestmark = pytest.mark.filterwarnings("ignore:builtin type .* has no __module__")


@pytest.fixture(autouse=True)
def emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYLON_CAMEMU", "1")


@pytest.fixture
def opened() -> Iterator[Any]:
    sources: list[GenicamSource] = []

    def make(address: str = "", **settings: Any) -> GenicamSource:
        source = GenicamSource(address, GenicamSettings(**settings), silence_s=0.3)
        sources.append(source)
        source.open()
        return source

    yield make
    for source in sources:
        source.close()


def frames(source: GenicamSource, count: int) -> list[Grab]:
    grabs: list[Grab] = []
    while len(grabs) < count:
        grab = source.read(0.3)
        if grab is not None:
            grabs.append(grab)
    return grabs


def test_frames_come_with_counter_and_what_the_camera_was_set_to(opened: Any) -> None:
    source = opened(width=320, height=240, exposure_us=2000.0, gain_db=6.0, rate_hz=200.0)
    grabs = frames(source, 3)
    assert [g.image.shape for g in grabs] == [(240, 320)] * 3
    assert grabs[0].encoding == "mono8" and grabs[0].sequence < grabs[1].sequence
    assert grabs[0].exposure_us == pytest.approx(2000.0, rel=0.01)
    assert grabs[0].gain_db == pytest.approx(6.0, abs=0.1)
    assert not np.array_equal(grabs[0].image, grabs[1].image)
    info = source.describe()
    assert (info.kind, info.device_id) == ("genicam", SERIAL)
    assert info.settings["exposure_us"] == pytest.approx(2000.0, rel=0.01)
    assert info.settings["pixel_format"] == "Mono8" and info.settings["trigger"] == "free_run"


@pytest.mark.parametrize(
    "pixel_format", ["Mono8", "Mono12", "Mono16", "BayerRG8", "BayerGB12", "BGR8Packed"]
)
def test_each_pixel_format_is_named_as_ros_does_and_fills_the_full_range(
    opened: Any, pixel_format: str
) -> None:
    source = opened(width=256, height=256, pixel_format=pixel_format)
    (grab,) = frames(source, 1)
    assert grab.encoding == ENCODINGS[pixel_format][0]
    assert to_bgr8(grab.image, grab.encoding).max() >= 250


def test_a_format_or_value_that_the_camera_lacks_is_refused_with_what_it_has(opened: Any) -> None:
    with pytest.raises(SourceError, match="PixelFormat 'Mono9' can't be; allowed: Mono8") as error:
        opened(pixel_format="Mono9")
    assert error.value.cause is Cause.FORMAT
    with pytest.raises(SourceError, match="PixelFormat 'BGRA8Packed' can't be"):
        opened(pixel_format="BGRA8Packed")
    with pytest.raises(SourceError, match=r"ExposureTime 0\.5 can't be; allowed: 1 to") as error:
        opened(exposure_us=0.5)
    assert error.value.cause is Cause.CONFIGURATION
    with pytest.raises(SourceError, match="Width 8000 can't be; allowed: 1 to 4096"):
        opened(width=8000)
    with pytest.raises(SourceError, match="TriggerSource 'Line9' can't be; allowed: Software"):
        opened(trigger="line", trigger_line="Line9")
    assert frames(opened(), 1), "a camera that refused can be opened again"


def test_a_software_trigger_gives_one_frame_stamped_when_it_was_sent(opened: Any) -> None:
    source = opened(trigger="software")
    assert source.read(0.05) is None
    before = time.monotonic_ns()
    assert source.trigger() and source.trigger()
    first, second = frames(source, 2)
    assert source.read(0.05) is None, "two triggers, two frames"
    assert (first.trigger, second.trigger) == (1, 2)
    assert before <= first.steady_ns <= second.steady_ns < time.monotonic_ns()
    assert 0 < first.stamp_error_ns < 50e6


def test_a_software_trigger_can_have_a_rate(opened: Any) -> None:
    source = opened(trigger="software", rate_hz=50.0)
    grabs = frames(source, 4)
    assert not source.describe().triggered, "it asks for the pictures itself: silence is a fault"
    assert grabs[3].steady_ns - grabs[0].steady_ns >= 3 * 20e6 * 0.9


class NeverReady:
    """An open camera whose sensor stays busy."""

    def __init__(self, camera: Any) -> None:
        self._camera = camera

    def __getattr__(self, name: str) -> Any:
        return getattr(self._camera, name)

    def CanWaitForFrameTriggerReady(self) -> bool:
        return True

    def WaitForFrameTriggerReady(self, patience_ms: int, handling: Any) -> bool:
        threading.Event().wait(patience_ms / 1e3)
        return False


def test_a_camera_that_never_gets_ready_for_its_trigger_is_lost(opened: Any) -> None:
    source = opened(trigger="software")
    source._camera = NeverReady(source._camera)
    assert [source.read(0.05) for _ in range(8)] == [None] * 8, "nobody asked for a picture"
    assert source.trigger()
    with pytest.raises(SourceLost, match="was not ready for a trigger for 0") as error:
        for _ in range(100):
            assert source.read(0.02) is None
    assert error.value.cause is Cause.NO_FRAMES
    source.close()
    source.open()
    assert source.read(0.02) is None, "the part that was asked for is gone"
    assert source.trigger() and frames(source, 1)
    source.close()
    assert not source.trigger(), "a picture is not promised that nobody can take"


def test_a_wire_without_edges_is_no_loss_but_silence_is(opened: Any) -> None:
    source = opened(trigger="line", trigger_line="Line2")
    assert source.describe().settings["trigger"] == "Line2"
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        assert source.read(0.1) is None
    assert not source.trigger(), "a wire is no software trigger"
    source.close()
    source = opened()
    source._camera.TriggerMode.Value = "On"  # behind our back
    with pytest.raises(SourceLost, match="gave no frame for") as error:
        frames(source, 1000)
    assert error.value.cause is Cause.NO_FRAMES


def test_frames_that_were_not_fetched_are_superseded_and_the_newest_comes(opened: Any) -> None:
    source = opened(rate_hz=100.0)
    frames(source, 1)
    threading.Event().wait(0.3)
    (late,) = frames(source, 1)
    assert late.superseded >= 3
    following = frames(source, 1)[0]
    assert following.sequence == late.sequence + 1 + following.superseded


def test_behind_a_trigger_no_frame_is_superseded(opened: Any) -> None:
    source = opened(trigger="line")
    source._camera.TriggerMode.Value = "Off"  # edges at 100 Hz
    frames(source, 1)
    threading.Event().wait(0.05)
    assert [g.superseded for g in frames(source, 5)] == [0] * 5


def test_a_frame_that_came_incomplete_is_bad_and_the_next_is_good(opened: Any) -> None:
    source = opened()
    frames(source, 1)
    source._camera.ForceFailedBufferCount.Value = 1
    source._camera.ForceFailedBuffer.Execute()
    with pytest.raises(BadFrame, match="incompletely") as error:
        frames(source, 100)
    assert frames(source, 1)[0].sequence > error.value.sequence


def test_which_camera_it_is(opened: Any) -> None:
    with pytest.raises(SourceError, match=f"there is no camera 22.*seen: {SERIAL}") as error:
        opened("22")
    assert error.value.cause is Cause.ABSENT
    plug_in(2)
    with pytest.raises(SourceError, match=r"must name one .*0815-0000 .*0815-0001"):
        opened()
    assert opened("0815-0001").describe().device_id == "0815-0001"
    plug_in(0)
    with pytest.raises(SourceError, match="seen: none") as error:
        opened()
    assert error.value.cause is Cause.ABSENT


def test_a_pulled_camera_is_lost_and_only_the_same_one_is_taken_again(opened: Any) -> None:
    source = opened()
    frames(source, 1)
    pull(source)
    with pytest.raises(SourceLost, match=f"camera {SERIAL} was removed") as lost:
        frames(source, 1000)
    assert lost.value.cause is Cause.DISCONNECTED
    source.close()
    with pytest.raises(SourceError) as absent:
        source.open()
    assert absent.value.cause is Cause.ABSENT
    plug_in(2)
    source.open()
    assert source.describe().device_id == SERIAL and frames(source, 1)


def test_another_camera_under_the_same_name_is_the_wrong_one(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = opened()
    source.close()
    monkeypatch.setattr(source._known, "GetSerialNumber", lambda: "4711", raising=False)
    with pytest.raises(SourceError, match=f"{SERIAL} .*answers instead of camera 4711") as error:
        source.open()
    assert error.value.cause is Cause.WRONG_DEVICE


def test_the_loop_gets_a_pulled_camera_back_and_hands_on_nothing_of_before() -> None:
    source = GenicamSource()
    states: list[CaptureHealth] = []
    grabs: list[Grab] = []
    came = threading.Semaphore(0)
    lost = threading.Event()

    def on_change(health: CaptureHealth) -> None:
        states.append(health)
        if health.cause is Cause.ABSENT:
            lost.set()

    def on_grab(grab: Grab) -> None:
        grabs.append(grab)
        came.release()

    loop = CaptureLoop(source, on_grab, on_change)
    loop.start()
    assert came.acquire(timeout=20)
    pull(source)
    assert lost.wait(20)
    count = len(grabs)
    back_ns = time.monotonic_ns()
    plug_in(1)
    while len(grabs) == count:
        assert came.acquire(timeout=20)
    assert loop.stop(5.0)
    assert all(g.steady_ns >= back_ns for g in grabs[count:])
    assert loop.health().reconnects == 1 and loop.source.device_id == SERIAL
    assert (CaptureState.LOST, Cause.ABSENT) in [(h.state, h.cause) for h in states]


def test_causes_are_read_from_what_the_sdk_says() -> None:
    assert open_cause("The device is controlled by another application. Err 0xE1018006") is (
        Cause.BUSY
    )
    assert open_cause("Device is exclusively opened by another client") is Cause.BUSY
    assert open_cause("Insufficient rights to access /dev/bus/usb/002/003") is Cause.DENIED
    assert open_cause("No device is available or no device contains") is Cause.ABSENT
    assert open_cause("something else") is Cause.UNKNOWN


def test_the_counter_of_gige_vision_1_runs_on_behind_its_wrap() -> None:
    class Result:
        BlockID = 0

    source, seen = GenicamSource(), []
    for block in (65534, 65535, 1, 2):
        Result.BlockID = block
        seen.append(source._sequence(Result))
    assert list(np.diff(seen)) == [1, 1, 1]


def test_without_exposure_or_clock_nothing_is_claimed(opened: Any) -> None:
    (grab,) = frames(opened(exposure_us=5000.0), 1)
    assert grab.device_stamp_ns is None, "the emulator has no clock"
    assert math.isnan(grab.stamp_error_ns)
    assert time.monotonic_ns() - grab.steady_ns >= 5_000_000, "exposed before it came"
