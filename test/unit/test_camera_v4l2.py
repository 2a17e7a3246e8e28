"""V4L2 on a stand-in for OpenCV's capture: /dev/null is a character device that opens."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import stat
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from shopfloor.camera.source import BadFrame, Cause, SourceError, SourceLost
from shopfloor.camera.v4l2 import V4l2Source, identity


class FakeCapture:
    """cv2.VideoCapture of a device: `frames` in turn; None fails, an exception is raised."""

    def __init__(self, frames: list[Any], opened: bool = True, **properties: float) -> None:
        self.frames = frames
        self.opened = opened
        self.released = 0
        self.fixed = {getattr(cv2, f"CAP_PROP_{k}"): v for k, v in properties.items()}
        self.values: dict[int, float] = {}

    def isOpened(self) -> bool:
        return self.opened

    def set(self, prop: int, value: float) -> bool:
        self.values[prop] = value
        return True

    def get(self, prop: int) -> float:
        return self.fixed.get(prop, self.values.get(prop, 0.0))

    def read(self) -> tuple[bool, Any]:
        frame = self.frames.pop(0)
        if isinstance(frame, Exception):
            raise frame
        return frame is not None, frame

    def release(self) -> None:
        self.released += 1


def v4l2(capture: FakeCapture, **options: Any) -> V4l2Source:
    return V4l2Source(
        "/dev/null",
        open_capture=lambda device: capture,
        wait_ready=lambda c, timeout_s: bool(c.frames),
        **options,
    )


COLOUR = np.zeros((4, 6, 3), np.uint8)


def test_v4l2_stamps_frames_by_the_driver_where_that_can_be() -> None:
    now_ms = time.monotonic_ns() / 1e6
    source = v4l2(FakeCapture([COLOUR], POS_MSEC=now_ms - 15))
    source.open()
    grab = source.read(0.1)
    assert grab is not None and grab.encoding == "bgr8"
    assert grab.device_stamp_ns == grab.steady_ns == round((now_ms - 15) * 1e6)


@pytest.mark.parametrize("stamp_ms", [0.0, 1.7e12])
def test_v4l2_does_not_believe_a_stamp_of_another_clock(stamp_ms: float) -> None:
    source = v4l2(FakeCapture([COLOUR], POS_MSEC=stamp_ms))
    source.open()
    before = time.monotonic_ns()
    grab = source.read(0.1)
    assert grab is not None and grab.device_stamp_ns is None and grab.steady_ns >= before


def test_v4l2_without_a_stamp_was_exposed_before_it_came() -> None:
    source = v4l2(FakeCapture([COLOUR], EXPOSURE=200.0), exposure_us=20_000.0)
    source.open()
    grab = source.read(0.1)
    assert grab is not None and grab.device_stamp_ns is None
    assert time.monotonic_ns() - grab.steady_ns >= 20_000_000
    now_ms = time.monotonic_ns() / 1e6
    stamped = v4l2(FakeCapture([COLOUR], EXPOSURE=200.0, POS_MSEC=now_ms), exposure_us=20_000.0)
    stamped.open()
    grab = stamped.read(0.1)
    assert grab is not None and grab.steady_ns == round(now_ms * 1e6), "the driver knows better"


def test_v4l2_names_grey_formats() -> None:
    source = v4l2(FakeCapture([np.zeros((4, 6), np.uint8), np.zeros((4, 6), np.uint16)]))
    source.open()
    assert [g.encoding for g in (source.read(0.1), source.read(0.1)) if g] == ["mono8", "mono16"]


def test_v4l2_refuses_another_size_or_format_than_asked_for() -> None:
    wrong_size = FakeCapture([], FRAME_WIDTH=640, FRAME_HEIGHT=480)
    with pytest.raises(SourceError, match="width 640, not 1920") as caught:
        v4l2(wrong_size, width=1920, height=1080).open()
    assert caught.value.cause is Cause.FORMAT and wrong_size.released == 1
    yuyv = float(cv2.VideoWriter.fourcc(*"YUYV"))
    with pytest.raises(SourceError, match="gives YUYV, not MJPG"):
        v4l2(FakeCapture([], FOURCC=yuyv), fourcc="MJPG").open()
    with pytest.raises(SourceError, match="four-character"):
        V4l2Source(0, fourcc="MJPEG")


def test_v4l2_exposure_is_fixed_and_read_back() -> None:
    capture = FakeCapture([COLOUR], EXPOSURE=19.0)  # the sensor has no 2.0 ms
    source = v4l2(capture, exposure_us=2000.0)
    source.open()
    assert capture.values[cv2.CAP_PROP_AUTO_EXPOSURE] == 1.0
    assert capture.values[cv2.CAP_PROP_EXPOSURE] == 20.0
    assert source.describe().settings["exposure_us"] == 1900.0
    grab = source.read(0.1)
    assert grab is not None and grab.exposure_us == 1900.0
    free = v4l2(FakeCapture([COLOUR]))
    free.open()
    left = free.read(0.1)
    assert left is not None and math.isnan(left.exposure_us), "nobody asked, nobody knows"


@pytest.mark.parametrize(
    ("properties", "needle"),
    [
        ({"EXPOSURE": 5.0}, "2000 can't be; it takes 500"),
        ({"AUTO_EXPOSURE": 3.0}, "cannot be fixed"),
    ],
)
def test_v4l2_exposure_that_the_device_does_not_take_is_refused(
    properties: dict[str, float], needle: str
) -> None:
    capture = FakeCapture([], **properties)
    with pytest.raises(SourceError, match=needle) as caught:
        v4l2(capture, exposure_us=2000.0).open()
    assert caught.value.cause is Cause.CONFIGURATION and capture.released == 1


def test_v4l2_frame_that_cannot_be_decoded_is_bad_and_the_next_is_good() -> None:
    source = v4l2(FakeCapture([None, COLOUR]))
    source.open()
    with pytest.raises(BadFrame):
        source.read(0.1)
    assert source.read(0.1) is not None


def test_v4l2_another_camera_under_the_same_path_is_the_wrong_one() -> None:
    there = ["Cam A 046d 0825 77"]
    source = v4l2(FakeCapture([COLOUR]), identify=lambda device: there[0])
    source.open()
    assert source.describe().settings["camera"] == there[0]
    source.close()
    source.open()
    source.close()
    there[0] = "Cam B 046d 0825 78"
    with pytest.raises(SourceError, match=r"is now Cam B .* not Cam A") as error:
        source.open()
    assert error.value.cause is Cause.WRONG_DEVICE


def test_v4l2_camera_is_known_by_name_and_serial_number(tmp_path: Path) -> None:
    usb = tmp_path / "usb1" / "1-2"
    interface = usb / "1-2:1.0"
    interface.mkdir(parents=True)
    node = tmp_path / "class" / "video7"
    node.mkdir(parents=True)
    (node / "device").symlink_to(interface)
    for path, text in (
        (node / "name", "Cam"),
        (usb / "idVendor", "046d"),
        (usb / "idProduct", "0825"),
        (usb / "serial", "7F1A"),
    ):
        path.write_text(f"{text}\n")
    link = tmp_path / "by-id"
    link.symlink_to("/dev/video7")
    assert identity(str(link), tmp_path / "class") == "Cam 046d 0825 7F1A"
    assert identity("/dev/video8", tmp_path / "class") == ""


def test_v4l2_silence_and_faults_are_a_loss() -> None:
    source = v4l2(FakeCapture([]), silence_s=0.0)
    source.open()
    with pytest.raises(SourceLost, match="no frame for") as caught:
        source.read(0.01)
    assert caught.value.cause is Cause.NO_FRAMES
    source = v4l2(FakeCapture([cv2.error("poll")]))
    source.open()
    with pytest.raises(SourceLost, match="fault"):
        source.read(0.01)


def test_v4l2_device_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    plain = tmp_path / "file"
    plain.touch()
    for device, cause in (
        ("/dev/video_absent", Cause.ABSENT),
        (99, Cause.ABSENT),
        (str(plain), Cause.FORMAT),
    ):
        source = V4l2Source(device)
        with pytest.raises(SourceError) as caught:
            source.open()
        assert caught.value.cause is cause
        assert source.describe().device_id in str(caught.value)
    closed = FakeCapture([], opened=False)
    with pytest.raises(SourceError, match="no capture device"):
        v4l2(closed).open()
    assert closed.released == 1


@pytest.mark.parametrize(
    ("number", "cause"), [(errno.EBUSY, Cause.BUSY), (errno.EINVAL, Cause.FORMAT)]
)
def test_v4l2_device_that_another_program_streams_from_is_busy(
    monkeypatch: pytest.MonkeyPatch, number: int, cause: Cause
) -> None:
    """It opens all the same; the kernel refuses only its buffers."""

    def refuse(fd: int, request: int, argument: bytes) -> int:
        assert request == 0xC0145608, "VIDIOC_REQBUFS of linux/videodev2.h"
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    capture = FakeCapture([], opened=False)
    with pytest.raises(SourceError, match="/dev/null is ") as caught:
        v4l2(capture).open()
    assert caught.value.cause is cause and capture.released == 1


def test_v4l2_of_opencv_refuses_a_device_that_is_no_camera() -> None:
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(SourceError, match="no capture device"):
        V4l2Source("/dev/null").open()
