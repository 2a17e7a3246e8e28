"""Frames, and their hand-over by reference between nodes of one process.

A frame that stays in its process is never serialised: the camera's capture thread calls each
consumer's callback with the same `Frame`, and the consumer puts it into its latest-wins slot.
Nothing here needs ROS.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


def whole() -> bool:
    """Nobody overwrites this frame."""
    return True


@dataclass(frozen=True)
class Frame:
    """One image with what is known of it. Shared between consumers: treat `image` as read-only.

    image: H x W (mono, bayer), H x W x 3 (bgr8, rgb8) or H x W x 2 (yuv422), uint8 or uint16.
    encoding: name from sensor_msgs/image_encodings.
    stamp_ns: ROS time of exposure, nanoseconds.
    sequence: the source's own counter; gaps are lost frames.
    camera: frame_id of the messages made from this frame.
    part_id: the part in view, empty when the source does not know.
    received_ns: steady clock (time.monotonic_ns) when the frame reached this host.
    cause: why there are no pixels: a frame that could not be read goes the way of all frames, with
        an empty image, so that nobody waits for its part.
    intact: whether what was read of `image` so far was this frame. The pixels may lie in a ring in
        shared memory that goes on turning: ask after the last read, and throw the work away if not.
    """

    image: npt.NDArray[np.generic]
    encoding: str
    stamp_ns: int
    sequence: int
    camera: str
    part_id: str
    received_ns: int
    cause: str = ""
    intact: Callable[[], bool] = whole

    @property
    def readable(self) -> bool:
        """Whether there are pixels."""
        return self.image.size > 0

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.image.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.image.shape[1])


def give_way() -> None:
    """Let the thread that was just woken have the interpreter.

    It would wait for it until this one stops by itself: 0.3 to 0.5 ms. Costs this thread 0.06 ms;
    the executor's as well, where it hands on the frames of other processes.
    """
    time.sleep(1e-6)


FrameCallback = Callable[[Frame], None]


class FrameHub:
    """Frame topics of one process: who offers them and who wants them. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offered: dict[str, int] = {}
        self._callbacks: dict[str, tuple[FrameCallback, ...]] = {}

    def offer(self, topic: str) -> None:
        """Say that this process publishes `topic`; undone by `withdraw`."""
        with self._lock:
            self._offered[topic] = self._offered.get(topic, 0) + 1

    def withdraw(self, topic: str) -> None:
        """Undo one `offer`."""
        with self._lock:
            left = self._offered.get(topic, 0) - 1
            if left > 0:
                self._offered[topic] = left
            else:
                self._offered.pop(topic, None)

    def offers(self, topic: str) -> bool:
        """Whether a publisher of `topic` lives in this process."""
        with self._lock:
            return topic in self._offered

    def subscribe(self, topic: str, callback: FrameCallback) -> Callable[[], None]:
        """Call `callback` with each frame, on the publisher's thread; it must not block.

        Returns a function that ends the subscription.
        """
        with self._lock:
            self._callbacks[topic] = (*self._callbacks.get(topic, ()), callback)

        def unsubscribe() -> None:
            with self._lock:
                left = tuple(c for c in self._callbacks.get(topic, ()) if c is not callback)
                self._callbacks[topic] = left

        return unsubscribe

    def publish(self, topic: str, frame: Frame) -> int:
        """Hand `frame` to every consumer in this process; returns how many there were."""
        # The tuple is replaced, never changed, so it can be walked without the lock.
        callbacks = self._callbacks.get(topic, ())
        for callback in callbacks:
            callback(frame)
        if callbacks:
            give_way()
        return len(callbacks)


process_hub = FrameHub()
"""The hub that the nodes of this process share."""
