"""Letterbox preprocessing into a buffer that is used again for each frame.

As YOLOX does it: the picture is scaled by one factor, lies in the top left corner of the network's
input, and the rest is padding (https://github.com/Megvii-BaseDetection/YOLOX, `preproc`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from shopfloor.inspection.engines import Batch
from shopfloor.inspection.model import InputFormat

_LARGEST_FACTOR = 15
"""Up to here OpenCV's 1 / (1 / factor) is the factor itself, to the last bit."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a picture lies in the network's input: input pixel = image pixel * scale.

    image_width, image_height: the picture, pixels.
    width, height: the part of the input that it covers, pixels.
    """

    image_width: int
    image_height: int
    scale: float
    width: int
    height: int

    @classmethod
    def fit(
        cls, image_width: int, image_height: int, input_width: int, input_height: int
    ) -> Geometry:
        """The largest scale at which the picture fits into the input."""
        scale = min(input_width / image_width, input_height / image_height)
        width = max(1, int(image_width * scale))
        height = max(1, int(image_height * scale))
        return cls(image_width, image_height, scale, width, height)

    def to_image(self, xyxy: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(N, 4) corner boxes from input pixels to image pixels, clipped to the image."""
        boxes = np.asarray(xyxy / np.float32(self.scale), dtype=np.float32)
        np.clip(boxes[:, 0::2], 0.0, self.image_width, out=boxes[:, 0::2])
        np.clip(boxes[:, 1::2], 0.0, self.image_height, out=boxes[:, 1::2])
        return boxes


class Letterbox:
    """Fills one network input batch; not thread-safe.

    width, height: of the network's input, pixels.
    pad: grey value of the padding, 0-255.
    rgb: True when the network wants RGB planes; otherwise they are BGR.
    gain, offset: the input is value * gain + offset, in the order of the planes. None: the values
        as they are, in bytes, for an engine that does the rest on its device.

    `batch` is (1, 3, height, width) float32, or uint8, C-contiguous. Each call overwrites it.
    """

    def __init__(
        self,
        width: int,
        height: int,
        *,
        pad: int = 114,
        rgb: bool = False,
        gain: Sequence[float] | None = (1.0, 1.0, 1.0),
        offset: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> None:
        self.width = width
        self.height = height
        as_bytes = gain is None
        self.batch: Batch = np.empty(
            (1, 3, height, width), dtype=np.uint8 if as_bytes else np.float32
        )
        self._gain, self._offset = _by_plane(gain or (1.0, 1.0, 1.0)), _by_plane(offset)
        self._plain = bool(np.all(self._gain == 1.0) and np.all(self._offset == 0.0))
        self._pad = pad * self._gain + self._offset
        self._order = (2, 1, 0) if rgb else (0, 1, 2)
        self._covered = (-1, -1)
        self._resized: npt.NDArray[np.uint8] = np.empty((0, 0, 3), dtype=np.uint8)
        self._planes: npt.NDArray[np.uint8] = np.empty((3, 0, 0), dtype=np.uint8)
        self._channels: list[npt.NDArray[np.uint8]] = []

    @classmethod
    def of(cls, form: InputFormat, *, as_bytes: bool = False) -> Letterbox:
        """The letterbox that fills a model's input; as_bytes: for `Engine.takes_bytes`."""
        return cls(
            form.width,
            form.height,
            pad=form.pad,
            rgb=form.channels == "rgb",
            gain=None if as_bytes else form.gain,
            offset=(0.0, 0.0, 0.0) if as_bytes else form.offset,
        )

    def __call__(self, image: npt.NDArray[np.uint8]) -> Geometry:
        """Put a H x W (grey) or H x W x 3 (BGR) uint8 picture into `batch`."""
        geometry = Geometry.fit(image.shape[1], image.shape[0], self.width, self.height)
        size = (geometry.width, geometry.height)
        if size != self._covered:
            self._cover(size)
        if (image.shape[1], image.shape[0]) != size:
            target = self._resized if image.ndim == 3 else self._planes[0]
            image = _shrunk(image, size, target)
        if image.ndim == 3:
            # Splitting bytes and then converting whole planes is 3 x faster than a transpose.
            cv2.split(image, self._channels)
            source: npt.NDArray[np.uint8] = self._planes
        else:
            source = image[np.newaxis]
        covered = self.batch[0, :, : geometry.height, : geometry.width]
        np.copyto(covered, source)
        if not self._plain:
            np.multiply(covered, self._gain, out=covered)
            np.add(covered, self._offset, out=covered)
        return geometry

    def _cover(self, size: tuple[int, int]) -> None:
        """Make the buffers for a new picture size, and pad what it does not cover."""
        width, height = size
        self._resized = np.empty((height, width, 3), dtype=np.uint8)
        self._planes = np.empty((3, height, width), dtype=np.uint8)
        self._channels = [self._planes[plane] for plane in self._order]
        self.batch[0, :, height:, :] = self._pad
        self.batch[0, :, :height, width:] = self._pad
        self._covered = size


def _by_plane(values: Sequence[float]) -> npt.NDArray[np.float32]:
    return np.asarray(values, dtype=np.float32).reshape(3, 1, 1)


def _shrunk(
    image: npt.NDArray[np.uint8], size: tuple[int, int], target: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """`image` at `size`, interpolated linearly, in `target`.

    At an odd whole factor (1080p at 640: 3) the centre of each block is a pixel, and all others
    have weight 0. Taking that pixel gives the same bytes and reads half of the rows.
    """
    factor = image.shape[1] // size[0]
    whole = (image.shape[1], image.shape[0]) == (size[0] * factor, size[1] * factor)
    if whole and factor % 2 and factor <= _LARGEST_FACTOR:
        centres = image[factor // 2 :, factor // 2 :]
        shrunk = cv2.resize(
            centres, None, dst=target, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_NEAREST
        )
    else:
        shrunk = cv2.resize(image, size, dst=target, interpolation=cv2.INTER_LINEAR)
    return np.asarray(shrunk, dtype=np.uint8)
