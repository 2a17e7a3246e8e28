"""Images between cameras, OpenCV and messages; works without cv_bridge, equal to it where it is.

Arrays are H x W (mono, bayer), H x W x 3 (bgr8, rgb8), H x W x 4 (bgra8, rgba8) or H x W x 2
(yuv422); uint8, or uint16 for the 16-bit encodings. No copy is made where none is needed.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from builtin_interfaces.msg import Time
    from sensor_msgs.msg import CompressedImage, Image

# A node's threads are its own: OpenCV's pool takes the core that the next node needs, and on two
# cores its second thread makes pre- and postprocessing slower at p99, not faster.
cv2.setNumThreads(1)

AnyImage = npt.NDArray[np.generic]
Bgr = npt.NDArray[np.uint8]


BIG_ENDIAN = sys.byteorder == "big"
"""Byte order of 16-bit pixels in this machine's memory."""


class ImageError(ValueError):
    """An image that cannot be read; the message says what is wrong and what is allowed."""


# encoding: (channels, dtype, OpenCV code to bgr8 or None). OpenCV names a Bayer pattern by the
# second row's pixels, ROS by the first row's, hence rggb -> BG.
_ENCODINGS: dict[str, tuple[int, type[np.generic], int | None]] = {
    "mono8": (1, np.uint8, cv2.COLOR_GRAY2BGR),
    "mono16": (1, np.uint16, cv2.COLOR_GRAY2BGR),
    "bgr8": (3, np.uint8, None),
    "rgb8": (3, np.uint8, cv2.COLOR_RGB2BGR),
    "bgra8": (4, np.uint8, cv2.COLOR_BGRA2BGR),
    "rgba8": (4, np.uint8, cv2.COLOR_RGBA2BGR),
    "bayer_rggb8": (1, np.uint8, cv2.COLOR_BayerBG2BGR),
    "bayer_bggr8": (1, np.uint8, cv2.COLOR_BayerRG2BGR),
    "bayer_gbrg8": (1, np.uint8, cv2.COLOR_BayerGR2BGR),
    "bayer_grbg8": (1, np.uint8, cv2.COLOR_BayerGB2BGR),
    "bayer_rggb16": (1, np.uint16, cv2.COLOR_BayerBG2BGR),
    "bayer_bggr16": (1, np.uint16, cv2.COLOR_BayerRG2BGR),
    "bayer_gbrg16": (1, np.uint16, cv2.COLOR_BayerGR2BGR),
    "bayer_grbg16": (1, np.uint16, cv2.COLOR_BayerGB2BGR),
    "yuv422": (2, np.uint8, cv2.COLOR_YUV2BGR_UYVY),
    "uyvy": (2, np.uint8, cv2.COLOR_YUV2BGR_UYVY),
    "yuv422_yuy2": (2, np.uint8, cv2.COLOR_YUV2BGR_YUY2),
    "yuyv": (2, np.uint8, cv2.COLOR_YUV2BGR_YUY2),
}

ENCODINGS: tuple[str, ...] = tuple(_ENCODINGS)
"""Every encoding that is read."""


def _layout(encoding: str) -> tuple[int, type[np.generic], int | None]:
    try:
        return _ENCODINGS[encoding]
    except KeyError:
        raise ImageError(
            f"encoding {encoding!r} is not known; allowed: {', '.join(ENCODINGS)}"
        ) from None


def check(image: AnyImage, encoding: str) -> None:
    """Raise ImageError unless the array has its encoding's shape and dtype and is not empty."""
    channels, dtype, _ = _layout(encoding)
    shape_fits = (
        image.ndim == 2 if channels == 1 else image.ndim == 3 and image.shape[2] == channels
    )
    if not shape_fits or image.dtype != dtype or image.size == 0:
        wanted = "H x W" if channels == 1 else f"H x W x {channels}"
        raise ImageError(
            f"an image of shape {image.shape} and type {image.dtype} is no {encoding}; "
            f"allowed: {wanted} of {np.dtype(dtype)}, not empty"
        )


def to_bgr8(image: AnyImage, encoding: str) -> Bgr:
    """The image as H x W x 3 uint8 BGR; the same object where it already is bgr8.

    16-bit images are scaled by 1/256 (full range to full range). Raises ImageError.
    """
    check(image, encoding)
    channels, dtype, code = _layout(encoding)
    if code is None:
        return image.astype(np.uint8, copy=False)
    if channels == 2 and image.shape[1] % 2:
        raise ImageError(f"{encoding} needs an even width, not {image.shape[1]}")
    if dtype is np.uint16:
        image = np.right_shift(image.astype(np.uint16, copy=False), 8)
    pixels = image.astype(np.uint8, copy=False)
    return np.asarray(cv2.cvtColor(pixels, code), dtype=np.uint8)


def to_message(image: AnyImage, encoding: str, stamp: Time, frame_id: str) -> Image:
    """A sensor_msgs/Image, filled by one memcpy (an ndarray would take 488 ms at 1080p)."""
    from sensor_msgs.msg import Image

    check(image, encoding)
    message = Image()
    message.header.stamp = stamp
    message.header.frame_id = frame_id
    message.height, message.width = image.shape[:2]
    message.encoding = encoding
    message.is_bigendian = int(BIG_ENDIAN)
    message.step = row_bytes(image)
    # Into the message's own array: assigning one would copy it again.
    message.data.frombytes(np.ascontiguousarray(image).data.cast("B"))
    return message


def row_bytes(image: AnyImage) -> int:
    """Bytes of one row without padding."""
    return int(image.itemsize * np.prod(image.shape[1:], dtype=np.int64))


def from_message(message: Image) -> AnyImage:
    """The message's pixels, a view of its buffer wherever rows and byte order permit.

    Raises ImageError on an unknown encoding, a zero size, a step shorter than a row, or less data
    than step x height.
    """
    return from_buffer(
        message.data,
        message.encoding,
        message.width,
        message.height,
        message.step,
        bool(message.is_bigendian),
    )


def from_buffer(
    data: Any, encoding: str, width: int, height: int, step: int, is_bigendian: bool
) -> AnyImage:
    """As `from_message`, of any object with the buffer protocol; step: bytes from row to row."""
    channels, dtype, _ = _layout(encoding)
    row = width * channels * np.dtype(dtype).itemsize
    if height == 0 or width == 0:
        raise ImageError(f"the image is {width} x {height}; allowed: at least 1 x 1")
    if step < row:
        raise ImageError(f"step is {step} bytes; a row of {width} {encoding} is {row}")
    if len(data) < step * (height - 1) + row:
        raise ImageError(
            f"data has {len(data)} bytes; {height} rows of step {step} need {step * height}"
        )
    if step % np.dtype(dtype).itemsize:
        raise ImageError(f"step {step} is no multiple of a {np.dtype(dtype)}")
    big_endian = is_bigendian and np.dtype(dtype).itemsize > 1
    wire = np.dtype(dtype).newbyteorder(">" if big_endian else "<")
    shape = (height, width) if channels == 1 else (height, width, channels)
    strides = (step, wire.itemsize * channels, wire.itemsize)[: len(shape)]
    pixels: AnyImage = np.ndarray(shape, dtype=wire, buffer=data, strides=strides)
    return pixels if wire.isnative else pixels.astype(dtype)


def to_compressed(
    image: AnyImage, encoding: str, stamp: Time, frame_id: str, quality: int = 90
) -> CompressedImage:
    """A sensor_msgs/CompressedImage (JPEG); `format` as image_transport writes it."""
    from sensor_msgs.msg import CompressedImage

    message = CompressedImage()
    message.header.stamp = stamp
    message.header.frame_id = frame_id
    message.format = f"{encoding}; jpeg compressed bgr8"
    message.data.frombytes(encode_jpeg(to_bgr8(image, encoding), quality))
    return message


def encode_jpeg(bgr: Bgr, quality: int = 90) -> bytes:
    """JPEG bytes of an H x W x 3 uint8 BGR image."""
    done, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ImageError(f"an image of shape {bgr.shape} could not be encoded as JPEG")
    return encoded.tobytes()


def decode(data: bytes | bytearray | memoryview) -> Bgr:
    """The H x W x 3 uint8 BGR image in JPEG, PNG or other bytes that OpenCV reads.

    Raises ImageError where the bytes hold no image, or a JPEG or PNG that ends too early (OpenCV
    fills the rest with grey and says nothing, and grey has no defects).
    """
    buffer = np.frombuffer(data, dtype=np.uint8)
    tail = buffer[-64:].tobytes()
    for name, magic, end in (("JPEG", b"\xff\xd8", b"\xff\xd9"), ("PNG", b"\x89PNG", b"IEND")):
        if buffer[: len(magic)].tobytes() == magic and end not in tail:
            raise ImageError(f"the {name} of {buffer.size} bytes is cut off: it has no end marker")
    image = cv2.imdecode(buffer, cv2.IMREAD_COLOR) if buffer.size else None
    if image is None:
        raise ImageError(f"{buffer.size} bytes hold no image that can be decoded")
    return np.asarray(image, dtype=np.uint8)
