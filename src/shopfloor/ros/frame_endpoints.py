"""Frames between nodes by whichever road their placement gives: by reference, ring, Image or JPEG.

`FramePublisher` hands each frame to consumers in the same process, and copies or publishes it only
while somebody outside subscribes. `FrameSubscription` takes the road that fits and gives its owner
the same `Frame` on each of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from rclpy.time import Time
from shopfloor_msgs.msg import FrameHandle, FrameInfo

from shopfloor.ros import images
from shopfloor.ros.frame_handles import HandlePublisher, HandleReader
from shopfloor.ros.frame_ring import RingAbsent, RingElsewhere, RingError
from shopfloor.ros.frames import Frame, FrameCallback, FrameHub, give_way, process_hub, whole
from shopfloor.ros.interfaces import interface
from shopfloor.ros.node import ShopfloorNode
from shopfloor.ros.worker import Done, Worker

ROADS = ("auto", "local", "ring", "image", "compressed")
_KNOWN_INFOS = 128
_ROAD_CHECK_S = 1.0
_ABSENT_LIMIT = 100  # as many handles of a camera that was killed may still be on their way
_UNREAD = "the camera could not read this frame"
_NO_PIXELS = np.empty((0, 0), np.uint8)


class FramePublisher:
    """Publishes one camera's frames. `publish` is called on the capture thread.

    Create it in `setup`; `close` it in `teardown`.
    """

    def __init__(
        self,
        node: ShopfloorNode[Any],
        camera: str,
        *,
        jpeg_quality: int = 90,
        hub: FrameHub = process_hub,
    ) -> None:
        self._node = node
        self._hub = hub
        self._jpeg_quality = jpeg_quality
        self.topic = node.resolve_topic_name(interface("image").resolve(camera=camera))
        self._image = node.publisher("image", camera=camera)
        self._compressed = node.publisher("image_compressed", camera=camera)
        self._info = node.publisher("frame_info", camera=camera)
        self._handles = HandlePublisher(node, camera)
        # JPEG takes 5-10 ms at 1080p: on a thread of its own, so that capture does not wait.
        self._jpeg: Worker[Frame, None] = node.worker(
            f"{camera} jpeg", self._publish_jpeg, self._jpeg_done, quiet=True
        )
        hub.offer(self.topic)

    @property
    def listeners(self) -> int:
        """Subscriptions of the infos that are matched by now."""
        return int(self._info.get_subscription_count())

    def publish(self, frame: Frame, make_info: Callable[[], FrameInfo]) -> FrameInfo:
        """Hand over `frame`, then make its info and publish that; gives the info.

        A frame without pixels goes to this process and, as its FrameInfo without a size, to others.
        """
        self._hub.publish(self.topic, frame)
        info = make_info()
        self._handles.publish(frame, info)
        # The image first: it is late already by its size, and is joined with its info afterwards.
        if frame.readable and self._image.get_subscription_count():
            self._image.publish(
                images.to_message(
                    frame.image, frame.encoding, info.header.stamp, info.header.frame_id
                )
            )
        self._info.publish(info)
        if frame.readable and self._compressed.get_subscription_count():
            self._jpeg.put(frame)
        return info

    def close(self) -> None:
        """Consumers in this process are told nothing more; messages end with the node's cleanup."""
        self._hub.withdraw(self.topic)
        self._handles.close()

    def _publish_jpeg(self, frame: Frame) -> None:
        self._compressed.publish(
            images.to_compressed(
                frame.image,
                frame.encoding,
                self._node.stamp(frame.stamp_ns),
                frame.camera,
                self._jpeg_quality,
            )
        )

    def _jpeg_done(self, done: Done[Frame, None]) -> None:
        if done.error is not None:
            self._node.fault("jpeg", str(done.error))


class FrameSubscription:
    """Calls `callback(frame)` for each frame of `camera`; the callback must not block.

    A frame that the camera or this end could not read comes without pixels and with its cause.
    road: `local` (by reference), `ring` (shared memory), `image`, `compressed`, or `auto`: local
    from the moment that the camera lives in this process, the ring of a camera on this host, else
    image. Local frames come on the capture thread, others on the executor's.

    Create it in `start` and `close` it in `stop`.
    """

    def __init__(
        self,
        node: ShopfloorNode[Any],
        camera: str,
        callback: FrameCallback,
        *,
        road: str = "auto",
        hub: FrameHub = process_hub,
    ) -> None:
        self._node = node
        self._camera = camera
        self._callback = callback
        self._hub = hub
        self._topic = node.resolve_topic_name(interface("image").resolve(camera=camera))
        handles = interface("frame_handle").resolve(camera=camera)
        self._handle_topic = node.resolve_topic_name(handles)
        self._infos: OrderedDict[int, FrameInfo] = OrderedDict()
        self._closers: list[Callable[[], None]] = []
        self._ring = HandleReader()
        self._ring_refused = False
        self._absent = 0
        self._road_timer = node.steady_timer(_ROAD_CHECK_S, self._check_road)
        self._automatic = road == "auto"
        self.road = road if not self._automatic else self._best_road()
        self._open()

    def close(self) -> None:
        """No more callbacks."""
        self._node.release(self._road_timer)
        self._close_road()

    def complete(self, frame: Frame) -> Frame:
        """The frame with part and sequence of its FrameInfo, where that came; on any thread."""
        info = self._infos.get(frame.stamp_ns)
        if info is None:
            return frame
        return replace(frame, part_id=info.part_id, sequence=info.sequence)

    def knows(self, frame: Frame) -> bool:
        """Whether the frame has its part and sequence, or its FrameInfo has come. Any thread."""
        return self.road in ("local", "ring") or frame.stamp_ns in self._infos

    def _best_road(self) -> str:
        if self._hub.offers(self._topic):
            return "local"
        if self._node.count_publishers(self._handle_topic):
            return "image" if self._ring_refused else "ring"
        self._ring_refused = False  # that camera is gone; the next one may be nearer
        return "image" if self._node.count_publishers(self._topic) else "ring"

    def _check_road(self) -> None:
        """Change over when the camera comes, goes, or comes back elsewhere."""
        self._ring.close_abandoned()
        if self._automatic and self.road != (best := self._best_road()):
            self._close_road()
            self.road = best
            self._open()

    def _open(self) -> None:
        if self.road == "local":
            self._closers.append(self._hub.subscribe(self._topic, self._callback))
            return
        if self.road == "ring":
            self._subscribe("frame_handle", self._on_handle)
            return
        # The part's id travels beside the image: joined by stamp, in whichever order they come.
        self._subscribe("frame_info", self._on_info)
        if self.road == "compressed":
            self._subscribe("image_compressed", self._on_compressed)
        else:
            self._subscribe("image", self._on_image)

    def _close_road(self) -> None:
        for closer in self._closers:
            closer()
        self._closers.clear()
        self._ring.close()

    def _subscribe(self, key: str, callback: Callable[[Any], None]) -> None:
        subscription = self._node.subscription(key, callback, camera=self._camera)
        self._closers.append(lambda: self._node.release(subscription))

    def _on_info(self, info: FrameInfo) -> None:
        self._infos[Time.from_msg(info.header.stamp).nanoseconds] = info
        while len(self._infos) > _KNOWN_INFOS:
            self._infos.popitem(last=False)
        if info.width == 0:
            self._pass_on(_NO_PIXELS, "", info, _UNREAD, info)

    def _on_handle(self, handle: FrameHandle) -> None:
        info = handle.info
        if info.width == 0:
            self._pass_on(_NO_PIXELS, "", info, _UNREAD, info)
            return
        if not handle.ring:
            self._refuse_ring("the camera has no room for a ring")
            return
        try:
            found = self._ring.pixels(handle)
        except RingElsewhere as error:
            self._refuse_ring(str(error))
        except RingAbsent as error:
            self._absent += 1
            self._node.fault("ring", str(error))
            if self._absent >= _ABSENT_LIMIT:
                self._refuse_ring(str(error))
        except (RingError, images.ImageError) as error:
            self._pass_on(_NO_PIXELS, "", info, str(error), info)
        else:
            self._absent = 0
            if found is None:
                self._pass_on(_NO_PIXELS, "", info, "overwritten before it could be read", info)
                return
            pixels, place = found
            self._pass_on(pixels, info.encoding, info, info=info, intact=place.intact)

    def _refuse_ring(self, cause: str) -> None:
        self._ring_refused = True
        self._node.fault("ring", f"{cause}; " + ("Image instead" if self._automatic else "no road"))
        self._check_road()

    def _on_image(self, message: Any) -> None:
        try:
            self._pass_on(images.from_message(message), message.encoding, message)
        except images.ImageError as error:
            self._pass_on(_NO_PIXELS, "", message, str(error))

    def _on_compressed(self, message: Any) -> None:
        try:
            self._pass_on(images.decode(message.data), "bgr8", message)
        except images.ImageError as error:
            self._pass_on(_NO_PIXELS, "", message, str(error))

    def _pass_on(
        self,
        pixels: images.AnyImage,
        encoding: str,
        message: Any,
        cause: str = "",
        info: FrameInfo | None = None,
        intact: Callable[[], bool] = whole,
    ) -> None:
        """Give the frame on; without `info` it is completed from the one that came beside it."""
        frame = Frame(
            image=pixels,
            encoding=encoding,
            stamp_ns=Time.from_msg(message.header.stamp).nanoseconds,
            sequence=info.sequence if info is not None else 0,
            camera=message.header.frame_id,
            part_id=info.part_id if info is not None else "",
            received_ns=self._node.steady_ns(),
            cause=cause,
            intact=intact,
        )
        self._callback(self.complete(frame))
        give_way()
