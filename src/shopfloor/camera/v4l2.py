"""A USB or CSI camera under Linux (V4L2), read by OpenCV."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import stat
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2

from shopfloor.camera.source import (
    BadFrame,
    Cause,
    Grab,
    SourceError,
    SourceInfo,
    SourceLost,
)
from shopfloor.camera.stream import encoding_of

_EXPOSURE_STEP_US = 100.0
"""Unit of V4L2_CID_EXPOSURE_ABSOLUTE, which OpenCV passes on as it is."""

_MANUAL = 1.0
"""V4L2_EXPOSURE_MANUAL."""

_REQUEST_BUFFERS = struct.Struct("=5I")
_VIDIOC_REQBUFS = 3 << 30 | _REQUEST_BUFFERS.size << 16 | ord("V") << 8 | 8
"""_IOWR('V', 8, struct v4l2_requestbuffers): count, type, memory, capabilities, flags."""

_NO_BUFFERS = _REQUEST_BUFFERS.pack(0, 1, 1, 0, 0)
"""None, V4L2_BUF_TYPE_VIDEO_CAPTURE, V4L2_MEMORY_MMAP."""


def _open_capture(device: str) -> Any:
    return cv2.VideoCapture(device, cv2.CAP_V4L2)


def _wait_ready(capture: Any, timeout_s: float) -> bool:
    """Poll the device; raises cv2.error when it reports a fault."""
    ready, _ = cv2.VideoCapture.waitAny([capture], timeoutNs=max(1, round(timeout_s * 1e9)))
    return bool(ready)


def _in_use(device: str) -> bool:
    """Whether another program streams from the device, which opens all the same."""
    try:
        fd = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        return error.errno == errno.EBUSY
    try:
        fcntl.ioctl(fd, _VIDIOC_REQBUFS, _NO_BUFFERS)
    except OSError as error:
        return error.errno == errno.EBUSY
    finally:
        os.close(fd)
    return False


def identity(device: str, sysfs: Path = Path("/sys/class/video4linux")) -> str:
    """Name, USB ids and serial number of the camera behind `device`; empty where not known."""
    node = sysfs / os.path.basename(os.path.realpath(device))
    usb = (node / "device").resolve().parent
    files = (node / "name", usb / "idVendor", usb / "idProduct", usb / "serial")
    found = []
    for path in files:
        with contextlib.suppress(OSError):
            found.append(path.read_text(encoding="utf-8", errors="replace").strip())
    return " ".join(found)


class V4l2Source:
    """Frames of a V4L2 device as bgr8, mono8 or mono16.

    device: a path such as /dev/video0 or /dev/v4l/by-id/..., or its number; the by-id path stays
        with one camera when several are plugged in and out.
    width, height: pixels asked for, 0: as the device has it; another size is refused by name.
    rate_hz: frames per second asked for, 0: as the device has it.
    fourcc: pixel format asked for, for example MJPG or YUYV, empty: as the device has it.
    exposure_us: exposure time asked for, 0: as the device has it; in steps of 100 us.
    silence_s: without a frame for this long the device counts as lost.
    open_capture, wait_ready, identify: OpenCV's and the kernel's; tests give their own.

    Another camera that gets the same path when this one was unplugged is not taken for it.
    `steady_ns` and `device_stamp_ns` come from the driver where it stamps its buffers with the
    monotonic clock, as UVC does.
    """

    def __init__(
        self,
        device: str | int,
        *,
        width: int = 0,
        height: int = 0,
        rate_hz: float = 0.0,
        fourcc: str = "",
        exposure_us: float = 0.0,
        silence_s: float = 2.0,
        open_capture: Callable[[str], Any] = _open_capture,
        wait_ready: Callable[[Any, float], bool] = _wait_ready,
        identify: Callable[[str], str] = identity,
    ) -> None:
        text = str(device).strip()
        self._device = f"/dev/video{text}" if text.isdigit() else text
        self._size = (width, height)
        self._rate_hz = rate_hz
        self._fourcc = fourcc
        self._exposure_us = exposure_us
        self._silence_ns = round(silence_s * 1e9)
        self._open_capture = open_capture
        self._wait_ready = wait_ready
        self._identify = identify
        self._identity = ""
        self._given: dict[str, object] = {}
        self._exposure_given_us = math.nan
        self._capture: Any = None
        self._last_ns = 0
        self._sequence = 0
        if fourcc and len(fourcc) != 4:
            raise SourceError(
                Cause.CONFIGURATION, f"pixel format {fourcc!r} is no four-character code"
            )

    def describe(self) -> SourceInfo:
        """The device's path."""
        return SourceInfo(
            "v4l2", self._device, self._rate_hz, has_noise=True, settings=dict(self._given)
        )

    def open(self) -> None:
        """Open and set up the device; raises SourceError.

        Causes: absent, denied, busy, wrong device, format (no capture device, or another size or
        pixel format than asked for), configuration (it does not take the exposure time).
        """
        self._check_device()
        found = self._identify(self._device)
        if self._identity and found != self._identity:
            text = f"{self._device} is now {found or 'not known'}, not {self._identity}"
            raise SourceError(Cause.WRONG_DEVICE, text)
        capture = self._open_capture(self._device)
        if not capture.isOpened():
            capture.release()
            if _in_use(self._device):
                raise SourceError(Cause.BUSY, f"{self._device} is in use by another program")
            raise SourceError(Cause.FORMAT, f"{self._device} is no capture device")
        self._capture = capture
        try:
            self._set_up(capture)
        except SourceError:
            self.close()
            raise
        self._identity = found
        self._last_ns = time.monotonic_ns()

    def read(self, timeout_s: float) -> Grab | None:
        """The next frame; SourceLost when the device is gone or silent."""
        if self._capture is None:
            raise SourceLost(f"{self._device} is not open")
        try:
            if not self._wait_ready(self._capture, timeout_s):
                self._check_silence()
                return None
            done, image = self._capture.read()
        except cv2.error as error:
            raise SourceLost(f"{self._device} reports a fault: {error.err}") from error
        now_ns = time.monotonic_ns()
        if not done:
            if not os.path.exists(self._device):
                raise SourceLost(f"{self._device} is gone: unplugged or without power")
            self._check_silence()
            self._sequence += 1
            raise BadFrame(f"{self._device} gave a frame that can't be decoded", self._sequence)
        self._last_ns = now_ns
        self._sequence += 1
        encoding = encoding_of(image)
        stamp_ns = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        # Some drivers stamp with another clock or not at all; a stamp that can't be is not used.
        device_ns = stamp_ns if 0 <= now_ns - stamp_ns <= self._silence_ns else None
        exposure_us = self._exposure_given_us
        exposed_ns = 0 if math.isnan(exposure_us) else round(exposure_us * 1e3)
        steady_ns = now_ns - exposed_ns if device_ns is None else device_ns
        return Grab(image, encoding, device_ns, steady_ns, self._sequence, exposure_us=exposure_us)

    def close(self) -> None:
        """Give the device back."""
        if self._capture is not None:
            self._capture.release()
        self._capture = None

    def _check_silence(self) -> None:
        silent_ns = time.monotonic_ns() - self._last_ns
        if silent_ns > self._silence_ns:
            raise SourceLost(
                f"{self._device} gave no frame for {silent_ns / 1e9:.1f} s", Cause.NO_FRAMES
            )

    def _check_device(self) -> None:
        try:
            mode = os.stat(self._device).st_mode
        except OSError as error:
            raise SourceError(Cause.ABSENT, f"there is no device {self._device}") from error
        if not stat.S_ISCHR(mode):
            raise SourceError(Cause.FORMAT, f"{self._device} is no video device")
        try:
            os.close(os.open(self._device, os.O_RDWR | os.O_NONBLOCK))
        except OSError as error:
            cause = {
                errno.EBUSY: Cause.BUSY,
                errno.EACCES: Cause.DENIED,
                errno.EPERM: Cause.DENIED,
                errno.ENODEV: Cause.ABSENT,
                errno.ENXIO: Cause.ABSENT,
            }.get(error.errno or 0, Cause.UNKNOWN)
            hint = "; members of its group, often 'video', may" if cause is Cause.DENIED else ""
            raise SourceError(
                cause, f"can't open {self._device}: {error.strerror}{hint}"
            ) from error

    def _set_up(self, capture: Any) -> None:
        if self._fourcc:
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*self._fourcc))
            given = _fourcc(capture)
            if given != self._fourcc:
                raise SourceError(
                    Cause.FORMAT, f"{self._device} gives {given}, not {self._fourcc} as asked"
                )
        wanted = (
            (cv2.CAP_PROP_FRAME_WIDTH, "width", self._size[0]),
            (cv2.CAP_PROP_FRAME_HEIGHT, "height", self._size[1]),
        )
        for prop, _, asked in wanted:
            if asked:
                capture.set(prop, asked)
        # Read back when both are set: the driver rounds them as a pair.
        for prop, name, asked in wanted:
            if asked and round(capture.get(prop)) != asked:
                raise SourceError(
                    Cause.FORMAT,
                    f"{self._device} gives {name} {capture.get(prop):.0f}, not {asked} as asked",
                )
        if self._rate_hz:
            capture.set(cv2.CAP_PROP_FPS, self._rate_hz)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 2)
        self._given = {
            "camera": self._identify(self._device) or "not known",
            "pixel_format": _fourcc(capture),
            "width": round(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            "height": round(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
            "rate_hz": float(capture.get(cv2.CAP_PROP_FPS)),
        }
        if self._exposure_us:
            self._exposure_given_us = self._set_exposure(capture)
            self._given["exposure_us"] = self._exposure_given_us

    def _set_exposure(self, capture: Any) -> float:
        """Fix the exposure time; what it is then, microseconds. Raises SourceError."""
        steps = max(1, round(self._exposure_us / _EXPOSURE_STEP_US))
        capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, _MANUAL)
        capture.set(cv2.CAP_PROP_EXPOSURE, steps)
        given = float(capture.get(cv2.CAP_PROP_EXPOSURE))
        name = f"{self._device}: exposure_us {self._exposure_us:g}"
        if capture.get(cv2.CAP_PROP_AUTO_EXPOSURE) != _MANUAL:
            raise SourceError(
                Cause.CONFIGURATION, f"{name}: its exposure cannot be fixed; allowed: 0"
            )
        # Drivers round to what the sensor can; what is further off was clamped.
        if abs(given - steps) > max(1.0, 0.1 * steps):
            text = f"{name} can't be; it takes {given * _EXPOSURE_STEP_US:g}"
            raise SourceError(Cause.CONFIGURATION, text)
        return given * _EXPOSURE_STEP_US


def _fourcc(capture: Any) -> str:
    return int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode("latin-1")
