"""Images as DDS bytes: equal to what rclpy itself writes and reads, and safe on broken bytes."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopfloor.ros import image_cdr, images

STAMP_NS = 1_700_000_000_123_456_789
ENCODINGS = {
    "mono8": ((), np.uint8),
    "bgr8": ((3,), np.uint8),
    "mono16": ((), np.uint16),
    "yuv422": ((2,), np.uint8),
}


def picture(encoding: str, height: int = 5, width: int = 6) -> images.AnyImage:
    tail, dtype = ENCODINGS[encoding]
    count = height * width * int(np.prod(tail, dtype=int))
    return np.arange(count, dtype=dtype).reshape((height, width, *tail))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("frame_id", ["", "c", "cam", "camera_1", "Kamera-Süd"])
def test_what_is_written_is_read_without_a_copy(encoding: str, frame_id: str) -> None:
    data = image_cdr.write(picture(encoding), encoding, STAMP_NS, frame_id)
    found = image_cdr.read(data)
    assert (found.stamp_ns, found.frame_id, found.encoding) == (STAMP_NS, frame_id, encoding)
    pixels = found.pixels()
    np.testing.assert_array_equal(pixels, picture(encoding))
    assert np.shares_memory(pixels, np.frombuffer(data, np.uint8))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("frame_id", ["", "cam", "camera_1"])
def test_rclpy_writes_and_reads_the_same_bytes(encoding: str, frame_id: str) -> None:
    serialization = pytest.importorskip("rclpy.serialization", reason="rclpy is not installed")
    time_type = pytest.importorskip("builtin_interfaces.msg").Time
    image_type = pytest.importorskip("sensor_msgs.msg").Image
    stamp = time_type(sec=STAMP_NS // 10**9, nanosec=STAMP_NS % 10**9)
    message = images.to_message(picture(encoding), encoding, stamp, frame_id)
    data = image_cdr.write(picture(encoding), encoding, STAMP_NS, frame_id)
    assert serialization.deserialize_message(data, image_type) == message
    # rclpy may pad the end; the fields are the same.
    found = image_cdr.read(serialization.serialize_message(message))
    assert (found.stamp_ns, found.frame_id, found.encoding) == (STAMP_NS, frame_id, encoding)
    np.testing.assert_array_equal(found.pixels(), picture(encoding))


def test_rows_with_padding_and_both_byte_orders() -> None:
    rows = np.zeros((2, 8), np.uint8)
    rows[:, :6] = picture("bgr8", 2, 2).reshape(2, 6)
    for order, mark in (("<", b"\x00\x01\x00\x00"), (">", b"\x00\x00\x00\x00")):
        data = mark + struct.pack(order + "iI", 1, 2) + struct.pack(order + "I", 2) + b"c\0\0\0"
        data += struct.pack(order + "III", 2, 2, 5) + b"bgr8\0" + b"\0\0\0"
        data += struct.pack(order + "II", 8, 16) + rows.tobytes()
        found = image_cdr.read(data)
        assert (found.stamp_ns, found.frame_id) == (1_000_000_002, "c")
        np.testing.assert_array_equal(found.pixels(), picture("bgr8", 2, 2))


@given(st.integers(0, 200), st.integers(0, 255))
def test_broken_bytes_are_an_image_error(at: int, value: int) -> None:
    data = bytearray(image_cdr.write(picture("bgr8"), "bgr8", STAMP_NS, "camera"))
    for broken in (
        data[: at % len(data)],
        bytes([*data[: at % len(data)], value, *data[at + 1 :]]),
    ):
        try:
            pixels = image_cdr.read(bytes(broken)).pixels()
        except images.ImageError:
            continue
        assert pixels.nbytes <= len(broken)


def test_other_representations_are_named() -> None:
    with pytest.raises(images.ImageError, match="begins with 0007; allowed: 0000, 0001"):
        image_cdr.read(b"\x00\x07\x00\x00" + bytes(80))
