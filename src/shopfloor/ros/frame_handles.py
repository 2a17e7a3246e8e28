"""Frames through a shared-memory ring: the handles on their topic, and what they point at."""

from __future__ import annotations

import math
from typing import Any

from shopfloor_msgs.msg import FrameHandle, FrameInfo

from shopfloor.ros import images
from shopfloor.ros.frame_ring import Place, RingError, RingFrame, RingReader, RingWriter
from shopfloor.ros.frames import Frame
from shopfloor.ros.node import ShopfloorNode


class HandlePublisher:
    """Writes frames into a ring and tells of them, while somebody listens.

    Where this host has no room for a ring the handles name none, and readers take the Image.
    """

    def __init__(self, node: ShopfloorNode[Any], camera: str) -> None:
        self._node = node
        self._publisher = node.publisher("frame_handle", camera=camera)
        self._ring: RingWriter | None = None
        self._refused_bytes = math.inf

    def publish(self, frame: Frame, info: FrameInfo) -> None:
        """Frame and info; a frame without pixels is told of as well. On the capture thread."""
        if not self._publisher.get_subscription_count():
            return
        handle = FrameHandle(info=info)
        ring = self._ring_for(frame.image.nbytes) if frame.readable else None
        if ring is not None:
            image = frame.image
            place = ring.write(image)
            handle.ring = place.ring
            handle.slot = place.slot
            handle.generation = place.generation
            handle.offset_bytes = place.offset_bytes
            handle.size_bytes = place.size_bytes
            handle.step_bytes = images.row_bytes(image)
            handle.is_bigendian = images.BIG_ENDIAN
        self._publisher.publish(handle)

    def close(self) -> None:
        """Remove the ring."""
        ring, self._ring = self._ring, None
        if ring is not None:
            ring.close()

    def _ring_for(self, frame_bytes: int) -> RingWriter | None:
        """A ring for such a frame, a new one where frames have grown; None: there is no room."""
        if frame_bytes >= self._refused_bytes:
            return None
        if self._ring is None or frame_bytes > self._ring.frame_bytes:
            self.close()
            try:
                self._ring = RingWriter(frame_bytes)
            except RingError as error:
                self._refused_bytes = frame_bytes
                self._node.fault("ring", f"{error}; readers take the Image instead")
        return self._ring


class HandleReader:
    """Finds the frames that handles point at. Belongs to the executor thread."""

    def __init__(self) -> None:
        self._reader = RingReader()

    def pixels(self, handle: FrameHandle) -> tuple[images.AnyImage, RingFrame] | None:
        """The image, read-only where it lies, and what tells whether it still is this frame.

        None: overwritten already. Raises RingAbsent, RingError and ImageError.
        """
        place = Place(
            handle.ring, handle.slot, handle.generation, handle.offset_bytes, handle.size_bytes
        )
        found = self._reader.frame(place)
        if found is None:
            return None
        info = handle.info
        step, big = handle.step_bytes, handle.is_bigendian
        pixels = images.from_buffer(found.pixels, info.encoding, info.width, info.height, step, big)
        return pixels, found

    def close_abandoned(self) -> bool:
        """Let go of a ring whose writer is dead; whether there was one."""
        return self._reader.close_abandoned()

    def close(self) -> None:
        """Let go of the ring."""
        self._reader.close()
