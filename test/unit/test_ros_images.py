"""Images: every encoding, strides and byte order, and what is refused."""

from __future__ import annotations

import array
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pytest

from shopfloor.ros import images
from shopfloor.ros.images import ImageError


@dataclass
class FakeImage:
    """The fields of sensor_msgs/Image that from_message reads."""

    height: int
    width: int
    encoding: str
    step: int
    data: Any
    is_bigendian: int = 0
    header: object = field(default=None)


def message(pixels: np.ndarray, encoding: str, pad: int = 0) -> FakeImage:
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(pixels.shape[0], -1)
    rows = np.pad(rows, ((0, 0), (0, pad)), constant_values=77)
    return FakeImage(
        pixels.shape[0], pixels.shape[1], encoding, rows.shape[1], array.array("B", rows.tobytes())
    )


def shape_of(encoding: str) -> tuple[int, ...]:
    channels = images._ENCODINGS[encoding][0]
    return (6, 8) if channels == 1 else (6, 8, channels)


@pytest.mark.parametrize("encoding", images.ENCODINGS)
@pytest.mark.parametrize("pad", [0, 2, 16])
def test_pixels_survive_the_message_with_any_step(encoding: str, pad: int) -> None:
    dtype = images._ENCODINGS[encoding][1]
    pixels = np.random.default_rng(1).integers(0, 255, shape_of(encoding)).astype(dtype)
    read = images.from_message(message(pixels, encoding, pad))  # type: ignore[arg-type]
    assert np.array_equal(read, pixels)
    assert images.to_bgr8(read, encoding).shape == (6, 8, 3)


def test_reading_makes_no_copy() -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    source = message(pixels, "bgr8")
    read = images.from_message(source)  # type: ignore[arg-type]
    source.data[0] = 9
    assert read[0, 0, 0] == 9
    assert images.to_bgr8(read, "bgr8") is read


def test_big_endian_16_bit_is_read() -> None:
    pixels = np.array([[1, 256], [65535, 3]], np.uint16)
    source = message(pixels.astype(">u2").view(np.uint16), "mono16")
    source.is_bigendian = 1
    assert np.array_equal(images.from_message(source), pixels)  # type: ignore[arg-type]


@pytest.mark.parametrize("encoding", ["mono8", "rgb8", "bgra8", "rgba8"])
def test_a_grey_image_stays_grey(encoding: str) -> None:
    pixels = np.full(shape_of(encoding), 130, np.uint8)
    assert np.all(images.to_bgr8(pixels, encoding) == 130)


@pytest.mark.parametrize(
    ("encoding", "red_at"),
    [
        ("bayer_rggb8", (0, 0)),
        ("bayer_bggr8", (1, 1)),
        ("bayer_grbg8", (0, 1)),
        ("bayer_gbrg8", (1, 0)),
    ],
)
def test_bayer_patterns_put_red_where_ros_says(encoding: str, red_at: tuple[int, int]) -> None:
    mosaic = np.zeros((16, 16), np.uint8)
    mosaic[red_at[0] :: 2, red_at[1] :: 2] = 200
    centre = images.to_bgr8(mosaic, encoding)[8, 8]
    assert centre[2] > 150
    assert centre[0] == centre[1] == 0


@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv"])
def test_yuv_luma_comes_from_the_right_byte(encoding: str) -> None:
    pixels = np.full((4, 4, 2), 128, np.uint8)
    pixels[..., 0 if "yuy" in encoding else 1] = 235
    if encoding in ("yuv422", "uyvy"):
        pixels[..., 0], pixels[..., 1] = 128, 235
    assert images.to_bgr8(pixels, encoding).min() > 250


@pytest.mark.parametrize(
    ("changes", "needle"),
    [
        ({"encoding": "8UC7"}, "'8UC7' is not known"),
        ({"height": 0}, "8 x 0"),
        ({"width": 0}, "0 x 6"),
        ({"step": 5}, "step is 5"),
        ({"step": 400}, "data has"),
        ({"height": 600}, "data has"),
        ({"data": array.array("B")}, "data has 0 bytes"),
    ],
)
def test_a_wrong_message_is_refused_with_its_reason(changes: dict[str, Any], needle: str) -> None:
    source = message(np.zeros((6, 8, 3), np.uint8), "bgr8")
    for name, value in changes.items():
        setattr(source, name, value)
    with pytest.raises(ImageError, match=needle):
        images.from_message(source)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pixels", "encoding"),
    [
        (np.zeros((4, 4), np.uint8), "bgr8"),
        (np.zeros((4, 4, 3), np.float32), "bgr8"),
        (np.zeros((0, 4, 3), np.uint8), "bgr8"),
        (np.zeros((4, 3, 2), np.uint8), "yuyv"),
        (np.zeros((4, 4), np.uint8), "mono16"),
    ],
)
def test_an_array_that_is_not_its_encoding_is_refused(pixels: np.ndarray, encoding: str) -> None:
    with pytest.raises(ImageError):
        images.to_bgr8(pixels, encoding)


def test_cut_off_jpeg_and_png_are_refused() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for suffix in (".jpg", ".png"):
        data = cv2.imencode(suffix, picture)[1].tobytes()
        assert images.decode(data).shape == (64, 64, 3)
        for length in (0, 1, 10, len(data) // 2, len(data) - 70):
            with pytest.raises(ImageError):
                images.decode(data[:length])


@pytest.mark.parametrize("encoding", ["mono8", "bgr8", "rgb8", "bgra8", "mono16"])
def test_pixels_are_those_that_cv_bridge_gives(encoding: str) -> None:
    cv_bridge = pytest.importorskip("cv_bridge", reason="cv_bridge is not installed")
    from builtin_interfaces.msg import Time

    dtype = images._ENCODINGS[encoding][1]
    pixels = np.random.default_rng(2).integers(0, 255, shape_of(encoding)).astype(dtype)
    sent = images.to_message(pixels, encoding, Time(), "camera")
    bridge = cv_bridge.CvBridge()
    assert np.array_equal(bridge.imgmsg_to_cv2(sent), pixels)
    if dtype is np.uint8:
        assert np.array_equal(bridge.imgmsg_to_cv2(sent, "bgr8"), images.to_bgr8(pixels, encoding))
