"""Folder, video and V4L2 sources: every way to open them wrong, and what a good one gives."""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from shopfloor.camera.folder import FolderSource, read_picture
from shopfloor.camera.pacing import Pacer
from shopfloor.camera.simulated import SimulatedSource
from shopfloor.camera.source import BadFrame, Cause, EndOfStream, Grab, SourceError, SourceLost
from shopfloor.camera.v4l2 import V4l2Source
from shopfloor.camera.video import VideoSource
from shopfloor.ros.frame_socket import HEADER_BYTES, FrameHeader, pack_header


def picture(path: Path, value: int = 90, size: tuple[int, int] = (24, 32)) -> Path:
    assert cv2.imwrite(str(path), np.full((*size, 3), (value, 100, 110), np.uint8))
    return path


def read_all(source: Any) -> tuple[list[Grab], list[BadFrame]]:
    grabs: list[Grab] = []
    bad: list[BadFrame] = []
    while True:
        try:
            grab = source.read(0.1)
            if grab is not None:
                grabs.append(grab)
        except BadFrame as error:
            bad.append(error)
        except EndOfStream:
            return grabs, bad


class FakeTime:
    """A steady clock that only `sleep` moves."""

    def __init__(self) -> None:
        self.now_ns = 1_000

    def clock_ns(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


# Pacing


def test_pacing_does_not_drift_when_each_frame_costs_time() -> None:
    fake = FakeTime()
    pacer = Pacer(30.0, fake.clock_ns, fake.sleep)
    due = []
    for _ in range(301):
        while not pacer.wait(1.0):
            pass
        due.append(fake.now_ns)
        fake.now_ns += 20_000_000  # the frame's work
    assert due[-1] - due[0] == pytest.approx(10e9, abs=2)


def test_pacing_waits_no_longer_than_it_is_told() -> None:
    fake = FakeTime()
    pacer = Pacer(1.0, fake.clock_ns, fake.sleep)
    assert pacer.wait(0.1)
    start = fake.now_ns
    assert not pacer.wait(0.1)
    assert fake.now_ns - start == 100_000_000


def test_pacing_does_not_burst_after_a_stall() -> None:
    fake = FakeTime()
    pacer = Pacer(10.0, fake.clock_ns, fake.sleep)
    assert pacer.wait(1.0)
    fake.now_ns += 5_000_000_000
    assert pacer.wait(1.0)
    stalled_until = fake.now_ns
    assert pacer.wait(1.0)
    assert fake.now_ns - stalled_until == pytest.approx(100_000_000, abs=2)


# Folder


def test_folder_gives_pictures_in_natural_order_with_their_names(tmp_path: Path) -> None:
    for name in ("part_10.png", "part_9.jpg", "part_1.bmp", "part_2.TIF"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    source = FolderSource(tmp_path)
    source.open()
    grabs, bad = read_all(source)
    assert [g.part_id for g in grabs] == ["part_1", "part_2", "part_9", "part_10"]
    assert [g.sequence for g in grabs] == [1, 2, 3, 4]
    assert {g.encoding for g in grabs} == {"bgr8"} and grabs[0].image.shape == (24, 32, 3)
    assert bad == []


def test_folder_keeps_grey_and_16_bit_pictures_as_they_are(tmp_path: Path) -> None:
    deep = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) * 80
    cv2.imwrite(str(tmp_path / "a.png"), deep)
    cv2.imwrite(str(tmp_path / "b.png"), np.full((8, 8), 7, np.uint8))
    cv2.imwrite(str(tmp_path / "c.png"), np.full((8, 8, 3), 0x1234, np.uint16))
    cv2.imwrite(str(tmp_path / "d.png"), np.full((8, 8, 4), 9, np.uint8))
    source = FolderSource(tmp_path)
    source.open()
    grabs, _ = read_all(source)
    assert [g.encoding for g in grabs] == ["mono16", "mono8", "bgr8", "bgr8"]
    np.testing.assert_array_equal(grabs[0].image, deep)
    assert (grabs[2].image == 0x12).all() and grabs[3].image.shape == (8, 8, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif"])
@pytest.mark.parametrize("keep", [0, 10, 0.5, -1])
def test_folder_skips_a_cut_picture_and_names_it(
    tmp_path: Path, suffix: str, keep: int | float
) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
    for name in ("a", "b", "c"):
        cv2.imwrite(str(tmp_path / f"{name}{suffix}"), noise)
    data = (tmp_path / f"b{suffix}").read_bytes()
    left = len(data) + keep if keep == -1 else keep if keep in (0, 10) else len(data) // 2
    (tmp_path / f"b{suffix}").write_bytes(data[: int(left)])
    source = FolderSource(tmp_path)
    source.open()
    grabs, bad = read_all(source)
    assert [g.part_id for g in grabs] == ["a", "c"]
    assert [g.sequence for g in grabs] == [1, 3]
    assert len(bad) == 1 and f"b{suffix}" in str(bad[0])
    assert (bad[0].sequence, bad[0].part_id) == (2, "b")


def test_folder_skips_text_with_a_picture_suffix_and_float_pixels(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("this is no picture at all, whatever its name says")
    cv2.imwrite(str(tmp_path / "b.tif"), np.ones((8, 8), np.float32))
    source = FolderSource(tmp_path)
    source.open()
    grabs, bad = read_all(source)
    assert grabs == []
    assert "float32" in str(bad[1]) and "uint8" in str(bad[1])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folder_skips_a_picture_without_permission(tmp_path: Path) -> None:
    picture(tmp_path / "a.png").chmod(0)
    source = FolderSource(tmp_path)
    source.open()
    assert "ermission" in str(read_all(source)[1][0])


def test_folder_loops_with_a_running_sequence_and_no_part_comes_twice(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    source = FolderSource(tmp_path, loop=True)
    source.open()
    grabs = [source.read(0.1) for _ in range(5)]
    assert [(g.part_id, g.sequence) for g in grabs if g] == [
        ("a", 1), ("b", 2), ("a#2", 3), ("b#2", 4), ("a#3", 5)
    ]  # fmt: skip


def test_folder_paces_bad_pictures_too(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    source = FolderSource(tmp_path, rate_hz=2.0, loop=True)
    source.open()
    with pytest.raises(BadFrame):
        source.read(0.1)
    assert source.read(0.01) is None


def test_folder_that_vanishes_is_lost_and_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    file = picture(folder / "a.png")
    source = FolderSource(folder, loop=True)
    source.open()
    first = source.read(0.1)
    file.unlink()
    folder.rmdir()
    with pytest.raises(SourceLost, match="gone"):
        source.read(0.1)
    source.close()
    folder.mkdir()
    picture(file)
    source.open()
    again = source.read(0.1)
    assert first is not None and again is not None
    assert again.sequence > first.sequence, "a sequence number must not come twice"


@pytest.mark.parametrize(
    ("make", "cause", "says"),
    [
        (lambda p: None, Cause.ABSENT, "no folder"),
        (lambda p: p.mkdir(), Cause.EMPTY, "is empty"),
        (lambda p: (p.mkdir(), (p / "a.txt").touch()), Cause.EMPTY, "1 files but no picture"),
        (lambda p: p.touch(), Cause.FORMAT, "is a file"),
    ],
)
def test_folder_that_cannot_be_opened_says_why(
    tmp_path: Path, make: Any, cause: Cause, says: str
) -> None:
    folder = tmp_path / "in"
    make(folder)
    with pytest.raises(SourceError, match=says) as caught:
        FolderSource(folder).open()
    assert caught.value.cause is cause and str(folder) in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folder_without_permission_is_denied(tmp_path: Path) -> None:
    tmp_path.chmod(0)
    with pytest.raises(SourceError) as caught:
        FolderSource(tmp_path).open()
    tmp_path.chmod(0o700)
    assert caught.value.cause is Cause.DENIED


def test_jpeg_padded_behind_its_end_marker_is_whole(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes() + b"\0" * 48)
    assert read_picture(path)[1] == "bgr8"


# Video


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "belt.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 50.0, (64, 48))
    assert writer.isOpened()
    for value in (40, 80, 120):
        writer.write(np.full((48, 64, 3), value, np.uint8))
    writer.release()
    return path


def test_video_gives_its_frames_and_ends(video: Path) -> None:
    source = VideoSource(video, rate_hz=1000.0)
    source.open()
    grabs, bad = read_all(source)
    assert [round(float(g.image.mean()), -1) for g in grabs] == [40, 80, 120]
    assert [g.sequence for g in grabs] == [1, 2, 3] and bad == []
    assert grabs[2].device_stamp_ns == pytest.approx(40e6, abs=25e6)


def test_video_takes_the_rate_of_the_file_when_none_is_given(video: Path) -> None:
    source = VideoSource(video)
    source.open()
    assert source.describe().rate_hz == pytest.approx(50.0)


def test_video_loops(video: Path) -> None:
    source = VideoSource(video, rate_hz=1000.0, loop=True)
    source.open()
    grabs = [g for g in (source.read(0.1) for _ in range(7)) if g]
    assert [g.sequence for g in grabs] == list(range(1, 8))
    assert grabs[3].image.mean() == pytest.approx(40, abs=3)


def test_video_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    for path, cause in (
        (tmp_path / "absent.mp4", Cause.ABSENT),
        (tmp_path, Cause.FORMAT),
        (text, Cause.FORMAT),
    ):
        with pytest.raises(SourceError) as caught:
            VideoSource(path).open()
        assert caught.value.cause is cause and str(path) in str(caught.value)


def test_video_cut_short_gives_what_it_has(video: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.avi"
    cut.write_bytes(video.read_bytes()[:-200])
    source = VideoSource(cut, rate_hz=1000.0)
    try:
        source.open()
    except SourceError as error:
        assert error.cause in (Cause.FORMAT, Cause.EMPTY)
    else:
        assert 1 <= len(read_all(source)[0]) <= 3


# V4L2, on a stand-in for OpenCV's capture: /dev/null is a character device that opens


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


def test_v4l2_frame_that_cannot_be_decoded_is_bad_and_the_next_is_good() -> None:
    source = v4l2(FakeCapture([None, COLOUR]))
    source.open()
    with pytest.raises(BadFrame):
        source.read(0.1)
    assert source.read(0.1) is not None


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


def test_v4l2_of_opencv_refuses_a_device_that_is_no_camera() -> None:
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(SourceError, match="no capture device"):
        V4l2Source("/dev/null").open()


# Simulated camera, on a bare socket


class Wire:
    """The device's end of a frame socket, without the device."""

    def __init__(self, path: Path) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(1)

    def send(self, sequence: int, *, short_by: int = 0, part_id: str = "p") -> None:
        """A mono8 frame of 4 x 3 pixels, `short_by` bytes of them missing."""
        size = 12 - short_by
        header = FrameHeader(4, 3, "mono8", sequence, 0, 5, 6, 7, part_id, size)
        self.peer.sendall(pack_header(header) + bytes(range(size)))

    def accept(self) -> None:
        self.peer, _ = self.listener.accept()

    def close(self) -> None:
        self.peer.close()
        self.listener.close()


@pytest.fixture
def wired(tmp_path: Path) -> Iterator[tuple[Wire, SimulatedSource]]:
    wire = Wire(tmp_path / "camera.sock")
    source = SimulatedSource(tmp_path / "camera.sock")
    source.open()
    wire.accept()
    yield wire, source
    source.close()
    wire.close()


def test_simulated_frames_keep_stamps_part_and_counter(
    wired: tuple[Wire, SimulatedSource],
) -> None:
    wire, source = wired
    assert source.read(0.0) is None
    wire.send(41, part_id="board-1")
    got = source.read(1.0)
    assert got is not None
    assert (got.sequence, got.part_id, got.encoding) == (41, "board-1", "mono8")
    assert (got.device_stamp_ns, got.steady_ns) == (5, 7)
    np.testing.assert_array_equal(got.image, np.arange(12).reshape(3, 4))


def test_simulated_damaged_frame_is_bad_and_the_next_is_good(
    wired: tuple[Wire, SimulatedSource],
) -> None:
    wire, source = wired
    wire.send(1, short_by=5, part_id="hurt")
    wire.send(2)
    with pytest.raises(BadFrame) as caught:
        source.read(1.0)
    assert (caught.value.sequence, caught.value.part_id) == (1, "hurt")
    good = source.read(1.0)
    assert good is not None and good.sequence == 2


def test_simulated_nonsense_and_hang_up_are_a_loss_and_it_can_be_opened_again(
    wired: tuple[Wire, SimulatedSource],
) -> None:
    wire, source = wired
    wire.peer.sendall(b"GET / HTTP/1.1\r\n" + bytes(HEADER_BYTES))
    with pytest.raises(SourceLost) as caught:
        source.read(1.0)
    assert caught.value.cause is Cause.FORMAT
    source.close()
    source.open()
    wire.accept()
    wire.send(3)
    assert source.read(1.0) is not None
    wire.peer.close()
    with pytest.raises(SourceLost, match="closed the connection"):
        source.read(1.0)


def test_simulated_camera_that_is_not_there_says_so(tmp_path: Path) -> None:
    source = SimulatedSource(tmp_path / "absent.sock")
    with pytest.raises(SourceError, match=r"absent\.sock") as caught:
        source.open()
    assert caught.value.cause is Cause.ABSENT
    with pytest.raises(SourceError) as caught:
        SimulatedSource("/" + "x" * 200)
    assert caught.value.cause is Cause.CONFIGURATION
