"""`sensor_msgs/Image` as the bytes that go over DDS, read and written with one copy or none.

rclpy's own way copies a frame three times at each end: into the message's array, into a C message
and into the bytes, and back. Here the pixels are joined to a header of some 60 bytes, and read
where they lie in the bytes that came. Layout: OMG DDS-XTypes 1.3, 7.4.3, XCDR version 1, plain.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from shopfloor.ros.images import BIG_ENDIAN, AnyImage, ImageError, check, from_buffer, row_bytes

_ENCAPSULATION = 4
_LITTLE, _BIG = b"\x00\x01\x00\x00", b"\x00\x00\x00\x00"


@dataclass(frozen=True)
class ImageBytes:
    """The fields of an Image; `data` lies in the bytes that it was read from."""

    stamp_ns: int
    frame_id: str
    height: int
    width: int
    encoding: str
    is_bigendian: bool
    step: int
    data: memoryview

    def pixels(self) -> AnyImage:
        """A view of the pixels. Raises ImageError as `images.from_message` does."""
        return from_buffer(
            self.data, self.encoding, self.width, self.height, self.step, self.is_bigendian
        )


def write(image: AnyImage, encoding: str, stamp_ns: int, frame_id: str) -> bytes:
    """The bytes of a sensor_msgs/Image. Raises ImageError as `images.to_message` does."""
    check(image, encoding)
    height, width = image.shape[:2]
    order = ">" if BIG_ENDIAN else "<"
    head = bytearray(struct.pack(order + "iI", *divmod(stamp_ns, 1_000_000_000)))
    head += _string(frame_id, order)
    _align(head)
    head += struct.pack(order + "II", height, width) + _string(encoding, order)
    head += struct.pack("B", BIG_ENDIAN)
    _align(head)
    pixels = np.ascontiguousarray(image).data.cast("B")
    head += struct.pack(order + "II", row_bytes(image), len(pixels))
    return b"".join((_BIG if BIG_ENDIAN else _LITTLE, head, pixels))


def read(data: bytes) -> ImageBytes:
    """The Image in its bytes. Raises ImageError where they are none."""
    try:
        return _read(data)
    except (struct.error, UnicodeDecodeError) as error:
        raise ImageError(f"{len(data)} bytes are no sensor_msgs/Image: {error}") from None


def _read(data: bytes) -> ImageBytes:
    if data[:2] not in (_LITTLE[:2], _BIG[:2]):
        raise ImageError(f"an Image begins with {data[:2].hex()}; allowed: 0000, 0001 (plain CDR)")
    order = "<" if data[1] else ">"
    seconds, nanoseconds = struct.unpack_from(order + "iI", data, _ENCAPSULATION)
    frame_id, at = _read_string(data, _ENCAPSULATION + 8, order)
    height, width = struct.unpack_from(order + "II", data, at := _aligned(at))
    encoding, at = _read_string(data, at + 8, order)
    (is_bigendian,) = struct.unpack_from("B", data, at)
    step, size = struct.unpack_from(order + "II", data, at := _aligned(at + 1))
    pixels = memoryview(data)[at + 8 : at + 8 + size]
    stamp_ns = seconds * 1_000_000_000 + nanoseconds
    return ImageBytes(stamp_ns, frame_id, height, width, encoding, bool(is_bigendian), step, pixels)


def _string(text: str, order: str) -> bytes:
    encoded = text.encode() + b"\0"
    return struct.pack(order + "I", len(encoded)) + encoded


def _read_string(data: bytes, at: int, order: str) -> tuple[str, int]:
    (length,) = struct.unpack_from(order + "I", data, at := _aligned(at))
    (text,) = struct.unpack_from(f"{length}s", data, at + 4)
    return text.rstrip(b"\0").decode(), at + 4 + length


def _aligned(at: int) -> int:
    """The next multiple of four, counted from behind the encapsulation header of four bytes."""
    return at + -at % 4


def _align(head: bytearray) -> None:
    head += bytes(-len(head) % 4)
