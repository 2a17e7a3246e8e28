"""The socket of the simulated camera: its two ends, and everything that may happen between."""

from __future__ import annotations

import dataclasses
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from frame_socket_tools import HEADER, LIMIT_S, eventually, header_for, picture, read_frame

from shopfloor.ros import frame_socket
from shopfloor.ros.frame_socket import (
    HEADER_BYTES,
    ConnectionLost,
    DamagedFrame,
    DeviceAbsent,
    FrameReader,
    FrameSocketError,
    ProtocolError,
    pack_header,
)
from shopfloor.sim.camera_device import CameraDevice


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "camera.sock"


@pytest.fixture
def device(path: Path) -> Iterator[CameraDevice]:
    made = CameraDevice(path)
    made.open()
    yield made
    made.close()


@pytest.fixture
def reader(path: Path, device: CameraDevice) -> Iterator[FrameReader]:
    made = FrameReader(path)
    made.connect()
    eventually(lambda: device.counters().readers == 1)
    yield made
    made.close()


@pytest.fixture
def raw(tmp_path: Path) -> Iterator[tuple[FrameReader, socket.socket]]:
    """A reader whose device is the test itself."""
    path = tmp_path / "raw.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(os.fspath(path))
        listener.listen()
        reader = FrameReader(path)
        reader.connect()
        connection, _ = listener.accept()
        with connection:
            yield reader, connection
        reader.close()


# From end to end ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "dtype", "encoding"),
    [
        ((12, 16, 3), np.uint8, "bgr8"),
        ((12, 16), np.uint8, "mono8"),
        ((12, 16), np.uint16, "mono16"),
        ((12, 16), np.uint8, "bayer_rggb8"),
        ((12, 16, 2), np.uint8, "yuv422_yuy2"),
    ],
)
def test_a_frame_arrives_as_it_was(
    device: CameraDevice,
    reader: FrameReader,
    shape: tuple[int, ...],
    dtype: type[np.generic],
    encoding: str,
) -> None:
    image = np.random.default_rng(3).integers(0, 200, shape).astype(dtype)
    header = header_for(image, encoding=encoding)
    assert device.send(header, image) == 1
    frame = read_frame(reader)
    assert frame.header == header
    assert frame.image.dtype == image.dtype and np.array_equal(frame.image, image)


def test_a_1080p_frame_arrives_whole(device: CameraDevice, reader: FrameReader) -> None:
    image = picture(5, 1080, 1920)
    device.send(header_for(image), image)
    assert np.array_equal(read_frame(reader).image, image)


def test_frames_keep_their_own_memory(device: CameraDevice, reader: FrameReader) -> None:
    for seed in (1, 2):
        device.send(header_for(picture(seed)), picture(seed))
        if seed == 1:
            first = read_frame(reader)
    second = read_frame(reader)
    assert np.array_equal(first.image, picture(1)) and np.array_equal(second.image, picture(2))


def test_every_reader_gets_every_frame(device: CameraDevice, path: Path) -> None:
    readers = [FrameReader(path) for _ in range(3)]
    for reader in readers:
        reader.connect()
    eventually(lambda: device.counters().readers == 3)
    assert device.send(header_for(picture(1)), picture(1)) == 3
    for reader in readers:
        assert np.array_equal(read_frame(reader).image, picture(1))
        reader.close()
    eventually(lambda: device.counters().readers == 0)


def test_nothing_comes_from_a_silent_device(reader: FrameReader) -> None:
    assert reader.read(0.0) is None
    assert reader.read(0.01) is None


def test_a_frame_in_pieces_is_put_together(raw: tuple[FrameReader, socket.socket]) -> None:
    reader, connection = raw
    data = pack_header(HEADER) + bytes(range(24))
    for start in range(0, len(data), 7):
        assert reader.read(0.0) is None
        connection.sendall(data[start : start + 7])
    frame = read_frame(reader)
    assert frame.image.reshape(-1).tolist() == list(range(24))


def test_a_truncated_payload_costs_one_frame(raw: tuple[FrameReader, socket.socket]) -> None:
    reader, connection = raw
    short = dataclasses.replace(HEADER, payload_bytes=11)
    connection.sendall(pack_header(short) + b"x" * 11 + pack_header(HEADER) + b"y" * 24)
    with pytest.raises(DamagedFrame, match="frame 7 has 11 bytes, 4 x 2 bgr8 needs 24") as caught:
        reader.read(LIMIT_S)
    assert caught.value.header == short
    assert read_frame(reader).image.tobytes() == b"y" * 24


def test_garbage_closes_the_connection(raw: tuple[FrameReader, socket.socket]) -> None:
    reader, connection = raw
    connection.sendall(b"GET / HTTP/1.1\r\n" * 20)
    with pytest.raises(ProtocolError, match="bad magic"):
        reader.read(LIMIT_S)
    with pytest.raises(ConnectionLost, match="not connected"):
        reader.read(0.0)


@pytest.mark.parametrize("sent", [0, 10, HEADER_BYTES, HEADER_BYTES + 5])
def test_a_device_that_dies_in_mid_frame(raw: tuple[FrameReader, socket.socket], sent: int) -> None:
    reader, connection = raw
    connection.sendall((pack_header(HEADER) + bytes(24))[:sent])
    connection.close()
    with pytest.raises(ConnectionLost):
        reader.read(LIMIT_S)


def test_a_new_connection_forgets_half_a_frame(device: CameraDevice, path: Path) -> None:
    reader = FrameReader(path)
    reader._header = HEADER  # as a connection that broke in mid-frame leaves it
    reader._filled = 13
    reader.connect()
    eventually(lambda: device.counters().readers == 1)
    device.send(header_for(picture(2)), picture(2))
    assert np.array_equal(read_frame(reader).image, picture(2))
    reader.close()


def test_no_device_is_said(path: Path, tmp_path: Path) -> None:
    with pytest.raises(DeviceAbsent, match=r"no camera listens on .*camera\.sock"):
        FrameReader(path).connect()
    (tmp_path / "file").write_text("not a socket")
    with pytest.raises(FrameSocketError, match="file"):
        FrameReader(tmp_path / "file").connect()


def test_a_path_too_long_is_said() -> None:
    with pytest.raises(FrameSocketError, match="too long, at most 107 bytes"):
        FrameReader("/tmp/" + "x" * 120)


# The device --------------------------------------------------------------------------------------


def test_the_socket_is_private(device: CameraDevice, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_close_leaves_nothing_behind(device: CameraDevice, reader: FrameReader, path: Path) -> None:
    device.close()
    device.close()
    assert not path.exists() and not device.is_open
    with pytest.raises(ConnectionLost):
        reader.read(LIMIT_S)
    device.open()
    reader.connect()


def test_a_dead_device_s_socket_is_replaced(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(os.fspath(path))
    device = CameraDevice(path)
    device.open()
    FrameReader(path).connect()
    device.close()


def test_two_devices_do_not_share_a_path(device: CameraDevice, path: Path) -> None:
    second = CameraDevice(path)
    with pytest.raises(FrameSocketError, match=r"another camera device listens on .*camera\.sock"):
        second.open()
    second.close()
    assert path.exists()
    FrameReader(path).connect()


def test_other_files_are_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("precious")
    with pytest.raises(FrameSocketError, match="is in the way and is no socket"):
        CameraDevice(path).open()
    assert path.read_text() == "precious"


def test_a_successor_s_socket_is_not_removed(device: CameraDevice, path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as successor:
        successor.bind(os.fspath(path))
        device.close()
        assert path.exists()


def test_an_unusable_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FrameSocketError, match="cannot use the folder"):
        CameraDevice(tmp_path / "file" / "camera.sock").open()


def test_a_stranger_s_run_folder_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPFLOOR_RUN_DIR", os.fspath(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(FrameSocketError, match="belongs to user"):
        CameraDevice(frame_socket.usual_path()).open()


def test_usual_path_follows_the_domain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPFLOOR_RUN_DIR", os.fspath(tmp_path))
    monkeypatch.setenv("ROS_DOMAIN_ID", "17")
    assert frame_socket.usual_path() == tmp_path / "17-simulated_camera.sock"
    monkeypatch.delenv("ROS_DOMAIN_ID")
    assert frame_socket.usual_path() == tmp_path / "0-simulated_camera.sock"


def test_a_reader_that_does_not_read_delays_nobody(path: Path) -> None:
    device = CameraDevice(path, queue_frames=2)
    device.open()
    image = picture(1, 480, 640)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sleeper:
        sleeper.connect(os.fspath(path))
        awake = FrameReader(path)
        awake.connect()
        eventually(lambda: device.counters().readers == 2)
        for sequence in range(1, 21):
            device.send(header_for(image, sequence=sequence), image)
            assert read_frame(awake).header.sequence == sequence
        # what the sleeper did not get: all but those in the kernel, in flight and in its queue
        assert 10 <= device.counters().dropped <= 20 - 3
        awake.close()
    eventually(lambda: device.counters().readers == 0)
    device.close()


def test_a_slow_reader_gets_whole_frames_and_the_newest(device: CameraDevice, path: Path) -> None:
    image = picture(4, 480, 640)
    slow = FrameReader(path)
    slow.connect()
    eventually(lambda: device.counters().readers == 1)
    for sequence in range(1, 31):
        device.send(header_for(image, sequence=sequence), image)
    received = [read_frame(slow)]
    while received[-1].header.sequence < 30:
        received.append(read_frame(slow))
    sequences = [frame.header.sequence for frame in received]
    assert sequences == sorted(set(sequences))
    assert len(sequences) + device.counters().dropped == 30
    assert all(np.array_equal(frame.image, image) for frame in received)
    slow.close()


def test_a_reader_that_talks_is_ignored(
    device: CameraDevice, reader: FrameReader, path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as talker:
        talker.connect(os.fspath(path))
        talker.sendall(b"hello" * 1000)
        eventually(lambda: device.counters().readers == 2)
        device.send(header_for(picture(1)), picture(1))
        assert np.array_equal(read_frame(reader).image, picture(1))


def test_a_reader_that_vanishes_in_mid_frame(device: CameraDevice, path: Path) -> None:
    image = picture(1, 1080, 1920)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as quitter:
        quitter.connect(os.fspath(path))
        eventually(lambda: device.counters().readers == 1)
        device.send(header_for(image), image)
        assert quitter.recv(100)
    eventually(lambda: device.counters().readers == 0)
    survivor = FrameReader(path)
    survivor.connect()
    eventually(lambda: device.counters().readers == 1)
    device.send(header_for(picture(2)), picture(2))
    assert np.array_equal(read_frame(survivor).image, picture(2))
    survivor.close()


def test_too_many_readers_are_turned_away(device: CameraDevice, path: Path) -> None:
    readers = [FrameReader(path) for _ in range(17)]
    for count, reader in enumerate(readers, start=1):
        reader.connect()
        eventually(lambda count=count: device.counters().readers == min(count, 16))
    with pytest.raises(ConnectionLost):
        readers[-1].read(LIMIT_S)
    assert device.counters().readers == 16
    for reader in readers:
        reader.close()


def test_a_header_that_lies_about_its_payload_is_refused(device: CameraDevice) -> None:
    with pytest.raises(ValueError, match="header says 24 bytes, payload has 576"):
        device.send(HEADER, picture(1))
