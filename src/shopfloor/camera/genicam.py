"""GenICam cameras (GigE Vision, USB3 Vision, Basler's emulator) through Basler's pylon SDK."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from shopfloor.camera.device_clock import Latch
from shopfloor.camera.genicam_features import ENCODINGS, Features, open_cause, pylon_modules
from shopfloor.camera.pacing import Pacer
from shopfloor.camera.source import BadFrame, Cause, Grab, SourceError, SourceInfo, SourceLost

LATCH_PERIOD_NS = 10_000_000_000
_EMULATOR = "BaslerCamEmu"
_NO_BLOCK_ID = 2**64 - 1


@dataclass(frozen=True)
class GenicamSettings:
    """What is asked of the camera; 0, empty, or below 0 for the gain: as the device has it.

    trigger: free_run, software or line; trigger_line: the input of the last.
    rate_hz: frames per second, behind a software trigger the rate of the triggers.
    """

    width: int = 0
    height: int = 0
    pixel_format: str = ""
    exposure_us: float = 0.0
    gain_db: float = -1.0
    rate_hz: float = 0.0
    trigger: str = "free_run"
    trigger_line: str = "Line1"


class GenicamSource:
    """Frames of one GenICam camera.

    address: its serial number or user-defined name; empty: the only camera there is.
    silence_s: without a frame for this long a camera that should give some counts as lost.

    Once opened, only the camera with the same serial number is opened again. The SDK's own thread
    calls nothing of ours: its sign that the device was removed is asked for at each `read`.
    Raises SourceError where pypylon is not installed.
    """

    def __init__(
        self, address: str = "", settings: GenicamSettings | None = None, silence_s: float = 2.0
    ) -> None:
        self._pylon, self._genicam = pylon_modules()
        self._error: type[Exception] = self._genicam.GenericException
        self._address = address
        self._asked = settings if settings is not None else GenicamSettings()
        self._silence_ns = round(silence_s * 1e9)
        self._known: Any = None
        self._camera: Any = None
        self._features: Features
        self._given: dict[str, object] = {}
        self._encoding = ""
        self._shift = 0
        self._ticks_hz = 1e9
        self._wraps = 0
        self._last_block = 0
        self._counted: tuple[int, int] | None = None
        self._last_ns = 0
        self._latched_ns = 0
        self._shots = threading.Semaphore(0)
        self._takes_triggers = False
        self._pacer: Pacer | None = None
        self._due_ns = 0
        self._fired: tuple[int, int] | None = None

    def describe(self) -> SourceInfo:
        """The serial number, once it is known; until then what was asked for."""
        known = self._known
        device_id = known.GetSerialNumber() if known is not None else self._address
        emulated = known is not None and known.GetDeviceClass() == _EMULATOR
        return SourceInfo(
            "genicam",
            device_id,
            self._asked.rate_hz,
            has_clock=True,
            has_noise=known is not None and not emulated,
            # Behind a rate of ours pictures come by themselves: their silence is a fault.
            triggered=self._asked.trigger == "line"
            or (self._asked.trigger == "software" and not self._asked.rate_hz),
            settings=dict(self._given),
        )

    def open(self) -> None:
        """Find, open and set up the camera and start it; raises SourceError.

        Causes: absent, wrong device (another one has the name now), busy, denied, format,
        configuration (a setting that this camera refuses).
        """
        info = self._find()
        factory = self._pylon.TlFactory.GetInstance()
        name = f"camera {info.GetSerialNumber()}"
        try:
            self._camera = self._pylon.InstantCamera(factory.CreateDevice(info))
            self._camera.Open()
        except self._error as error:
            self._camera = None
            raise SourceError(open_cause(str(error)), f"can't open {name}: {error}") from error
        self._known = info
        try:
            self._features = Features(self._camera, self._genicam, name)
            self._set_up(self._features)
            self._camera.StartGrabbing(
                # Of a free-running camera the newest counts; behind a trigger each is a part.
                self._pylon.GrabStrategy_LatestImageOnly
                if self._asked.trigger == "free_run"
                else self._pylon.GrabStrategy_OneByOne
            )
        except self._error as error:
            self.close()
            raise SourceError(Cause.CONFIGURATION, f"{name} refuses: {error}") from error
        except SourceError:
            self.close()
            raise
        self._wraps = self._last_block = self._latched_ns = 0
        self._counted = None
        self._due_ns, self._fired = 0, None
        self._last_ns = time.monotonic_ns()
        self._shots = threading.Semaphore(0)
        self._takes_triggers = self._asked.trigger == "software"

    def read(self, timeout_s: float) -> Grab | None:
        """The next frame; BadFrame when it came incomplete, SourceLost when the camera is gone."""
        if self._camera is None:
            raise SourceLost(f"{self._name} is not open")
        try:
            if self._asked.trigger == "software" and not self._fire(timeout_s):
                self._check_removed()
                self._check_ready(time.monotonic_ns())
                return None
            result = self._camera.RetrieveResult(
                max(1, round(timeout_s * 1e3)), self._pylon.TimeoutHandling_Return
            )
            arrival_ns = time.monotonic_ns()
            self._check_removed()
            if not result.IsValid():
                self._check_silence(arrival_ns)
                return None
            with result:
                return self._grab(result, arrival_ns)
        except self._error as error:
            raise SourceLost(f"{self._name}: {error}") from error

    def close(self) -> None:
        """Stop the camera and give it back."""
        self._takes_triggers = False
        camera, self._camera = self._camera, None
        if camera is None:
            return
        for step in (camera.StopGrabbing, camera.Close, camera.DestroyDevice):
            # A camera that is gone refuses each of them.
            with contextlib.suppress(self._error):
                step()

    def trigger(self) -> bool:
        """Ask for one picture, where the trigger is `software` and the camera is open."""
        takes = self._takes_triggers
        if takes:
            self._shots.release()
        return takes

    @property
    def _name(self) -> str:
        device_id = self.describe().device_id
        return f"camera {device_id}" if device_id else "GenICam camera"

    # Finding ------------------------------------------------------------------------------------

    def _find(self) -> Any:
        factory = self._pylon.TlFactory.GetInstance()
        if self._known is not None:
            # The class as well as the number: otherwise GigE is searched, too, for 0.25 s.
            wanted = self._pylon.DeviceInfo()
            wanted.SetSerialNumber(self._known.GetSerialNumber())
            wanted.SetDeviceClass(self._known.GetDeviceClass())
            there = factory.EnumerateDevices([wanted])
            if there:
                return there[0]
            if self._address == self._known.GetSerialNumber():
                raise SourceError(Cause.ABSENT, f"there is no {self._name}")
        seen = factory.EnumerateDevices()
        there = [
            info
            for info in seen
            if self._address in ("", info.GetSerialNumber(), info.GetUserDefinedName())
        ]
        if self._known is not None and there:
            raise SourceError(
                Cause.WRONG_DEVICE,
                f"{_listed(there)} answers instead of {self._name}, which alone is accepted until "
                "the node is activated again",
            )
        if not there:
            raise SourceError(Cause.ABSENT, f"there is no {self._name}; seen: {_listed(seen)}")
        if len(there) > 1:
            text = f"'address' must name one of the cameras; seen: {_listed(seen)}"
            raise SourceError(Cause.CONFIGURATION, text)
        return there[0]

    # Setting up ---------------------------------------------------------------------------------

    def _set_up(self, features: Features) -> None:
        asked = self._asked
        given: dict[str, object] = {}
        pixel_format = features.choose("PixelFormat", asked.pixel_format, tuple(ENCODINGS))
        self._encoding, self._shift = ENCODINGS[pixel_format]
        given["pixel_format"] = pixel_format
        given["width"] = features.number(("Width",), asked.width or None)
        given["height"] = features.number(("Height",), asked.height or None)
        for name, size in (("width", asked.width), ("height", asked.height)):
            if size and given[name] != size:
                text = f"{features.name} gives {name} {given[name]}, not {size} as asked"
                raise SourceError(Cause.FORMAT, text)
        if asked.exposure_us:
            features.choose("ExposureAuto", "Off", optional=True)
        if asked.gain_db >= 0.0:
            features.choose("GainAuto", "Off", optional=True)
        given["exposure_us"] = features.number(
            ("ExposureTime", "ExposureTimeAbs"), asked.exposure_us or None
        )
        given["gain_db"] = features.number(("Gain",), asked.gain_db if asked.gain_db >= 0 else None)
        self._set_up_trigger(features, given)
        counts = features.choose("CounterEventSource", "", optional=True) != "Off"
        features.chunks(("ExposureTime", "Gain", *(["CounterValue"] if counts else [])))
        self._ticks_hz = features.number(("GevTimestampTickFrequency",), None) or 1e9
        self._given = {
            **{key: "not told" if value is None else value for key, value in given.items()},
            "model": self._known.GetModelName(),
            "user_name": self._known.GetUserDefinedName() or "none",
            "class": self._known.GetDeviceClass(),
        }

    def _set_up_trigger(self, features: Features, given: dict[str, object]) -> None:
        asked = self._asked
        self._pacer = None
        features.choose("TriggerSelector", "FrameStart", optional=True)
        if asked.trigger == "free_run":
            features.choose("TriggerMode", "Off", optional=True)
            rates = ("AcquisitionFrameRate", "AcquisitionFrameRateAbs")
            if asked.rate_hz:
                features.switch("AcquisitionFrameRateEnable", True)
                given["rate_hz"] = features.number(rates, asked.rate_hz)
            given["trigger"] = "free_run"
            return
        wire = "Software" if asked.trigger == "software" else asked.trigger_line
        given["trigger"] = features.choose("TriggerSource", wire)
        if asked.trigger == "line":
            features.choose("TriggerActivation", "RisingEdge", optional=True)
        elif asked.rate_hz:
            self._pacer = Pacer(asked.rate_hz)
        features.choose("TriggerMode", "On")

    # Reading ------------------------------------------------------------------------------------

    def _fire(self, timeout_s: float) -> bool:
        """Whether a picture is on its way: send the trigger when one is asked for or is due."""
        if self._fired is not None:
            return True
        if not self._due_ns and self._is_due(timeout_s):
            self._due_ns = time.monotonic_ns()
        # A trigger that comes while the sensor is still busy gives no frame.
        if not self._due_ns or not self._is_ready(timeout_s):
            return False
        before_ns = time.monotonic_ns()
        self._camera.ExecuteSoftwareTrigger()
        self._last_ns = time.monotonic_ns()
        self._fired, self._due_ns = (before_ns, self._last_ns), 0
        return True

    def _is_due(self, timeout_s: float) -> bool:
        if self._shots.acquire(blocking=False):
            return True
        if self._pacer is not None:
            return self._pacer.wait(timeout_s)
        return self._shots.acquire(timeout=timeout_s)

    def _is_ready(self, timeout_s: float) -> bool:
        camera = self._camera
        if not camera.CanWaitForFrameTriggerReady():
            return True
        patience_ms = max(1, round(timeout_s * 1e3))
        return bool(
            camera.WaitForFrameTriggerReady(patience_ms, self._pylon.TimeoutHandling_Return)
        )

    def _check_removed(self) -> None:
        if self._camera.IsCameraDeviceRemoved():
            raise SourceLost(f"{self._name} was removed: unplugged, without power or off the net")

    def _check_ready(self, now_ns: int) -> None:
        waited_ns = now_ns - self._due_ns
        if self._due_ns and waited_ns > self._silence_ns:
            text = f"{self._name} was not ready for a trigger for {waited_ns / 1e9:.1f} s"
            raise SourceLost(text, Cause.NO_FRAMES)

    def _check_silence(self, now_ns: int) -> None:
        silent_ns = now_ns - self._last_ns
        # A wire that gives no edges gives no frames: that is no fault of the camera.
        if self._asked.trigger != "line" and silent_ns > self._silence_ns:
            text = f"{self._name} gave no frame for {silent_ns / 1e9:.1f} s"
            raise SourceLost(text, Cause.NO_FRAMES)

    def _grab(self, result: Any, arrival_ns: int) -> Grab:
        self._last_ns = arrival_ns
        fired, self._fired = self._fired, None
        sequence = self._sequence(result)
        trigger = self._trigger_count(result, sequence) if self._asked.trigger != "free_run" else 0
        steady_ns, error_ns = arrival_ns, math.nan
        if fired is not None:
            # The command reached the camera between these two: no clock tells it better.
            steady_ns, error_ns = sum(fired) // 2, (fired[1] - fired[0]) / 2
        if not result.GrabSucceeded():
            text = f"{self._name}: frame {sequence}: {result.ErrorDescription}"
            text = f"{text} (0x{result.ErrorCode:x})"
            raise BadFrame(text, sequence, "", trigger, steady_ns=steady_ns)
        image = result.Array
        if self._shift:
            image = np.left_shift(image, self._shift)
        exposure_us = self._features.chunk(result, "ExposureTime", self._given["exposure_us"])
        gain_db = self._features.chunk(result, "Gain", self._given["gain_db"])
        stamp_ns = round(result.TimeStamp * 1e9 / self._ticks_hz) if result.TimeStamp else None
        if fired is None and stamp_ns is None and exposure_us > 0.0:
            steady_ns -= round(exposure_us * 1e3)
        return Grab(
            image,
            self._encoding,
            stamp_ns,
            steady_ns,
            sequence,
            stamp_error_ns=error_ns,
            latch=self._latch(arrival_ns) if stamp_ns is not None else None,
            trigger=trigger,
            superseded=int(result.NumberOfSkippedImages),
            exposure_us=exposure_us,
            gain_db=gain_db,
        )

    def _sequence(self, result: Any) -> int:
        """The camera's own count, without the wrap of GigE Vision 1, which counts 1 to 65535."""
        block = int(result.BlockID)
        if block == _NO_BLOCK_ID:
            block = int(result.ImageNumber)
        elif block < self._last_block and self._last_block > 0xFF00 and block < 0xFF:
            self._wraps += 1
        self._last_block = block
        return block + 0xFFFF * self._wraps + 1

    def _trigger_count(self, result: Any, sequence: int) -> int:
        """The camera's count of triggers from 1 on, where it sends one; else that of its frames.

        The two may be far apart, so they are never mixed: a frame that came without its count is
        placed by the last that had one. 0: there was none yet.
        """
        if not self._features.sends("CounterValue"):
            return sequence
        whole = result.GrabSucceeded()
        count = self._features.chunk(result, "CounterValue") if whole else math.nan
        if not math.isnan(count):
            # As the frames' count: some cameras give 0 to their first.
            self._counted = int(count) + 1, sequence
            return self._counted[0]
        if self._counted is None:
            return 0
        return self._counted[0] + sequence - self._counted[1]

    def _latch(self, now_ns: int) -> Latch | None:
        """Now and then the camera's clock itself, which tells how late its frames are."""
        if self._latched_ns and now_ns - self._latched_ns < LATCH_PERIOD_NS:
            return None
        tries = 1 if self._latched_ns else 5
        self._latched_ns = now_ns
        latches = [self._features.latch(self._ticks_hz) for _ in range(tries)]
        known = [latch for latch in latches if latch is not None]
        return min(known, key=lambda latch: latch.after_ns - latch.before_ns, default=None)


def _listed(seen: Any) -> str:
    names = [f"{i.GetSerialNumber()} ({i.GetUserDefinedName() or i.GetModelName()})" for i in seen]
    return ", ".join(names) or "none"
